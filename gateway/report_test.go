package gateway

import (
	"encoding/csv"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
	"culvert/natt"
	"culvert/natt/nattest"
)

// answers decrypts the answers to IKE_AUTH with the keys that a gateway logged,
// and gives the error notifies in them. In a message that refuses
// authentication nothing else may be.
func (w *world) answers(keylog string) (notifies []string) {
	w.Helper()
	seen := map[string]bool{}
	keys := readKeys(w.T, keylog, "ikev2_decryption_table")
	for _, d := range w.sent(func(d nattest.Datagram) bool { return natt.Classify(d.Bytes) == natt.IKE && d.From.Port() == 4500 }) {
		b := natt.StripMarker(d.Bytes)
		m, err := wire.Parse(b)
		noError(w, err)
		if m.Exchange != wire.ExchangeIKEAuth || m.Flags&wire.FlagResponse == 0 || seen[string(b)] {
			continue
		}
		seen[string(b)] = true
		ps := w.decrypt(m, b, keys)
		for _, p := range ps {
			n, ok := p.(*wire.Notify)
			if !ok || n.NotifyType >= 16384 {
				continue
			}
			notifies = append(notifies, n.NotifyType.String())
			if n.NotifyType == wire.NotifyAuthenticationFailed && (len(ps) != 1 || len(n.Data) != 0 || len(n.SPI) != 0) {
				w.Errorf("beside AUTHENTICATION_FAILED: %+v", ps)
			}
		}
	}
	return slices.Compact(notifies)
}

func (w *world) decrypt(m *wire.Message, b []byte, keys [][]string) []wire.Payload {
	w.Helper()
	for _, row := range keys {
		if row[0] != hex.EncodeToString(m.InitiatorSPI[:]) || row[1] != hex.EncodeToString(m.ResponderSPI[:]) {
			continue
		}
		key, err := hex.DecodeString(row[3]) // SK_er
		noError(w, err)
		cipher, err := keymat.NewCipher(wire.EncrAESGCM16, 128, 0, key, nil)
		noError(w, err)
		sk := m.Payloads[0].(*wire.Encrypted)
		chain, err := cipher.Open(b, sk.BodyOffset)
		if err != nil {
			continue // the keys before an additional key exchange, or after it
		}
		ps, err := wire.ParsePayloads(sk.First, chain)
		noError(w, err)
		return ps
	}
	w.Fatalf("no keys of %x", m.InitiatorSPI)
	return nil
}

func readKeys(t *testing.T, dir, table string) [][]string {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, table))
	noError(t, err)
	defer file.Close()
	r := csv.NewReader(file)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	noError(t, err)
	return rows
}

// TestKeyLog: rows in Wireshark's columns, for the owner's eyes only, even in
// files that were there before for everybody's.
func TestKeyLog(t *testing.T) {
	inWorld(t, nattest.Config{}, func(w *world) {
		dir := filepath.Join(w.TempDir(), "new", "keys")
		old := w.TempDir()
		for _, name := range []string{"ikev2_decryption_table", "esp_sa"} {
			noError(w, os.WriteFile(filepath.Join(old, name), []byte("\"before\"\n"), 0o644))
		}
		logTo := func(dir string) func(*starting) { return func(s *starting) { s.KeyLog = dir } }
		a := w.start(w.net.A, "a", with(textA, "esp", `"aes128-sha256-esn"`), logTo(dir))
		b := w.start(w.net.B, "b", with(textB, "esp", `"aes128-sha256-esn"`), logTo(old))
		w.untilUp(a, b, time.Second)
		for _, d := range []string{dir, old} {
			for _, name := range []string{"ikev2_decryption_table", "esp_sa"} {
				info, err := os.Stat(filepath.Join(d, name))
				noError(w, err)
				if info.Mode().Perm() != 0o600 {
					w.Errorf("%s has mode %v", name, info.Mode())
				}
			}
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			w.Errorf("the directory: %v, %v", info.Mode(), err)
		}
		ike, esp := readKeys(w.T, dir, "ikev2_decryption_table"), readKeys(w.T, dir, "esp_sa")
		p := a.peer()
		if len(ike) != 2 || slices.Equal(ike[0], ike[1]) || len(ike[0]) != 8 || ike[0][0] != p.InitiatorSPI || ike[0][1] != p.ResponderSPI ||
			len(ike[0][2]) != 40 || len(ike[0][3]) != 40 || ike[0][2] == ike[0][3] {
			w.Errorf("IKE table: %q", ike)
		}
		wantESP := func(row []string, spi string) {
			if len(row) < 8 || row[0] != "IPv4" || row[3] != "0x"+spi || row[4] != "AES-CBC [RFC3602]" || len(row[5]) != 34 ||
				row[6] != "HMAC-SHA-256-128 [RFC4868]" || len(row[7]) != 66 {
				w.Errorf("ESP row of %s: %q", spi, row)
			}
		}
		if len(esp) != 2 {
			w.Fatalf("ESP table: %q", esp)
		}
		wantESP(esp[0], p.Children[0].InboundSPI)
		wantESP(esp[1], p.Children[0].OutboundSPI)
		oldESP := readKeys(w.T, old, "esp_sa")
		if len(oldESP) != 3 || oldESP[0][0] != "before" || !slices.Equal(oldESP[1], esp[1]) || !slices.Equal(oldESP[2], esp[0]) {
			w.Errorf("the other side's table: %q, this one's %q", oldESP, esp)
		}
		said := a.log.String()
		for _, key := range []string{ike[0][2], ike[0][3], esp[0][5][2:], esp[0][7][2:]} {
			if strings.Contains(said, key) {
				w.Error("a key of the table is in the log")
			}
		}
	})
}

// TestNoKeyLog: unless told to, nobody even hears of keys.
func TestNoKeyLog(t *testing.T) {
	k, err := openKeyLog("")
	if k != nil || err != nil {
		t.Fatalf("%v, %v", k, err)
	}
	k.ike(ikev2.IKEKeys{})
	noError(t, k.Close())
	inWorld(t, nattest.Config{}, func(w *world) {
		s := w.open(w.net.A, "a", textA)
		if engineConfig(s.cfg, false).KeyLog {
			w.Error("the engine is asked for keys")
		}
		s.run()
	})
}

// TestSentences: every event has a sentence of its own, and every reason a text.
func TestSentences(t *testing.T) {
	texts := map[string]any{}
	differs := func(what any, text string) {
		if other, ok := texts[text]; ok || text == "" || strings.Contains(text, "%!") {
			t.Errorf("%v says %q, and so does %v", what, text, other)
		}
		texts[text] = what
	}
	for k := ikev2.EventConnecting; k <= ikev2.EventMoved; k++ {
		differs(k, sentence(ikev2.Event{Kind: k, Peer: "foo"}))
		if s := sentence(ikev2.Event{Kind: k, Peer: "foo"}); s == "foo: "+k.String() {
			t.Errorf("%v has no sentence", k)
		}
	}
	for r := ikev2.ReasonNone; r <= ikev2.ReasonNotify; r++ {
		differs(r, reasonText(r))
	}
}

// TestProblemEnds: what kept a tunnel from being up is not said of one that is.
func TestProblemEnds(t *testing.T) {
	for _, end := range []ikev2.EventKind{ikev2.EventEstablished, ikev2.EventChildUp} {
		var p peerStatus
		p.note(ikev2.Event{Kind: ikev2.EventRefused}, "no selectors in common")
		if p.Problem != "no selectors in common" {
			t.Errorf("problem: %q", p.Problem)
		}
		if p.note(ikev2.Event{Kind: end}, "it is up"); p.Problem != "" {
			t.Errorf("%v: problem: %q", end, p.Problem)
		}
	}
}

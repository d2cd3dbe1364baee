//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tshark reads a capture with what `culvert up --keylog DIR` wrote into DIR.
type tshark struct {
	t               *testing.T
	capture, keylog string
}

func needTshark(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		lack(t, "no tshark here: apt-get install --no-install-recommends tshark")
	}
}

// record captures what passes the NAT on side A while do runs.
func (n *peerNet) record(do func()) string {
	n.t.Helper()
	file := filepath.Join(n.dir, "wan.pcapng")
	f, err := os.Create(file)
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	c, err := n.NAT.Capture("out", f)
	if err != nil {
		n.t.Fatal(err)
	}
	do()
	stats, err := c.Stop()
	if err != nil || stats.Packets == 0 || stats.Dropped > 0 {
		n.t.Fatalf("capture: %+v, %v", stats, err)
	}
	return file
}

// fields prints fields of the packets that a display filter lets through, a
// line each. What tshark complains of, such as a table it cannot read, fails
// the test.
func (s tshark) fields(filter string, fields ...string) []string {
	s.t.Helper()
	args := []string{"-r", s.capture, "-n", "-Y", filter, "-T", "fields",
		"-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+s.keylog, "WIRESHARK_CONFIG_DIR="+s.keylog)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	for line := range strings.Lines(stderr.String()) {
		known := strings.HasPrefix(line, "Running as user") || strings.Contains(line, "More fields than required") // ESN, before Wireshark 4.2
		if !known && strings.TrimSpace(line) != "" {
			s.t.Errorf("tshark says: %s", line)
		}
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// keyed starts both gateways with a key log each.
func (n *peerNet) keyed(textA, textB string) (a, b *culvertProcess, dirs [2]string) {
	dirs = [2]string{filepath.Join(n.dir, "keys-a"), filepath.Join(n.dir, "keys-b")}
	a = n.culvert(n.GatewayA, "a.toml", textA, "--keylog", dirs[0])
	a.wait("event", "device_up")
	return a, n.culvert(n.GatewayB, "b.toml", textB, "--keylog", dirs[1]), dirs
}

// TestWireshark has Wireshark, an implementation of all formats that is none of
// ours, read whole sessions with the keys of one side, in turn.
func TestWireshark(t *testing.T) {
	needTshark(t)
	net := newPeerNet(t)
	for i, s := range []suite{
		{"aes128gcm16-prfsha256-x25519", "aes128gcm16-noesn"},
		{"aes256gcm16-prfsha512-ecp384", "aes256gcm16-esn"},
		{"aes128-sha256-modp2048", "aes128-sha256-noesn"},
		{"aes256-sha384-ecp256", "aes256-sha384-noesn"},
		{"aes256-sha512-ecp521", "aes256-sha512-noesn"},
	} {
		t.Run(s.ike+"-"+s.esp, func(t *testing.T) {
			n := net.in(t)
			var dirs [2]string
			capture := n.record(func() {
				var a, b *culvertProcess
				a, b, dirs = n.keyed(sideA(s), sideB(s))
				b.wait("event", "child_up")
				n.pings(n.ways()...)
				b.end()
				a.end()
			})
			ts := tshark{t, capture, dirs[i%2]}
			ts.wantIKE()
			ts.wantESP(24, !strings.HasSuffix(s.esp, "-esn")) // 3 echoes and answers of 2 sizes, both ways
			ts.wantNothingOdd()
			wantPrivate(t, ts.keylog)
		})
	}
}

// readable are the IKE messages that Wireshark has the keys of: it knows one row
// of keys for an IKE SA, the last, and an additional key exchange in
// IKE_INTERMEDIATE is under those before.
const readable = "isakmp && isakmp.exchangetype != 43"

// wantIKE wants identities and selectors in IKE_AUTH, the Delete, and an answer
// for each, out of what is encrypted.
func (s tshark) wantIKE() {
	s.t.Helper()
	want := []string{
		"34\t\t\t", "34\t\t\t",
		"35\tfoo\t203.0.113.1\t10.104.0.0,10.103.0.0", "35\t\t203.0.113.1\t10.104.0.0,10.103.0.0",
		"37\t\t\t", "37\t\t\t",
	}
	got := s.fields(readable, "isakmp.exchangetype", "isakmp.id.data.fqdn", "isakmp.id.data.ipv4_addr", "isakmp.ts.start_ipv4")
	if !slices.Equal(got, want) {
		s.t.Errorf("IKE is\n%q, want\n%q", got, want)
	}
	const payloadDelete = "42"
	last := s.fields("isakmp.exchangetype == 37", "isakmp.typepayload")
	if len(last) != 2 || last[0] != "46,"+payloadDelete || last[1] != "46" {
		s.t.Errorf("INFORMATIONAL has the payloads %q, want Delete and an empty answer", last)
	}
}

// wantESP wants so many packets, each an echo or its answer, with an integrity
// check value that fits. Wireshark before 4.2 cannot check that with ESN.
func (s tshark) wantESP(packets int, checked bool) {
	s.t.Helper()
	kinds := map[string]int{}
	for _, line := range s.fields("esp", "esp.icv_good", "icmp.type") {
		good, kind, _ := strings.Cut(line, "\t")
		kinds[kind]++
		if checked && good != "1" {
			s.t.Errorf("integrity check value of %q: %q", kind, good)
		}
	}
	if kinds["8"] != packets/2 || kinds["0"] != packets/2 || len(kinds) != 2 {
		s.t.Errorf("ESP has the ICMP types %v, want %d echoes and as many answers", kinds, packets/2)
	}
}

// wantNothingOdd wants no complaint of Wireshark's, and nothing of the LANs
// outside ESP.
func (s tshark) wantNothingOdd() {
	s.t.Helper()
	if odd := s.fields("(_ws.malformed || _ws.expert) && !(isakmp.exchangetype == 43) || (ip.addr == 10.0.0.0/8 && !esp && !isakmp)", "frame.number", "_ws.expert.message", "ip.src"); len(odd) > 0 {
		s.t.Errorf("odd packets: %q", odd)
	}
}

// wantPrivate: whoever reads the tables reads the traffic.
func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	for name, want := range map[string]os.FileMode{"": 0o700, "ikev2_decryption_table": 0o600, "esp_sa": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %q is %o, want %o", name, got, want)
		}
	}
}

// TestWiresharkSeesBareRefusals: whatever the reason, what is encrypted is one
// AUTHENTICATION_FAILED.
func TestWiresharkSeesBareRefusals(t *testing.T) {
	needTshark(t)
	net := newPeerNet(t)
	for _, r := range refusals {
		if r.b == nil || r.wire != "" {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			n := net.in(t)
			var dirs [2]string
			capture := n.record(func() {
				var a, b *culvertProcess
				a, b, dirs = n.keyed(sideA(plainSuite), edit(t, sideB(plainSuite), r.b...))
				a.wait("event", "refused", "diagnosis", r.responder.diagnosis)
				b.wait("event", "refused_by_peer")
				b.end()
				a.end()
			})
			ts := tshark{t, capture, dirs[1]}
			const failed = "46,41\t24" // a notify alone: AUTHENTICATION_FAILED
			got := ts.fields("isakmp.exchangetype == 35 && isakmp.flag_r == 1", "isakmp.typepayload", "isakmp.notify.msgtype")
			if len(got) == 0 || slices.ContainsFunc(got, func(line string) bool { return line != failed }) {
				t.Errorf("IKE_AUTH is answered by %q, want %q", got, failed)
			}
			ts.wantNothingOdd()
		})
	}
}

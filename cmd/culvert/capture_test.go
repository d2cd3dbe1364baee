//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCapture has Wireshark read what the gateway recorded of itself: each echo
// outside and inside, and with the keys beside the file, outside alone.
func TestCapture(t *testing.T) {
	needTshark(t)
	n := newPeerNet(t)
	_, b := n.pair(sideA(suite{"aes128gcm16-prfsha256-x25519", "aes128gcm16-noesn"}), sideB(suite{"aes128gcm16-prfsha256-x25519", "aes128gcm16-noesn"}))
	file := filepath.Join(n.dir, "own.pcapng")
	const packets = 24 + 24 // echoes and answers of two sizes, both ways, twice each
	cmd := exec.Command(os.Args[0], "capture", "--socket", b.socket, "-o", file, "--with-keys", "--packets", strconv.Itoa(packets), "--peer", "office")
	cmd.Env = append(os.Environ(), asCulvert+"=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.wait("event", "capture_keys")
	n.pings(n.ways()...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if want := strconv.Itoa(packets) + " packets in " + file; !strings.Contains(said.String(), want) {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
	wantPrivate(t, file+".keys")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	ts := tshark{t, file, file + ".keys"}
	for filter, want := range map[string]int{
		"frame.interface_name == \"inner\" && icmp && !esp":                                         24,
		"frame.interface_name == \"outer\" && esp":                                                  24,
		"frame.interface_name == \"outer\" && esp && icmp && esp.icv_good == 1 && udp.port == 4500": 24,
		"ip.checksum.status == \"Bad\"":                                                             0,
	} {
		if got := len(ts.fields(filter, "frame.number")); got != want {
			t.Errorf("%s: %d packets, want %d", filter, got, want)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantNoSecret(t, "the capture", string(text))
	if !bytes.Contains(text, []byte("esp_sa")) {
		t.Error("no row of keys")
	}

	// Without being asked for, keys go nowhere.
	quiet := exec.Command(os.Args[0], "capture", "--socket", b.socket, "-o", file+"2", "--packets", "4")
	quiet.Env = cmd.Env
	if err := quiet.Start(); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if _, err := ping(n.ways()[0], 1, 56); err != nil {
			t.Fatal(err)
		}
		if text, _ := os.ReadFile(file + "2"); len(text) > 600 || i > 500 {
			break
		}
	}
	if err := quiet.Wait(); err != nil {
		t.Error(err)
	}
	text, _ = os.ReadFile(file + "2")
	if _, err := os.Stat(file + "2.keys"); err == nil || bytes.Contains(text, []byte("esp_sa")) {
		t.Error("keys that nobody asked for")
	}
}

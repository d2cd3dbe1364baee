//go:build linux

package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/lab"
)

var update = flag.Bool("update", false, "write the golden files of testdata/nostart anew")

// TestNoStart: what a system can refuse a gateway, at its real doors, is said in
// the words of testdata/nostart: what to do, and the line that asks for it.
func TestNoStart(t *testing.T) {
	t.Parallel()
	n := newPeerNet(t)
	root := []string{"setpriv", "--inh-caps=-all"}
	for _, c := range []struct {
		name, gateway string
		as            []string // runs it with fewer rights
	}{
		{"no-tun", "", nil},
		{"no-capability", "", append(root, "--bounding-set=-all,+net_bind_service")},
		{"port-denied", "", append(root, "--bounding-set=-all")},
		{"port-taken", "", nil},
		{"no-such-local", "local = \"192.0.2.10\"\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := n.in(t)
			host := n.GatewayB
			if c.name == "port-taken" {
				other := n.culvert(host, "other.toml", sideB(plainSuite))
				other.wait("event", "device_up")
			}
			file := filepath.Join(n.dir, "b.toml")
			if err := os.WriteFile(file, []byte("[gateway]\ndevice = \"culvert9\"\n"+c.gateway+sideB(plainSuite)), 0o600); err != nil {
				t.Fatal(err)
			}
			var mounts []lab.Mount
			if c.name == "no-tun" {
				mounts = []lab.Mount{{Target: "/dev/net"}}
			}
			said := upOf(t, host, c.as, mounts, file)
			golden := filepath.Join("testdata", "nostart", c.name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(said), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if said != string(want) {
				t.Errorf("it says\n%s\nnot\n%s", said, want)
			}
		})
	}
}

// upOf is what `culvert up` prints that cannot start, with its folder left out.
func upOf(t *testing.T, host *lab.Host, as []string, mounts []lab.Mount, file string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(append(as, self), "up", file, "--socket", file+".sock")
	cmd := host.Command(t.Context(), args[0], args[1:]...)
	cmd.Env, cmd.Mounts = []string{asCulvert + "=1"}, mounts
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err == nil {
		t.Error("it starts")
	}
	return strings.ReplaceAll(out.String(), filepath.Dir(file)+"/", "")
}

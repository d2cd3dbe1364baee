package deploy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/examples"
	"culvert/lab"
)

// TestUnprivileged runs the gateway of the images, each as its user with no
// capability but what the image's file gives it, until a ping has gone through.
func TestUnprivileged(t *testing.T) {
	for _, c := range []struct{ name, capabilities, bounding, gateway string }{
		{"with CAP_NET_ADMIN alone", "cap_net_admin+ep", "-all,+net_admin", ""},
		{"with a device made beforehand and no capability", "", "-all", "[gateway]\ndevice_prepared = true\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := rootfs(t, c.capabilities)
			need(t, "setpriv", "util-linux")
			ip := need(t, "ip", "iproute2")
			s, err := lab.Situation("deploy", 0)
			if err != nil {
				t.Skipf("this needs namespaces, as root: %v", err)
			}
			defer s.Close()
			if c.capabilities == "" {
				for _, args := range [][]string{
					{"tuntap", "add", "dev", "culvert0", "mode", "tun", "user", "65532", "vnet_hdr"},
					{"link", "set", "culvert0", "mtu", "1438", "up"}, {"route", "add", "10.103.0.0/24", "dev", "culvert0"},
				} {
					if out, err := s.GatewayB.Command(t.Context(), ip, args...).Output(); err != nil {
						t.Fatalf("ip %v: %v %s", args, err, out)
					}
				}
			}
			if err := s.GatewayB.Sysctl("net.ipv4.ip_unprivileged_port_start", "0"); err != nil {
				t.Fatal(err)
			}
			fileA := write(t, filepath.Join(t.TempDir(), "a.toml"), example(t, "side-a.toml"), 0o600)
			a := s.GatewayA.Command(context.Background(), filepath.Join(dir, "culvert"), "up", fileA, "--socket", fileA+".sock")
			fileB := write(t, filepath.Join(dir, "etc/culvert/site.toml"), c.gateway+example(t, "side-b.toml"), 0o600)
			if err := os.Chown(fileB, 65532, 65532); err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(dir, "run/culvert/culvert.sock")
			as := []string{"--reuid=65532", "--regid=65532", "--clear-groups", "--bounding-set=" + c.bounding, filepath.Join(dir, "culvert")}
			b := s.GatewayB.Command(context.Background(), "setpriv", append(as, "up", fileB, "--socket", socket)...)
			for _, p := range []*lab.Process{a, b} {
				log := new(bytes.Buffer)
				p.Stderr = log
				if err := p.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(log.String())
					}
				})
				defer func() {
					if err := p.Stop(); err != nil {
						t.Error(err)
					}
				}()
			}
			reaches(t, s)
			if out, err := s.GatewayB.Command(t.Context(), "setpriv", append(as, "status", "--socket", socket)...).Output(); err != nil {
				t.Errorf("the probe: %v %s", err, out)
			}
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.Pid())); err != nil {
				t.Error(err)
			} else if want := map[string]string{"": "CapBnd:\t0000000000000000", "cap_net_admin+ep": "CapEff:\t0000000000001000"}[c.capabilities]; !bytes.Contains(status, []byte(want)) {
				t.Errorf("no %q in\n%s", want, status)
			}
		})
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := examples.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// reaches waits until a ping from LAN to LAN is answered.
func reaches(t *testing.T, s *lab.SiteToSite) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if stats, err := s.HostB.Ping(t.Context(), lab.HostAAddr, lab.PingOptions{Count: 3}); err == nil && stats.Received > 0 {
			return
		}
	}
	t.Error("no ping goes through")
}

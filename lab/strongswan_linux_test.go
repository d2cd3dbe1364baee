package lab

import (
	"context"
	"os"
	"strings"
	"testing"
)

// publicSide and cloudSide are the situation's two gateways.
func publicSide() StrongSwanConfig {
	return StrongSwanConfig{
		LocalAddrs: "203.0.113.1", LocalID: "203.0.113.1", RemoteID: "foo", Secret: "qwerty",
		Children: []StrongSwanChild{{LocalTS: "10.103.0.0/24", RemoteTS: "10.104.0.0/24"}},
	}
}

func cloudSide() StrongSwanConfig {
	return StrongSwanConfig{
		RemoteAddrs: "203.0.113.1", LocalID: "foo", RemoteID: "203.0.113.1", Secret: "qwerty",
		Children: []StrongSwanChild{{LocalTS: "10.104.0.0/24", RemoteTS: "10.103.0.0/24"}},
	}
}

func needStrongSwan(t *testing.T) {
	t.Helper()
	if err := StrongSwanAvailable(); err != nil {
		t.Skip(err)
	}
}

// pair starts strongSwan on both gateways of a new situation.
func pair(t *testing.T, a, b StrongSwanConfig) (s *SiteToSite, public, cloud *StrongSwan) {
	t.Helper()
	needStrongSwan(t)
	s = situation(t)
	public = must[*StrongSwan](t)(s.GatewayA.StrongSwan(t.Context(), a))
	cloud = must[*StrongSwan](t)(s.GatewayB.StrongSwan(t.Context(), b))
	return s, public, cloud
}

func TestStrongSwanWithItself(t *testing.T) {
	for name, suite := range map[string]struct{ ike, esp, encryption, integrity string }{
		"GCM": {"", "", "AES_GCM_16", ""},
		"CBC": {"aes256-sha256-modp2048", "aes256-sha256", "AES_CBC", "HMAC_SHA2_256_128"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := publicSide(), cloudSide()
			for _, c := range []*StrongSwanConfig{&a, &b} {
				c.IKE, c.Children[0].ESP = suite.ike, suite.esp
			}
			s, public, cloud := pair(t, a, b)
			if out, err := cloud.Initiate(t.Context(), "t1"); err != nil {
				t.Fatal(out, err)
			}
			if stats, err := s.HostA.Ping(t.Context(), HostBAddr, quick(10)); err != nil || stats.Received != 10 {
				t.Errorf("host to host: %+v, %v", stats, err)
			}
			in, out := onlySA(t, public), onlySA(t, cloud)
			if in.RemoteHost != "192.0.2.10" || in.RemoteID != "foo" || !in.NATRemote || in.Initiator || in.Encryption != suite.encryption {
				t.Errorf("public side: %+v", in)
			}
			if out.LocalHost != "172.16.0.1" || out.LocalPort != "4500" || !out.NATLocal || !out.Initiator || out.InitiatorSPI != in.InitiatorSPI {
				t.Errorf("cloud side: %+v", out)
			}
			ci, co := in.Children[0], out.Children[0]
			if ci.InSPI != co.OutSPI || ci.OutSPI != co.InSPI || ci.State != "INSTALLED" || !ci.Encap {
				t.Errorf("children differ: %+v, %+v", ci, co)
			}
			if ci.PacketsIn != 10 || co.PacketsOut != 10 || ci.Encryption != suite.encryption || ci.Integrity != suite.integrity {
				t.Errorf("child after ten pings: %+v, %+v", ci, co)
			}
			if moved, err := TCP(t.Context(), s.HostB, s.HostA, HostAAddr, TCPOptions{}); err != nil || moved.Bytes < 1<<20 {
				t.Errorf("TCP through the tunnel: %+v, %v", moved, err)
			}
		})
	}
}

func onlySA(t *testing.T, s *StrongSwan) StrongSwanSA {
	t.Helper()
	sas := must[[]StrongSwanSA](t)(s.SAs(t.Context()))
	if len(sas) != 1 || len(sas[0].Children) != 1 || sas[0].State != "ESTABLISHED" {
		t.Fatalf("SAs: %+v", sas)
	}
	return sas[0]
}

func TestStrongSwanTerminates(t *testing.T) {
	_, public, cloud := pair(t, publicSide(), cloudSide())
	must[string](t)(cloud.Initiate(t.Context(), "t1"))
	must[string](t)(cloud.Terminate(t.Context(), "foo"))
	if sas := must[[]StrongSwanSA](t)(public.SAs(t.Context())); len(sas) != 0 {
		t.Errorf("SAs after the peer's delete: %+v", sas)
	}
}

func TestStrongSwanRefuses(t *testing.T) {
	wrong := cloudSide()
	wrong.Secret = "azerty"
	_, public, cloud := pair(t, publicSide(), wrong)
	out, err := cloud.Initiate(t.Context(), "t1")
	if err == nil || !strings.Contains(err.Error(), "AUTH_FAILED") {
		t.Errorf("wrong key: %v\n%s", err, out)
	}
	if !strings.Contains(public.Log(), "tried 1 shared key for '203.0.113.1' - 'foo', but MAC mismatched") {
		t.Errorf("the responder logs\n%s", public.Log())
	}
}

func TestStrongSwanStops(t *testing.T) {
	needStrongSwan(t)
	h := oneHost(t)
	broken := publicSide()
	broken.ConnectionExtra = "no_such_option = yes"
	if _, err := h.StrongSwan(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("a broken configuration: %v", err)
	}
	s := must[*StrongSwan](t)(h.StrongSwan(t.Context(), publicSide()))
	pid := s.charon.Pid()
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	if !gone(pid)() {
		t.Error("charon runs on")
	}
	if _, err := os.Lstat(s.dir); !os.IsNotExist(err) {
		t.Errorf("its files are left: %v", err)
	}
	byLab := must[*StrongSwan](t)(h.StrongSwan(context.WithoutCancel(t.Context()), publicSide()))
	h.lab.Close()
	if _, err := os.Lstat(byLab.dir); !os.IsNotExist(err) || !gone(byLab.charon.Pid())() {
		t.Errorf("after the lab closed its files are left: %v", err)
	}
}

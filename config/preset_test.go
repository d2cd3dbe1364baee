package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// presetText is a peer of that kind with whatever lines of its own.
func presetText(name, peer, tunnel string) string {
	return fmt.Sprintf(`[peer.p]
preset = %q
remote = "198.51.100.7"
local_id = "192.0.2.10"
remote_id = "198.51.100.7"
psk = "Vermilion.Aqueduct.7421"
%s
[peer.p.tunnel.t]
local = "10.1.0.0/16"
remote = "10.2.0.0/16"
%s
`, name, peer, tunnel)
}

// TestPresets: each can be used as it is, breaks none of its own rules, and is
// the same when written out.
func TestPresets(t *testing.T) {
	for _, name := range Presets() {
		text := presetText(name, "", "")
		if presets[name].calls {
			text = strings.Replace(text, `remote = "198.51.100.7"`, `remote = "any"`, 1)
		}
		cfg := mustParse(t, name+".toml", text)
		if len(cfg.Warnings) > 0 {
			t.Errorf("%s: %v", name, cfg.Warnings)
		}
		if cfg.Gateway.MTU != presets[name].mtu {
			t.Errorf("%s: MTU %d", name, cfg.Gateway.MTU)
		}
		if len(cfg.Peers[0].PresetLines()) < 3 {
			t.Errorf("%s sets %q", name, cfg.Peers[0].PresetLines())
		}
		again := mustParse(t, name+".toml", string(cfg.TOML()))
		if got, want := string(again.TOML()), string(cfg.TOML()); got != want {
			t.Errorf("%s: written out it is\n%s\nnot\n%s", name, got, want)
		}
	}
}

// TestPresetIsOverridden: the peer's own lines go before, one by one.
func TestPresetIsOverridden(t *testing.T) {
	p := mustParse(t, "f.toml", "[gateway]\nmtu = 1300\n"+presetText("aws", `ike_lifetime = "2h"`, `esp = "aes128gcm16"`)).Peers[0]
	if p.IKELifetime != 2*time.Hour || p.DPD != 10*time.Second || len(p.IKE) != 1 {
		t.Errorf("the peer: %v, %v, %v", p.IKELifetime, p.DPD, p.IKE)
	}
	if tun := p.Tunnels[0]; len(tun.ESP) != 1 || !strings.HasPrefix(proposalKeywords(tun.ESP[0]), "aes128gcm16") || tun.Lifetime != 50*time.Minute || !tun.SinglePair {
		t.Errorf("the tunnel: %+v", tun)
	}
	if got := strings.Join(p.PresetLines(), "; "); got != `ike = "aes256gcm16-prfsha384-ecp384"; dpd = "10s"; lifetime = "50m"; single_pair = true` {
		t.Errorf("it sets %s", got)
	}
	if mtu := mustParse(t, "f.toml", "[gateway]\nmtu = 1300\n"+presetText("aws", "", "")).Gateway.MTU; mtu != 1300 {
		t.Errorf("MTU %d", mtu)
	}
	if _, err := Parse("f.toml", []byte(presetText("awz", "", "")), Lookups{}); err == nil || !strings.Contains(err.Error(), `no preset is called "awz"`) || !strings.Contains(err.Error(), `"aws"`) {
		t.Errorf("awz: %v", err)
	}
}

// TestLints: each is said at its line, and only when it is so.
func TestLints(t *testing.T) {
	const plain = "strongswan"
	replace := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(presetText(plain, "", "")) }
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{strings.Replace(presetText("aws", "", ""), "Vermilion.Aqueduct.7421", "0ermilion.Aqueduct-7421", 1), 6, "8 to 64 of letters"},
		{presetText("aws", `ike = "aes256gcm16-prfsha384-x25519"`, ""), 7, "refuses x25519"},
		{presetText("aws", `ike_lifetime = "8h"`, ""), 7, "ends an SA after 8h"},
		{presetText("aws", "", `lifetime = "2h"`), 11, "ends an SA after 1h"},
		{strings.Replace(presetText("aws", "", ""), `"10.2.0.0/16"`, `["10.2.0.0/16", "10.3.0.0/16"]`, 1), 1, "has room for one pair of networks"},
		{strings.Replace(presetText("aws", "", ""), `"192.0.2.10"`, `"@foo"`, 1), 4, "knows both sides by their public addresses"},
		{strings.Replace(presetText("gcp", "", ""), `"192.0.2.10"`, `"10.0.0.5"`, 1), 4, "10.0.0.5 is a private one"},
		{presetText("gcp", `ike = ["aes256gcm16-aes128gcm16-prfsha256-x25519"]`, ""), 7, "chooses by an order of its own"},
		{presetText("gcp", "", "single_pair = true"), 11, "all networks in one child SA"},
		{presetText("azure", "", `esp = "chacha20poly1305"`), 11, "refuses chacha20poly1305"},
		{presetText("macos", "", ""), 3, "is not called"},
		{replace(`"192.0.2.10"`, `"10.0.0.5"`), 4, "which a NAT on the way"},
		{replace(`remote_id = "198.51.100.7"`, `remote_id = "172.16.0.1"`), 5, "only as long as the peer sends just that"},
		{replace("Vermilion.Aqueduct.7421", "passwordpassword2024"), 6, "everybody knows"},
		{replace("Vermilion.Aqueduct.7421", "a random one goes here"), 6, "everybody knows"},
		{presetText(plain, `keepalive = "off"`, ""), 7, "as soon as it is quiet"},
	} {
		cfg := mustParse(t, "f.toml", c.text)
		found := false
		for _, w := range cfg.Warnings {
			found = found || w.Line == c.line && strings.Contains(w.Message, c.want) && w.Hint != ""
		}
		if !found || strings.Contains(fmt.Sprint(cfg.Warnings), "Aqueduct") {
			t.Errorf("no %q at line %d:\n%s%v", c.want, c.line, c.text, cfg.Warnings)
		}
	}
	if w := mustParse(t, "f.toml", replace("198.51.100.7", "10.0.0.1", `"192.0.2.10"`, `"10.0.0.5"`)).Warnings; len(w) != 0 {
		t.Errorf("inside one network: %v", w)
	}
}

// TestLintHost: what only the machine itself shows.
func TestLintHost(t *testing.T) {
	cfg := mustParse(t, "f.toml", presetText("strongswan", "", ""))
	host := func(networks ...string) (h Host) {
		for i, n := range networks {
			h.Networks = append(h.Networks, Interface{fmt.Sprintf("eth%d", i), netip.MustParsePrefix(n)})
		}
		return h
	}
	for _, c := range []struct {
		host Host
		want string
	}{
		{host("192.0.2.10/24", "10.1.0.1/16", "fe80::1/64", "127.0.0.1/8"), ""},
		{host("192.0.2.10/24", "10.2.7.1/24"), "10.2.7.0/24 is connected here, at eth1"},
		{Host{Networks: host("192.0.2.10/24").Networks, Processors: 4}, ""},
		{Host{Networks: host("192.0.2.10/24").Networks, Processors: 2}, "4 lanes are more than the 2 processors"},
		{host("172.16.0.1/24"), "no address of this machine"},
		{Host{Networks: []Interface{{"culvert0", netip.MustParsePrefix("10.2.0.1/16")}, {"eth0", netip.MustParsePrefix("192.0.2.10/32")}}}, ""},
	} {
		cfg.Gateway.Lanes = 4
		got := cfg.LintHost(c.host)
		if text := fmt.Sprint(got); c.want == "" && len(got) > 0 || !strings.Contains(text, c.want) {
			t.Errorf("%v: %v, want %q", c.host, text, c.want)
		}
	}
}

//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"culvert/api"
	"culvert/lab"
)

// half is what one side of a refused connection says: the event and its
// diagnosis, and words of its paragraph. FILE stands for its configuration, and
// natSentence for what is known of the NAT.
type half struct {
	event, diagnosis string
	says             []string
}

// refusal is one way in which side B, which initiates, does not fit side A.
type refusal struct {
	name string
	// b changes culvert's side B, swan strongSwan's. Without b culvert cannot
	// be configured so.
	b    []string
	swan func(*lab.StrongSwanConfig)
	// responder and initiator are the halves that culvert says in each role.
	responder, initiator half
	// childOnly: the IKE SA stands, and only the tunnel is refused.
	childOnly bool
	// swanAccepts: strongSwan takes it for a fit.
	swanAccepts bool
	// wire is what strongSwan's log has for culvert's answer, where that is not
	// the bare AUTHENTICATION_FAILED.
	wire string
}

const (
	natSentence = "NAT sentence"
	natHere     = "This side is behind NAT, the peer is not."
	natThere    = "The peer is behind NAT, this side is not."
	// natSwan is what a responding kernel-libipsec feigns, to get UDP
	// encapsulation.
	natSwan = "Both sides are behind NAT."
)

const wrongSecret = "quicksilver-parapet-9953"

// refused is the initiator's half of everything that is told by
// AUTHENTICATION_FAILED: what it knows is what it said itself.
func refused(localID string) half {
	return half{"refused_by_peer", "refused", []string{localID, "203.0.113.1:4500", natSentence, "AUTHENTICATION_FAILED",
		"line 3 of FILE (`local_id`)", "line 4 of FILE (`remote_id`)", "line 5 of FILE (`psk`)"}}
}

var refusals = []refusal{
	{
		name: "wrong_key",
		b:    []string{secret, wrongSecret},
		swan: func(c *lab.StrongSwanConfig) { c.Secret = wrongSecret },
		responder: half{"refused", "wrong_key", []string{"192.0.2.10:4500 behind NAT", "@foo as an FQDN identity", "connection foo", "203.0.113.1",
			"another pre-shared key", "line 5 of FILE (`psk`)", natSentence}},
		initiator: refused("@foo"),
	},
	{
		name: "unknown_name",
		b:    []string{`local_id = "@foo"`, `local_id = "@bar"`},
		swan: func(c *lab.StrongSwanConfig) { c.LocalID = "bar" },
		responder: half{"refused", "identity_unknown", []string{"192.0.2.10:4500 behind NAT presented @bar as an FQDN identity", "expects @foo (FQDN)",
			"change line 4 of FILE to `remote_id = \"@bar\"`", natSentence, "told only AUTHENTICATION_FAILED"}},
		initiator: refused("@bar"),
	},
	{
		name: "capital",
		b:    []string{`local_id = "@foo"`, `local_id = "@Foo"`},
		swan: func(c *lab.StrongSwanConfig) { c.LocalID = "Foo" },
		responder: half{"refused", "identity_case", []string{"presented @Foo as an FQDN identity", "expects @foo (FQDN)", "upper and lower case",
			"change line 4 of FILE to `remote_id = \"@Foo\"`"}},
		initiator:   refused("@Foo"),
		swanAccepts: true,
	},
	{
		name: "key_id_for_name",
		b:    []string{`local_id = "@foo"`, `local_id = "keyid:foo"`},
		swan: func(c *lab.StrongSwanConfig) { c.LocalID = `"@#666f6f"` },
		responder: half{"refused", "identity_type", []string{"keyid:foo as a key ID identity", "expects @foo (FQDN)", "the type is not",
			"change line 4 of FILE to `remote_id = \"keyid:foo\"`"}},
		initiator: refused("keyid:foo"),
	},
	{
		// a name whose '@' became part of it: strongSwan's "fqdn:@foo"
		name: "at_sign",
		swan: func(c *lab.StrongSwanConfig) { c.LocalID = "fqdn:@foo" },
		responder: half{"refused", "identity_at_sign", []string{"presented @@foo as an FQDN identity", "expects @foo (FQDN)", "'@'",
			"set the peer's own identity to @foo"}},
	},
	{
		name: "private_address",
		b:    []string{`local_id = "@foo"`, `local_id = "172.16.0.1"`},
		swan: func(c *lab.StrongSwanConfig) { c.LocalID = "172.16.0.1" },
		responder: half{"refused", "identity_private_address", []string{"Peer at 192.0.2.10:4500 behind NAT presented 172.16.0.1 as an IPv4 identity",
			"connection foo expects @foo", "shows 192.0.2.10 instead", "line 4 of FILE", natSentence}},
		initiator: half{"refused_by_peer", "refused_private_address", []string{"172.16.0.1 is a private address that the NAT hides",
			"change line 3 of FILE to `local_id = \"@office\"`", natSentence}},
	},
	{
		name: "other_responder",
		b:    []string{`remote_id = "203.0.113.1"`, `remote_id = "@gate"`},
		swan: func(c *lab.StrongSwanConfig) { c.RemoteID = "gate" },
		responder: half{"refused", "identity_not_ours", []string{"@foo as an FQDN identity", "asked for @gate (FQDN)", "203.0.113.1 (IPv4 address)",
			"change line 3 of FILE to `local_id = \"@gate\"`"}},
		initiator: half{"refused_by_peer", "refused", []string{"@foo", "@gate", "line 4 of FILE (`remote_id`)"}},
	},
	{
		name: "selectors",
		b:    []string{`local = "10.104.0.0/24"`, `local = "10.109.0.0/24"`},
		swan: func(c *lab.StrongSwanConfig) { c.Children[0].LocalTS = "10.109.0.0/24" },
		wire: "IKE_AUTH response 1 [ IDr AUTH N(MOBIKE_SUP) N(TS_UNACCEPT) N(CRASH_DET) ]",
		responder: half{"refused", "selectors", []string{"10.109.0.0/24", "10.104.0.0/24",
			"change line 10 of FILE to `remote = [\"10.109.0.0/24\"]`"}},
		initiator: half{"refused_by_peer", "refused_selectors", []string{"10.109.0.0/24", "10.103.0.0/24",
			"line 9 of FILE (`local`)", "line 10 of FILE (`remote`)"}},
		childOnly: true,
	},
	{
		name:      "esp_proposal",
		b:         []string{`esp = ["aes128gcm16"]`, `esp = ["aes256-sha512"]`},
		swan:      func(c *lab.StrongSwanConfig) { c.Children[0].ESP = "aes256-sha512" },
		wire:      "IKE_AUTH response 1 [ IDr AUTH N(MOBIKE_SUP) N(NO_PROP) N(CRASH_DET) ]",
		responder: half{"refused", "no_proposal", []string{"ESP", "AES_CBC_256", "AES_GCM_16_128", "line 11 of FILE to `esp = "}},
		initiator: half{"refused_by_peer", "refused_proposal", []string{"ESP", "AES_CBC_256", "line 11 of FILE (`esp`)"}},
		childOnly: true,
	},
	{
		name:      "ike_proposal",
		b:         []string{`ike = ["aes128gcm16-prfsha256-x25519"]`, `ike = ["aes256-sha512-ecp521"]`},
		swan:      func(c *lab.StrongSwanConfig) { c.IKE = "aes256-sha512-ecp521" },
		wire:      "IKE_SA_INIT response 0 [ N(NO_PROP) ]",
		responder: half{"refused", "no_proposal", []string{"192.0.2.10:500", "IKE", "AES_CBC_256", "AES_GCM_16_128"}},
		initiator: half{"unprotected_error", "refused_proposal", []string{"203.0.113.1:500", "IKE", "AES_CBC_256", "line 6 of FILE (`ike`)"}},
	},
}

// wantHalf waits for a side's half, and looks for secrets in all that it says.
func (p *culvertProcess) wantHalf(h half, nat string) {
	p.t.Helper()
	record := p.wait("event", h.event, "diagnosis", h.diagnosis)
	for _, w := range h.says {
		wantReport(p.t, record, h.diagnosis, strings.NewReplacer("FILE", p.file, natSentence, nat).Replace(w))
	}
	if record["level"] != "WARN" {
		p.t.Errorf("level %v, want WARN", record["level"])
	}
	p.alive()
	p.keepsSecrets()
}

// keepsSecrets looks where others can: the status, the arguments, the log.
func (p *culvertProcess) keepsSecrets() {
	p.t.Helper()
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid()))
	if err != nil {
		p.t.Fatal(err)
	}
	var status map[string]any
	if err := api.Get(context.Background(), p.socket, "/v1/status", &status); err != nil {
		p.t.Fatal(err)
	}
	for where, text := range map[string]string{"the arguments": string(args), "the status": fmt.Sprint(status), "the log": p.log.String()} {
		wantNoSecret(p.t, where, text)
		if strings.Contains(text, wrongSecret) {
			p.t.Errorf("the wrong secret is in %s", where)
		}
	}
}

// TestRefusalsBetweenGateways has both halves said, and the gateway that
// refused go on to serve the peer once that is put right.
func TestRefusalsBetweenGateways(t *testing.T) {
	net := newPeerNet(t)
	a := net.culvert(net.GatewayA, "a.toml", sideA(plainSuite))
	a.wait("event", "device_up")
	for _, r := range refusals {
		if r.b == nil {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			n := net.in(t)
			a.t = t
			defer func() { a.t = net.t }()
			b := n.culvert(n.GatewayB, "b.toml", edit(t, sideB(plainSuite), r.b...))
			b.wantHalf(r.initiator, natHere)
			a.wantHalf(r.responder, natThere)
			if up := len(b.log.records("event", "established")) > 0; up != r.childOnly {
				t.Errorf("the IKE SA stands: %v, want %v", up, r.childOnly)
			}
			if len(b.log.records("event", "child_up")) > 0 {
				t.Error("there is a tunnel all the same")
			}
			b.end()
			b = n.culvert(n.GatewayB, "b.toml", sideB(plainSuite))
			b.wait("event", "child_up")
			n.pings(n.ways()...)
			b.end()
			a.log.Forget()
		})
	}
}

// TestRefusalNamesLine has the private address as identity in the examples as
// users of VyOS have them: each side names the line of its own file.
func TestRefusalNamesLine(t *testing.T) {
	net := newPeerNet(t)
	for _, f := range []struct {
		form         string
		edit         []string
		fixA, whereB string
	}{
		{"vyos", []string{"id @foo", "id 172.16.0.1"}, "add `authentication remote-id 172.16.0.1` to connection foo in FILE", "id 172.16.0.1"},
		{"set", []string{"psk A id '@foo'", "psk A id '172.16.0.1'", "local-id '@foo'", "local-id '172.16.0.1'"},
			"add `set vpn ipsec site-to-site peer @foo authentication remote-id 172.16.0.1` to connection foo in FILE", "local-id '172.16.0.1'"},
	} {
		t.Run(f.form, func(t *testing.T) {
			n := net.in(t)
			textA, textB := example(t, "side-a."+f.form), edit(t, example(t, "side-b."+f.form), f.edit...)
			a := n.culvert(n.GatewayA, "side-a."+f.form, textA)
			a.wait("event", "device_up")
			b := n.culvert(n.GatewayB, "side-b."+f.form, textB)
			a.wantHalf(half{"refused", "identity_private_address", []string{"172.16.0.1", "@foo", natSentence, f.fixA}}, natThere)
			b.wantHalf(half{"refused_by_peer", "refused_private_address", []string{"172.16.0.1", natSentence, lineOf(t, textB, f.whereB) + " of FILE"}}, natHere)
		})
	}
}

// lineOf is "line 7" for the first line of a text that has some words.
func lineOf(t *testing.T, text, words string) string {
	t.Helper()
	before, _, found := strings.Cut(text, words)
	if !found {
		t.Fatalf("no %q in:\n%s", words, text)
	}
	return fmt.Sprintf("line %d", 1+strings.Count(before, "\n"))
}

// TestRefusalsOfStrongSwan: culvert responds, and tells the wire nothing but
// the bare notify.
func TestRefusalsOfStrongSwan(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			scenario(t, "refusals", strings.ReplaceAll(r.name, "_", " "), responds)
			n := net.in(t)
			a := n.culvert(n.GatewayA, "a.toml", sideA(plainSuite))
			a.wait("event", "device_up")
			c := swanB(plainSuite)
			r.swan(&c)
			swan := n.strongSwan(n.GatewayB, c)
			if text, err := swan.Initiate(context.Background(), "t1"); err == nil {
				t.Errorf("strongSwan connected:\n%s", text)
			}
			a.wantHalf(r.responder, natThere)
			want := "parsed " + cmp.Or(r.wire, "IKE_AUTH response 1 [ N(AUTH_FAILED) ]")
			if got := answers(swan.Log()); len(got) == 0 || slices.ContainsFunc(got, func(line string) bool { return line != want }) {
				t.Errorf("on the wire: %q, want nothing but %q", got, want)
			}
		})
	}
}

// answers are the refusals that strongSwan's log has received.
func answers(log string) (lines []string) {
	for line := range strings.Lines(log) {
		if i := strings.Index(line, "parsed IKE_"); i >= 0 && !strings.Contains(line, "[ SA KE No") {
			lines = append(lines, strings.TrimSpace(line[i:]))
		}
	}
	return lines
}

// TestRefusalsByStrongSwan: culvert initiates, and says its half.
func TestRefusalsByStrongSwan(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, r := range refusals {
		if r.b == nil || r.swanAccepts {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			scenario(t, "refusals", strings.ReplaceAll(r.name, "_", " "), initiates)
			n := net.in(t)
			n.strongSwan(n.GatewayA, swanA(plainSuite))
			b := n.culvert(n.GatewayB, "b.toml", edit(t, sideB(plainSuite), r.b...))
			b.wantHalf(r.initiator, natSwan)
		})
	}
}

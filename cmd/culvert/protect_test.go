//go:build linux

package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"culvert/ikev2/wire"
	"culvert/lab"
)

// longName is an identity that makes IKE_AUTH too long for a packet of the
// smallest kind; strongSwan cuts names of more than 500 bytes.
var longName = strings.Repeat("a-very-long-name.", 26) + "example"

// renamed gives side A the long identity, in both sides' words.
func renamed(t *testing.T, text string, swan lab.StrongSwanConfig) (string, lab.StrongSwanConfig) {
	t.Helper()
	const name = "203.0.113.1"
	if swan.LocalID == name {
		swan.LocalID = longName
		return edit(t, text, `remote_id = "`+name, `remote_id = "@`+longName), swan
	}
	swan.RemoteID = longName
	return edit(t, text, `local_id = "`+name, `local_id = "@`+longName), swan
}

// wantFragments: each side has sent fragments, and taken the other's.
func wantFragments(t *testing.T, s *lab.StrongSwan, want bool) {
	t.Helper()
	for _, words := range []string{"splitting IKE message", "reassembled fragmented IKE message"} {
		if got := strings.Contains(s.Log(), words); got != want {
			t.Errorf("strongSwan says %q: %v, want %v", words, got, want)
		}
	}
}

// TestStrongSwanFragments makes both sides' IKE_AUTH too long for a packet, with
// strongSwan's fragmentation = force and a small fragment_size; and has one side
// refuse fragments, so that none are sent.
func TestStrongSwanFragments(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	cbc := suite{"aes128-sha256-x25519", "aes128gcm16"}
	for _, c := range []struct {
		name            string
		suite           suite
		initiates       string // who does
		fragment, sizes string // strongSwan's fragmentation, our keys
		want            bool
	}{
		{"strongSwan responds", plainSuite, "culvert", "force", `fragment_size = 576`, true},
		{"strongSwan initiates", plainSuite, "strongSwan", "force", `fragment_size = 576`, true},
		{"strongSwan responds with CBC", cbc, "culvert", "force", "fragmentation = \"force\"\nfragment_size = 600", true},
		{"strongSwan initiates with CBC", cbc, "strongSwan", "force", "fragmentation = \"force\"\nfragment_size = 600", true},
		{"strongSwan takes none", plainSuite, "culvert", "no", `fragment_size = 576`, false},
		{"culvert takes none", plainSuite, "strongSwan", "yes", `fragmentation = false`, false},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			scenario(t, "packets", "fragmentation: "+c.name, roleOf(c.initiates == "culvert"))
			n := net.in(t)
			var swan *lab.StrongSwan
			var p *culvertProcess
			set := func(s lab.StrongSwanConfig) lab.StrongSwanConfig {
				s.CharonExtra, s.ConnectionExtra = "fragment_size = 300", "fragmentation = "+c.fragment
				return s
			}
			if c.initiates == "culvert" {
				text, s := renamed(t, edit(t, sideB(c.suite), "psk = ", c.sizes+"\npsk = "), set(swanA(c.suite)))
				swan, p = n.swanResponds(s, text)
			} else {
				text, s := renamed(t, edit(t, sideA(c.suite), "psk = ", c.sizes+"\npsk = "), set(swanB(c.suite)))
				p, swan = n.swanInitiates(text, s)
			}
			n.reaches()
			n.wantSame(p, swan)
			wantFragments(t, swan, c.want)
			p.wantNoDrops("ike_malformed", "ike_integrity", "ike_fragment_limit", "ike_fragment_incomplete")
		})
	}
}

// TestStrongSwanFragmentsRekeys: what comes after IKE_AUTH goes in fragments too,
// whoever begins it.
func TestStrongSwanFragmentsRekeys(t *testing.T) {
	scenario(t, "packets", "fragmentation = force with a small size: rekeys in fragments", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	large := suite{"aes128gcm16-prfsha256-modp4096", "aes128gcm16-modp4096"}
	c := swanA(large)
	c.CharonExtra, c.ConnectionExtra, c.Children[0].Extra = "fragment_size = 300", "fragmentation = force\n"+swanIKELife, swanChildLife
	swan, b := n.swanResponds(c, edit(t, edit(t, sideB(large), ourLives...), "psk = ", "fragment_size = 576\npsk = "))
	n.under(10 * time.Second)
	b.wantRekeys(2, 1)
	wantFragments(t, swan, true)
}

// TestStrongSwanWantsCookies has a stranger leave a half-open SA at strongSwan,
// which makes it ask everybody for a cookie, and refuse the first group too.
func TestStrongSwanWantsCookies(t *testing.T) {
	scenario(t, "packets", "strongSwan wants a cookie, then another group", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	c := swanA(suite{"aes128gcm16-prfsha256-ecp256", "aes128gcm16"})
	c.CharonExtra = "cookie_threshold = 1"
	swan := n.strongSwan(n.GatewayA, c)
	n.stranger("203.0.113.1:500")
	eventually(t, "half-open SA", func() bool { return strings.Contains(swan.Log(), "generating IKE_SA_INIT response") })
	b := n.culvert(n.GatewayB, "b.toml", sideB(suite{"aes128gcm16-prfsha256-x25519-ecp256", "aes128gcm16"}))
	b.wait("event", "child_up")
	for _, event := range []string{"retry_cookie", "retry_group"} {
		if len(b.log.records("event", event)) != 1 {
			t.Errorf("%d times %s", len(b.log.records("event", event)), event)
		}
	}
	n.reaches()
}

// stranger sends an IKE_SA_INIT that leads nowhere.
func (n *peerNet) stranger(addr string) {
	n.t.Helper()
	transforms := []wire.Transform{
		{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 128},
		{Type: wire.TransformPRF, ID: wire.PRFHMACSHA2256},
		{Type: wire.TransformKE, ID: wire.GroupECP256},
	}
	// The generator of P-256 is a public value like any other.
	const generator = "\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96" +
		"\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5"
	m := wire.Message{
		Header: wire.Header{InitiatorSPI: wire.SPI{1, 2, 3}, Major: 2, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator},
		Payloads: []wire.Payload{
			&wire.SA{Proposals: []wire.Proposal{{Number: 1, Protocol: wire.ProtocolIKE, Transforms: transforms}}},
			&wire.KE{Group: wire.GroupECP256, Data: []byte(generator)},
			&wire.Nonce{Data: make([]byte, 32)},
		},
	}
	err := n.NAT.Do(func() error {
		c, err := new(net.Dialer).DialContext(context.Background(), "udp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(m.Append(nil))
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestCookiesForStrongSwan: culvert lets nobody in without a cookie, and has no
// use for strongSwan's first group; strongSwan comes with the cookie and the
// other group.
func TestCookiesForStrongSwan(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, groups := range []string{"x25519", "x25519-ecp256"} {
		t.Run(groups, func(t *testing.T) {
			scenario(t, "packets", "culvert wants a cookie; groups offered: "+groups, responds)
			n := net.in(t)
			last := groups[strings.LastIndex(groups, "-")+1:]
			text := "[gateway]\ncookie_threshold = \"always\"\n\n" + sideA(suite{"aes128gcm16-prfsha256-" + last, "aes128gcm16"})
			a, swan := n.swanInitiates(text, swanB(suite{"aes128gcm16-prfsha256-" + groups, "aes128gcm16"}))
			n.reaches()
			n.wantSame(a, swan)
			if drops := a.status().Drops; drops["ike_cookie_asked"] != 1 || (drops["ike_init_refused"] == 1) != (last != groups) {
				t.Errorf("%d cookies asked for, %d groups refused", drops["ike_cookie_asked"], drops["ike_init_refused"])
			}
		})
	}
}

// TestSmallPacketsToStrongSwan: a path that carries no IP packet over 576 bytes
// in either direction, and says nothing about it, is found out by culvert as
// either side.
func TestSmallPacketsToStrongSwan(t *testing.T) {
	scenario(t, "packets", "a path that drops packets of more than 576 bytes", initiates)
	needStrongSwan(t)
	n := newPeerNet(t)
	if err := n.NAT.DropLong(576); err != nil {
		t.Fatal(err)
	}
	c := swanA(plainSuite)
	c.CharonExtra, c.ConnectionExtra = "fragment_size = 500", "fragmentation = yes"
	text, c := renamed(t, sideB(plainSuite), c)
	_, b := n.swanResponds(c, text)
	n.pings()
	b.alive()
}

//go:build linux

package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/lab"
)

// The algorithms that both have, in the words of both, and strongSwan's names of
// them. Its kernel-libipsec has no extended sequence numbers.
var (
	matrixCiphers = []string{"aes128gcm16", "aes256gcm16", "aes128-sha256", "aes128-sha384", "aes128-sha512",
		"aes256-sha256", "aes256-sha384", "aes256-sha512", "chacha20poly1305"}
	matrixPRFs   = []string{"prfsha256", "prfsha384", "prfsha512"}
	matrixGroups = []string{"x25519", "ecp256", "ecp384", "ecp521", "modp2048", "modp3072", "modp4096"}

	swanNames = map[string]string{
		"aes128gcm16": "AES_GCM_16/128/", "aes256gcm16": "AES_GCM_16/256/", "chacha20poly1305": "CHACHA20_POLY1305//",
		"aes128": "AES_CBC/128/", "aes256": "AES_CBC/256/",
		"sha256": "HMAC_SHA2_256_128", "sha384": "HMAC_SHA2_384_192", "sha512": "HMAC_SHA2_512_256",
		"prfsha256": "PRF_HMAC_SHA2_256", "prfsha384": "PRF_HMAC_SHA2_384", "prfsha512": "PRF_HMAC_SHA2_512",
		"x25519": "CURVE_25519", "ecp256": "ECP_256", "ecp384": "ECP_384", "ecp521": "ECP_521",
		"modp2048": "MODP_2048", "modp3072": "MODP_3072", "modp4096": "MODP_4096",
	}
)

// matrixRow is a choice of algorithms: of the IKE SA, of the child SA, and of
// the key exchange when that is replaced.
type matrixRow struct{ cipher, prf, group, esp, pfs string }

// matrixRows has every pair of a cipher and a group, a cipher and a PRF, a PRF
// and a group of the IKE SA, and of a cipher and a group of the child SA.
func matrixRows() (rows []matrixRow) {
	for i, cipher := range matrixCiphers {
		for j, group := range matrixGroups {
			rows = append(rows, matrixRow{cipher, matrixPRFs[(i+j)%len(matrixPRFs)], group,
				matrixCiphers[(i+j)%len(matrixCiphers)], matrixGroups[(j+3)%len(matrixGroups)]})
		}
	}
	return rows
}

func (r matrixRow) suite() suite {
	return suite{r.cipher + "-" + r.prf + "-" + r.group, r.esp + "-" + r.pfs}
}

func TestMatrixPairs(t *testing.T) {
	pairs := map[[2]string]bool{}
	for _, r := range matrixRows() {
		for _, p := range [][2]string{{r.cipher, r.group}, {r.cipher, r.prf}, {r.prf, r.group}, {"esp " + r.esp, r.pfs}} {
			pairs[p] = true
		}
	}
	if want := 9*7 + 9*3 + 3*7 + 9*7; len(pairs) != want {
		t.Errorf("%d pairs, want %d", len(pairs), want)
	}
}

// swanCipher is a cipher of the matrix in strongSwan's names.
func swanCipher(name string) string {
	cipher, integrity, _ := strings.Cut(name, "-")
	return swanNames[cipher] + swanNames[integrity]
}

// wantRow wants both ends to have what the row says, and a child SA that has been
// replaced with a key exchange of its own.
func (n *peerNet) wantRow(r matrixRow, p *culvertProcess, s *lab.StrongSwan) {
	n.t.Helper()
	n.wantSameNow(p, s)
	sa := n.swanSA(s)
	ike := strings.Join([]string{sa.Encryption, sa.KeySize, sa.Integrity, sa.PRF, sa.KeyExchange}, "/")
	if want := swanCipher(r.cipher) + "/" + swanNames[r.prf] + "/" + swanNames[r.group]; ike != want {
		n.t.Errorf("strongSwan has the IKE SA with %s, want %s", ike, want)
	}
	for _, c := range sa.Children {
		if esp := strings.Join([]string{c.Encryption, c.KeySize, c.Integrity}, "/"); esp != swanCipher(r.esp) {
			n.t.Errorf("strongSwan has the child SA with %s, want %s", esp, swanCipher(r.esp))
		}
	}
	if pfs := regexp.MustCompile(`selected proposal: ESP:\S+/` + swanNames[r.pfs] + "/NO_EXT_SEQ"); !pfs.MatchString(s.Log()) {
		n.t.Errorf("the child SA was not replaced with %s", r.pfs)
	}
	p.wantNoDrops("unknown_spi", "authentication_failed", "selector_violation", "inbound_malformed", "ike_integrity", "ike_malformed")
}

// TestStrongSwanSuites has every row of the matrix in both roles: the tunnel
// comes up, carries, and carries on when its initiator has replaced it with a
// key exchange.
func TestStrongSwanSuites(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, r := range matrixRows() {
		s := r.suite()
		t.Run("culvert_initiates/"+s.ike, func(t *testing.T) {
			scenario(t, "suites", "IKE "+s.ike+", ESP and PFS "+s.esp, initiates)
			n := net.in(t)
			swan, b := n.swanResponds(swanA(s), sideB(s))
			n.pings()
			b.operates("rekey", "office")
			b.waitNth(2, "event", "child_up")
			n.pings()
			n.wantRow(r, b, swan)
			// kernel-libipsec knows ESP inside UDP alone, and has a responder
			// feign a NAT to get it.
			if nat := b.status().Peers[0].NAT; nat != "both sides" {
				t.Errorf("NAT %q", nat)
			}
		})
		t.Run("strongSwan_initiates/"+s.ike, func(t *testing.T) {
			scenario(t, "suites", "IKE "+s.ike+", ESP and PFS "+s.esp, responds)
			n := net.in(t)
			a, swan := n.swanInitiates(sideA(s), swanB(s))
			n.pings()
			n.rekeys(swan, "--child", "t1")
			a.waitNth(2, "event", "child_up")
			n.pings()
			n.wantRow(r, a, swan)
			if nat := a.status().Peers[0].NAT; nat != "peer side" {
				t.Errorf("NAT %q", nat)
			}
			if !strings.Contains(swan.Log(), "N(MOBIKE_SUP)") {
				t.Error("strongSwan did not offer MOBIKE, which is its default")
			}
		})
	}
}

// TestStrongSwanBulk moves data by TCP through each cipher, in both roles.
func TestStrongSwanBulk(t *testing.T) {
	needStrongSwan(t)
	net := newPeerNet(t)
	for _, esp := range matrixCiphers {
		s := suite{plainSuite.ike, esp}
		t.Run("culvert_initiates/"+esp, func(t *testing.T) {
			scenario(t, "suites", "pings and TCP, both ways: "+esp, initiates)
			n := net.in(t)
			swan, b := n.swanResponds(swanA(s), sideB(s))
			n.reaches()
			n.wantSame(b, swan)
			b.wantNoDrops("unknown_spi", "authentication_failed", "selector_violation", "inbound_malformed")
		})
		t.Run("strongSwan_initiates/"+esp, func(t *testing.T) {
			scenario(t, "suites", "pings and TCP, both ways: "+esp, responds)
			n := net.in(t)
			a, swan := n.swanInitiates(sideA(s), swanB(s))
			n.reaches()
			n.wantSame(a, swan)
			a.wantNoDrops("unknown_spi", "authentication_failed", "selector_violation", "inbound_malformed")
		})
	}
}

// operates runs a command on the gateway, which has to succeed.
func (p *culvertProcess) operates(args ...string) {
	p.t.Helper()
	if out, errs, code := p.operate(args...); code != 0 {
		p.t.Fatalf("culvert %q: exit code %d:\n%s%s", args, code, out, errs)
	}
}

// meets starts a pair in either role. The connection is "office" with culvert as
// the initiator, else "foo".
func (n *peerNet) meets(r role, s suite, ourEdits []string, theirs func(*lab.StrongSwanConfig)) (p *culvertProcess, swan *lab.StrongSwan, name string) {
	n.t.Helper()
	if r == initiates {
		c := swanA(s)
		theirs(&c)
		swan, p = n.swanResponds(c, edit(n.t, sideB(s), ourEdits...))
		return p, swan, "office"
	}
	c := swanB(s)
	theirs(&c)
	p, swan = n.swanInitiates(edit(n.t, sideA(s), ourEdits...), c)
	return p, swan, "foo"
}

var roleNames = map[role]string{initiates: "culvert_initiates", responds: "culvert_responds"}

// TestStrongSwanRekeys has either side replace child SAs every 3 s and IKE SAs
// every 7 s, or both, in both roles, for a minute under traffic: nothing is
// lost.
func TestStrongSwanRekeys(t *testing.T) {
	needStrongSwan(t)
	pfs := suite{plainSuite.ike, "aes128gcm16-x25519"}
	for _, c := range []struct {
		name          string
		suite         suite
		culvert, swan bool // who replaces
	}{
		{"culvert rekeys with PFS", pfs, true, false},
		{"strongSwan rekeys with PFS", pfs, false, true},
		{"both rekey", plainSuite, true, true},
	} {
		for r, roleName := range roleNames {
			t.Run(strings.ReplaceAll(c.name, " ", "_")+"/"+roleName, func(t *testing.T) {
				scenario(t, "rekeys", c.name+": children every 3 s, IKE SAs every 7 s, for a minute", r)
				t.Parallel()
				n := newPeerNet(t)
				lives, ike, child := theirLives, swanIKENever, swanNever
				if c.culvert {
					lives = ourLives
				}
				if c.swan {
					ike, child = swanIKELife, swanChildLife
				}
				p, swan, _ := n.meets(r, c.suite, lives, func(s *lab.StrongSwanConfig) { s.ConnectionExtra, s.Children[0].Extra = ike, child })
				if testing.Short() {
					n.under(15 * time.Second)
					p.wantRekeys(3, 1)
				} else {
					n.under(time.Minute)
					p.wantRekeys(14, 5)
				}
				p.alive()
				if c.suite == pfs && !strings.Contains(swan.Log(), "selected proposal: ESP:AES_GCM_16_128/CURVE_25519/NO_EXT_SEQ") {
					t.Error("no child SA has a key exchange of its own")
				}
			})
		}
	}
}

// collision is what the two sides do at once, and what strongSwan says of it.
type collision struct {
	name      string
	delay     string // strongSwan's, in strongswan.conf
	culvert   []string
	swan      []string
	evidence  string
	deletes   bool // the tunnel is gone for a moment
	initiates bool // culvert alone
}

const (
	takenLate     = "receive_delay = 1000\nreceive_delay_type = 36" // CREATE_CHILD_SA
	requestsLate  = takenLate + "\nreceive_delay_response = no"
	responsesLate = "send_delay = 1000\nsend_delay_type = 36\nsend_delay_request = no"
)

var (
	rekeyChild, rekeyIKE           = []string{"rekey"}, []string{"rekey", "--ike"}
	swanRekeysChild, swanRekeysIKE = []string{"--rekey", "--child", "t1"}, []string{"--rekey", "--ike", "foo"}
)

var collisions = []collision{
	{name: "child/child", delay: takenLate, culvert: rekeyChild, swan: swanRekeysChild, evidence: "detected CHILD_REKEY collision"},
	{name: "IKE/IKE", delay: takenLate, culvert: rekeyIKE, swan: swanRekeysIKE, evidence: "detected IKE_REKEY collision"},
	{name: "child/IKE", delay: takenLate, culvert: rekeyChild, swan: swanRekeysIKE, evidence: "N(TEMP_FAIL)"},
	{name: "IKE/child", delay: takenLate, culvert: rekeyIKE, swan: swanRekeysChild, evidence: "N(TEMP_FAIL)"},
	{name: "child/child, culvert's request late", delay: requestsLate, culvert: rekeyChild, swan: swanRekeysChild},
	{name: "IKE/IKE, culvert's request late", delay: requestsLate, culvert: rekeyIKE, swan: swanRekeysIKE},
	{name: "child/child, strongSwan's answer late", delay: responsesLate, culvert: rekeyChild, swan: swanRekeysChild},
	{name: "IKE/IKE, strongSwan's answer late", delay: responsesLate, culvert: rekeyIKE, swan: swanRekeysIKE},
	{name: "child/IKE, strongSwan's answer late", delay: responsesLate, culvert: rekeyChild, swan: swanRekeysIKE},
	{name: "IKE/child, strongSwan's answer late", delay: responsesLate, culvert: rekeyIKE, swan: swanRekeysChild},
	{name: "rekey/delete of the child SA", delay: takenLate, culvert: rekeyChild, swan: []string{"--terminate", "--child", "t1"}, deletes: true, initiates: true},
	{name: "rekey/delete of the IKE SA", delay: takenLate, culvert: rekeyIKE, swan: []string{"--terminate", "--ike", "foo"}, deletes: true, initiates: true},
}

// TestStrongSwanCollides has strongSwan take in, or send, late what is said of
// replacing SAs, so that both sides are at it at once: nothing is lost, and there
// is one pair of SAs in the end.
func TestStrongSwanCollides(t *testing.T) {
	needStrongSwan(t)
	for _, c := range collisions {
		for r, roleName := range roleNames {
			if c.initiates && r != initiates {
				continue
			}
			t.Run(strings.ReplaceAll(c.name, " ", "_")+"/"+roleName, func(t *testing.T) {
				scenario(t, "collisions", c.name, r)
				t.Parallel()
				newPeerNet(t).collides(c, r)
			})
		}
	}
}

func (n *peerNet) collides(c collision, r role) {
	n.t.Helper()
	s := suite{plainSuite.ike, "aes128gcm16-x25519"}
	p, swan, name := n.meets(r, s, theirLives, func(s *lab.StrongSwanConfig) {
		s.CharonExtra = c.delay + "\ndelete_rekeyed_delay = 1"
		s.ConnectionExtra, s.Children[0].Extra = swanIKENever, swanNever
	})
	arrived := func() {}
	if !c.deletes {
		arrived = n.streaming()
	}
	// A machine that is busy may part the two by more than the delay.
	for range 5 {
		before := n.spis(p)
		p.operates(slices.Insert(slices.Clone(c.culvert), 1, name)...)
		if out, err := swan.Swanctl(context.Background(), c.swan...); err != nil {
			n.t.Fatalf("%v\n%s", err, out)
		}
		evident := c.awaitEvidence(swan)
		eventually(n.t, "other SA, the same at both ends", func() bool { return n.spis(p) != before && n.converged(p, swan) })
		if evident {
			break
		}
	}
	if !strings.Contains(swan.Log(), c.evidence) {
		n.t.Errorf("no %q: nothing collided", c.evidence)
	}
	if c.deletes {
		n.comesBack(waitTime)
	}
	arrived()
	n.pings()
	// Where strongSwan was told TEMPORARY_FAILURE it tries once more, up to 15 s
	// later (RFC 7296 section 2.25).
	eventually(n.t, "one pair of SAs, the same at both ends", func() bool { return n.converged(p, swan) })
	if made := p.made(); made != 1 && !c.deletes {
		n.t.Errorf("%d IKE SAs by IKE_SA_INIT", made)
	}
	p.alive()
}

// awaitEvidence gives the two time to have their collision. What leaves no trace
// in strongSwan's log is over by then.
func (c collision) awaitEvidence(swan *lab.StrongSwan) bool {
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c.evidence != "" && strings.Contains(swan.Log(), c.evidence) {
			return true
		}
	}
	return c.evidence == ""
}

// spis are those of culvert's only connection and its child SAs.
func (n *peerNet) spis(p *culvertProcess) string {
	n.t.Helper()
	peer := p.status().Peers[0]
	all := peer.InitiatorSPI
	for _, c := range peer.Children {
		all += " " + c.InboundSPI
	}
	return all
}

// converged: both ends have one IKE SA and one child SA, the same.
func (n *peerNet) converged(p *culvertProcess, s *lab.StrongSwan) bool {
	n.t.Helper()
	sas, err := s.SAs(context.Background())
	ours := p.status().Peers[0]
	if err != nil || len(sas) != 1 || len(sas[0].Children) != 1 || len(ours.Children) != 1 {
		return false
	}
	their, our := sas[0].Children[0], ours.Children[0]
	return sas[0].State == "ESTABLISHED" && sas[0].InitiatorSPI == ours.InitiatorSPI && sas[0].ResponderSPI == ours.ResponderSPI &&
		their.State == "INSTALLED" && their.InSPI == our.OutboundSPI && their.OutSPI == our.InboundSPI
}

// TestStrongSwanKilled kills either side without a word: the other notices by
// itself, and there is a tunnel again when it is back.
func TestStrongSwanKilled(t *testing.T) {
	needStrongSwan(t)
	quick := []string{"ike = [", "dpd = \"1s\"\nretransmit = \"200ms\"\nretransmit_tries = 4\nreconnect_max = \"1s\"\nike = ["}
	theirs := func(c *lab.StrongSwanConfig) {
		c.ConnectionExtra = "dpd_delay = 1s"
		c.CharonExtra = "retransmit_timeout = 0.5\nretransmit_tries = 2"
	}
	for r, roleName := range roleNames {
		t.Run("strongSwan/"+roleName, func(t *testing.T) {
			scenario(t, "life and death", "strongSwan is killed: culvert notices, and has the tunnel again when it is back", r)
			t.Parallel()
			n := newPeerNet(t)
			p, swan, _ := n.meets(r, plainSuite, quick, theirs)
			n.pings()
			swan.Kill()
			p.wait("event", "down", "reason", "dead_peer")
			if r == initiates {
				c := swanA(plainSuite)
				theirs(&c)
				swan = n.strongSwan(n.GatewayA, c)
			} else {
				c := swanB(plainSuite)
				theirs(&c)
				swan = n.strongSwan(n.GatewayB, c)
				n.initiate(swan)
			}
			p.waitNth(2, "event", "child_up")
			n.reaches()
			n.wantSame(p, swan)
		})
		t.Run("culvert/"+roleName, func(t *testing.T) {
			scenario(t, "life and death", "culvert is killed: strongSwan notices, and has the tunnel again when it is back", r)
			t.Parallel()
			n := newPeerNet(t)
			p, swan, _ := n.meets(r, plainSuite, quick, func(c *lab.StrongSwanConfig) {
				theirs(c)
				if r == responds {
					c.Children[0].Extra = "dpd_action = restart"
					c.CharonExtra += "\nretry_initiate_interval = 1"
				}
			})
			n.pings()
			p.kill()
			eventually(t, "notice at strongSwan", func() bool { return strings.Contains(swan.Log(), "giving up after 2 retransmits") })
			host, text := n.GatewayB, sideB(plainSuite)
			if r == responds {
				host, text = n.GatewayA, sideA(plainSuite)
			}
			p = n.culvert(host, "again.toml", edit(t, text, quick...))
			p.wait("event", "child_up")
			n.comesBack(waitTime)
			n.reaches()
			n.wantSame(p, swan)
		})
	}
}

func (n *peerNet) initiate(s *lab.StrongSwan) {
	n.t.Helper()
	if text, err := s.Initiate(context.Background(), "t1"); err != nil {
		n.t.Fatal(fmt.Errorf("%w\n%s", err, text))
	}
}

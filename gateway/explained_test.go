package gateway

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/natt"
	"culvert/natt/nattest"
)

var update = flag.Bool("update", false, "write the golden files of testdata/explained anew")

// A situation is what an administrator may find himself in: two configurations as
// he writes them, what happens to them, and, in testdata/explained, all that
// `culvert explain` then says on each side.
type situation struct {
	name string
	a, b string // B calls; empty: nobody is there
	nat  nattest.Kind
	lost func(nattest.Datagram) bool // what the network loses, from the first datagram on
	// noNAT has B at another address, with no NAT in front of it.
	noNAT bool
	// before changes a gateway's machine, before it starts; then is what happens
	// after both have, and after lets it pass: nothing is wrong then.
	before      func(*starting)
	then, after func(w *world, a, b *site)
	// cured: the tunnel comes up once either side has done what it is told.
	cured bool
}

// TestExplained: every situation, from its two configurations to the paragraph on
// each side.
func TestExplained(t *testing.T) {
	for _, s := range situations {
		s.a, s.b = cmp.Or(s.a, textA), cmp.Or(s.b, textB)
		t.Run(s.name, func(t *testing.T) {
			var got string
			inWorld(t, nattest.Config{NAT: s.nat, Latency: 5 * time.Millisecond}, func(w *world) {
				keys := w.TempDir()
				a, b := s.start(w, s.a, s.b, keys)
				got = s.told(w, keys)
				if s.after != nil {
					s.after(w, a, b)
					for _, side := range w.sites {
						side.wantsNothing()
					}
				}
			})
			golden(t, filepath.Join("testdata", "explained", s.name+".txt"), got)
			if s.cured {
				s.cure(t, got)
			}
		})
	}
	files, err := filepath.Glob("testdata/explained/*.txt")
	noError(t, err)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		if !slices.ContainsFunc(situations, func(s situation) bool { return s.name == name }) {
			t.Errorf("%s belongs to no situation", f)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		noError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		noError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	noError(t, err)
	if got != string(want) {
		t.Errorf("%s is\n%s\nnot\n%s", file, got, want)
	}
}

// start has both sides run for a while, and what happens happen. The same random
// bytes make the same delays, and 4.2 s keep off the moments at which tickers tick.
func (s *situation) start(w *world, textA, textB, keys string) (a, b *site) {
	w.Helper()
	if s.lost != nil {
		loses(s.lost, 0)(w, nil, nil)
	}
	begin := func(host *nattest.Host, name, text string) *site {
		if text == nobody {
			return nil
		}
		return w.start(host, name, text, func(st *starting) {
			st.Random = rand.NewChaCha8([32]byte{name[0]})
			if name == "a" {
				st.KeyLog = keys
			}
			if s.before != nil {
				s.before(st)
			}
		})
	}
	host := w.net.B
	if s.noNAT {
		host = w.net.C
	}
	a, b = begin(w.net.A, "a", textA), begin(host, "b", textB)
	time.Sleep(4200 * time.Millisecond)
	if s.then != nil {
		s.then(w, a, b)
	}
	return a, b
}

// told is the golden file: what there was, and what each side that runs says of
// it.
func (s *situation) told(w *world, keys string) string {
	w.Helper()
	var text strings.Builder
	slices.SortStableFunc(w.sites, func(a, b *site) int { return strings.Compare(a.name, b.name) })
	for _, side := range w.sites {
		if side.ended {
			continue
		}
		fmt.Fprintf(&text, "-- %s --\n%s\n-- %s explains --\n%s", fileOf(side.name, side.text), strings.TrimSpace(side.text), side.name, side.explanation())
	}
	if s.then != nil || s.a == nobody {
		return text.String()
	}
	if told := w.answers(keys); len(told) > 0 {
		fmt.Fprintf(&text, "-- the wire --\n%s\n", strings.Join(told, "\n"))
	}
	return text.String()
}

// explanation is a paragraph a finding, below its code.
func (s *site) explanation() string {
	s.w.Helper()
	x, err := s.Explain("")
	noError(s.w, err)
	if len(x.Findings) == 0 {
		return "nothing is wrong\n"
	}
	var text strings.Builder
	for _, f := range x.Findings {
		what := f.Code
		if !f.Wrong {
			what += ", worth knowing"
		}
		if strings.ContainsAny(f.Text, "\n\t") || !strings.HasSuffix(strings.TrimSuffix(f.Text, " ago)"), ".") && !strings.HasSuffix(f.Text, "ago)") {
			s.w.Errorf("%s needs more or less than a paragraph: %q", s.name, f.Text)
		}
		fmt.Fprintf(&text, "[%s]\n%s\n", what, f.Text)
	}
	return text.String()
}

func (s *site) wantsNothing() {
	if s.ended {
		return
	}
	s.w.Helper()
	if x, err := s.Explain(""); err != nil || x.Wrong {
		s.w.Errorf("%s still explains, %v: %s", s.name, err, s.explanation())
	}
}

// What a paragraph says to change here, and there.
var (
	adviceHere  = regexp.MustCompile(`\b[Hh]ere, (change|add)`)
	changeHere  = regexp.MustCompile("change line ([0-9]+) of [^`]*`([^`]+)`|add `([^`]+)`")
	changeThere = regexp.MustCompile("there, set the peer's own identity to [^`]*`([a-z_]+) = ([^`]*)`")
)

// cure does what the paragraphs say, one after the other, each in a world of its
// own, where the tunnel then has to come up.
func (s *situation) cure(t *testing.T, told string) {
	sides := map[string]string{"a": s.a, "b": s.b}
	cures := 0
	for _, name := range []string{"a", "b"} {
		_, says, _ := strings.Cut(told, "-- "+name+" explains --\n")
		says, _, _ = strings.Cut(says, "\n-- ")
		for _, text := range obeyed(sides[name], says) {
			cures++
			t.Run(fmt.Sprintf("%s does it", name), func(t *testing.T) { s.comesUp(t, map[string]string{name: text}) })
		}
		if m := changeThere.FindStringSubmatch(says); m != nil {
			cures++
			other := map[string]string{"a": "b", "b": "a"}[name]
			t.Run(fmt.Sprintf("%s does it", other), func(t *testing.T) {
				s.comesUp(t, map[string]string{other: with(sides[other], m[1], m[2])})
			})
		}
	}
	if cures == 0 {
		t.Error("nobody says what to do")
	}
}

// obeyed is a configuration with all that its side may change changed.
func obeyed(config, says string) []string {
	at := adviceHere.FindStringIndex(says)
	if at == nil {
		return nil
	}
	advice, _, _ := strings.Cut(says[at[0]:], "; or")
	lines := strings.Split(config, "\n")
	for _, m := range changeHere.FindAllStringSubmatch(advice, -1) {
		if m[3] != "" {
			lines = slices.Insert(lines, slices.Index(lines, "[peer.remote.tunnel.lan]"), m[3])
			continue
		}
		if strings.Contains(m[2], "NETWORK") { // which only he knows
			return nil
		}
		line, _ := strconv.Atoi(m[1])
		lines[line-1] = m[2]
	}
	return []string{strings.Join(lines, "\n")}
}

func (s *situation) comesUp(t *testing.T, changed map[string]string) {
	texts := map[string]string{"a": s.a, "b": s.b}
	for name, text := range changed {
		texts[name] = text
	}
	inWorld(t, nattest.Config{NAT: s.nat, Latency: 5 * time.Millisecond}, func(w *world) {
		a, b := s.start(w, texts["a"], texts["b"], "")
		if !a.isUp() || !b.isUp() || strings.Contains(a.explanation()+b.explanation(), "[pfs]") {
			w.Errorf("it is not up with\n%s\n%s\n%s%s", texts["a"], texts["b"], a.explanation(), b.explanation())
		}
	})
}

// nobody is the configuration of a side that is not there.
const nobody = "nobody"

// lasts lets time pass.
func lasts(d time.Duration) func(*world, *site, *site) {
	return func(*world, *site, *site) { time.Sleep(d) }
}

// loses drops what a filter picks, for so long.
func loses(drop func(nattest.Datagram) bool, d time.Duration) func(*world, *site, *site) {
	return func(w *world, _, _ *site) {
		w.treat(func(d nattest.Datagram) nattest.Verdict { return nattest.Verdict{Drop: drop(d)} })
		time.Sleep(d)
	}
}

// speaks has hosts send a packet a second.
func speaks(seconds int, fromA, fromB func(uint64, int) []byte) func(*world, *site, *site) {
	return func(_ *world, a, b *site) {
		for i := range seconds {
			if fromA != nil {
				a.device.InjectPacket(fromA(uint64(i), 100))
			}
			if fromB != nil {
				b.device.InjectPacket(fromB(uint64(i), 100))
			}
			time.Sleep(time.Second)
		}
	}
}

func steps(all ...func(*world, *site, *site)) func(*world, *site, *site) {
	return func(w *world, a, b *site) {
		for _, f := range all {
			f(w, a, b)
		}
	}
}

// port picks what goes to a UDP port.
func port(n uint16) func(nattest.Datagram) bool {
	return func(d nattest.Datagram) bool { return d.To.Port() == n }
}

// esp picks the ESP that one address sends.
func esp(from netip.Addr) func(nattest.Datagram) bool {
	return func(d nattest.Datagram) bool {
		return d.From.Addr() == from && d.From.Port() == 4500 && natt.Classify(d.Bytes) == natt.ESP
	}
}

// translated is a socket of a host behind a NAT that shows its address with all
// ports kept: its own address is another one.
type translated struct {
	natt.Conn
	public, private netip.Addr
}

func (c translated) Receive(runs []natt.Run) (int, error) {
	n, err := c.Conn.Receive(runs)
	for i := range runs[:n] {
		runs[i].Path.Local = netip.AddrPortFrom(c.private, runs[i].Path.Local.Port())
	}
	return n, err
}

func (c translated) Send(runs []natt.Run) (int, error) {
	runs = slices.Clone(runs)
	for i := range runs {
		runs[i].Path.Local = netip.AddrPortFrom(c.public, runs[i].Path.Local.Port())
	}
	return c.Conn.Send(runs)
}

// behindNAT puts A behind a NAT too.
func behindNAT(s *starting) {
	if s.name == "a" {
		private, d := netip.MustParseAddr("10.0.0.5"), s.Options.Doors
		d.IKE, d.NATT = translated{d.IKE, nattest.PublicA, private}, translated{d.NATT, nattest.PublicA, private}
		d.LocalAddr = func(netip.Addr) (netip.Addr, error) { return private, nil }
	}
}

// second is another peer of A, at host C.
var (
	secondOfA = strings.NewReplacer("[peer.remote", "[peer.third", "@foo", "@bar").Replace(textA)
	second    = strings.Replace(textB, "@foo", "@bar", 1)
)

// elsewhere is A's peer with another network behind it.
func elsewhere(text, network string) string {
	return strings.ReplaceAll(text, "10.104.0.0/24", network)
}

// joins starts another gateway at C.
func joins(text string) func(*world, *site, *site) {
	return func(w *world, _, _ *site) {
		w.start(w.net.C, "c", text, func(s *starting) { s.Random = rand.NewChaCha8([32]byte{'c'}) })
		time.Sleep(5 * time.Second)
	}
}

// A as somebody has it who comes from strongSwan, or from VyOS.
const (
	swanctlA = `connections {
  B {
    version = 2
    remote_addrs = %any
    proposals = aes128gcm16-prfsha256-x25519
    local {
      auth = psk
      id = 203.0.113.1
    }
    remote {
      auth = psk
      id = @foo
    }
    children {
      lan {
        local_ts = 10.103.0.0/24
        remote_ts = 10.104.0.0/24
        esp_proposals = aes128gcm16
      }
    }
  }
}
secrets {
  ike {
    id = 203.0.113.1
    secret = "` + secretKey + `"
  }
}
`
	vyosA = `vpn {
  ipsec {
    esp-group ESP {
      proposal 1 {
        encryption aes128gcm128
      }
    }
    ike-group IKE {
      key-exchange ikev2
      proposal 1 {
        dh-group 31
        encryption aes128gcm128
        prf prfsha256
      }
    }
    authentication {
      psk B {
        id 203.0.113.1
        id @foo
        secret ` + secretKey + `
      }
    }
    site-to-site {
      peer B {
        authentication {
          local-id 203.0.113.1
          mode pre-shared-secret
          remote-id @foo
        }
        connection-type respond
        ike-group IKE
        remote-address any
        tunnel 1 {
          esp-group ESP
          local {
            prefix 10.103.0.0/24
          }
          remote {
            prefix 10.104.0.0/24
          }
        }
      }
    }
  }
}
`
)

// many are so many networks, from number first on.
func many(first, n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = fmt.Sprintf(`"10.%d.0.0/24"`, first+i)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// of is a tunnel's networks.
func of(text, local, remote string) string {
	head, tunnel, _ := strings.Cut(text, "[peer.remote.tunnel.lan]")
	tunnel = with(tunnel, "local", local, "remote", remote)
	return head + "[peer.remote.tunnel.lan]" + tunnel
}

var situations = []situation{
	// Who is who.
	{name: "private-address", b: with(textB, "local_id", `"172.16.0.1"`), cured: true},
	{name: "private-address-for-public", a: with(textA, "remote_id", `"192.0.2.10"`), b: with(textB, "local_id", `"172.16.0.1"`), cured: true},
	{name: "private-address-here", a: with(textA, "local_id", `"10.0.0.5"`), before: behindNAT, cured: true},
	{name: "address-for-name", a: textA, b: with(textB, "local_id", `"198.51.100.7"`), noNAT: true, cured: true},
	{name: "name-for-address", a: with(textA, "remote_id", `"192.0.2.10"`), cured: true},
	{name: "key-id-for-name", b: with(textB, "local_id", `"keyid:foo"`), cured: true},
	{name: "at-sign", a: with(textA, "remote_id", `"keyid:@foo"`), b: with(textB, "local_id", `"keyid:foo"`), cured: true},
	{name: "upper-case", b: with(textB, "local_id", `"@Foo"`), cured: true},
	{name: "another-name", b: with(textB, "local_id", `"@bar"`), cured: true},
	{name: "another-name-of-several", a: textA + "\n" + elsewhere(secondOfA, "10.105.0.0/24"), b: with(textB, "local_id", `"@baz"`)},
	{name: "private-address-swanctl", a: swanctlA, b: with(textB, "local_id", `"172.16.0.1"`), cured: true},
	{name: "private-address-vyos", a: vyosA, b: with(textB, "local_id", `"172.16.0.1"`)},
	{name: "asked-for-another", b: with(textB, "remote_id", `"@a"`), cured: true},
	{name: "wrong-key", b: with(textB, "psk", `"another-key-than-the-other-side-has"`)},
	{name: "wrong-key-no-nat", b: with(textB, "psk", `"another-key-than-the-other-side-has"`), noNAT: true},
	{name: "duplicate", a: with(textA, "duplicates", `"never"`), then: joins(textB)},

	// Nothing comes back.
	{name: "no-answer", a: nobody, then: lasts(time.Minute)},
	{name: "no-answer-500", lost: port(500), then: lasts(time.Minute)},
	{name: "no-answer-4500", lost: port(4500), then: lasts(2 * time.Minute)},
	{name: "no-answer-both-nat", before: behindNAT, lost: port(4500), then: lasts(2 * time.Minute)},
	{name: "connecting", a: nobody},
	{name: "no-name", a: nobody, b: with(textB, "remote", `"vpn.example"`)},
	{name: "no-way", a: nobody, before: noWay},
	{name: "waiting", b: nobody},
	{name: "resolving", a: nobody, b: with(textB, "remote", `"vpn.example"`), before: resolvesSlowly},
	{name: "draining", then: func(w *world, a, _ *site) { noError(w, a.Drain("")) }},
	{name: "disconnected", then: func(_ *world, _, b *site) { _, _ = b.Disconnect("remote"); time.Sleep(time.Second) }},

	// Algorithms.
	{name: "ike-proposal", b: with(textB, "ike", `"aes256-sha256-modp2048"`), cured: true},
	{name: "ike-proposal-swanctl", a: swanctlA, b: with(textB, "ike", `"aes256-sha256-modp2048"`), cured: true},
	{name: "ike-proposal-vyos", a: vyosA, b: with(textB, "ike", `"aes256-sha256-modp2048"`)},
	{name: "ike-group", b: with(textB, "ike", `"aes128gcm16-prfsha256-ecp384"`), cured: true},
	{name: "esp-proposal", b: with(textB, "esp", `"aes256-sha256"`), cured: true},
	{name: "pfs-none-there", a: with(textA, "esp", `"aes128gcm16-ecp384"`), then: lasts(3 * time.Minute), cured: true},
	{name: "pfs-another-group", a: with(textA, "esp", `"aes128gcm16-ecp384"`), b: with(textB, "esp", `"aes128gcm16-x25519"`), then: lasts(3 * time.Minute)},
	{name: "post-quantum", a: with(textA, "post_quantum", `"require"`), b: with(textB, "post_quantum", `"off"`), cured: true},
	{name: "post-quantum-there", a: with(textA, "post_quantum", `"off"`), b: with(textB, "post_quantum", `"require"`), cured: true},
	{name: "ppk", a: with(textA, "ppk_required", "true", "ppk", `"a-post-quantum-key-of-32-bytes-or-more"`, "ppk_id", `"trunk"`)},

	// Traffic and addresses.
	{name: "selectors", b: with(textB, "local", `"10.99.0.0/24"`), cured: true},
	{name: "selectors-swanctl", a: swanctlA, b: with(textB, "local", `["10.99.0.0/24", "10.98.0.0/24"]`), cured: true},
	{name: "selectors-vyos", a: vyosA, b: with(textB, "local", `"10.99.0.0/24"`)},
	{name: "selectors-both", b: of(textB, `"10.99.0.0/24"`, `"10.98.0.0/24"`), cured: true},
	{name: "selectors-swapped", b: of(textB, `"10.103.0.0/24"`, `"10.104.0.0/24"`), cured: true},
	{name: "selectors-ports", a: of(textA, `"10.103.0.0/24"`, `"10.104.0.0/24[tcp/443]"`), b: of(textB, `"10.104.0.0/24[udp/53]"`, `"10.103.0.0/24"`), cured: true},
	{name: "narrowed-there", b: with(textB, "local", `["10.104.0.0/24", "10.105.0.0/24"]`)},
	{name: "narrowed-both", a: of(textA, `"10.103.0.0/16"`, `"10.104.0.0/24"`), b: of(textB, `"10.104.0.0/24"`, `["10.103.0.0/24", "10.7.0.0/24"]`)},
	{name: "single-pair", a: of(textA, `["10.103.0.0/24", "10.7.0.0/24"]`, `"10.104.0.0/24"`) + "single_pair = true\n", b: of(textB, `"10.104.0.0/24"`, `["10.103.0.0/24", "10.7.0.0/24"]`)},
	{name: "single-pair-of-many", a: of(textA, many(1, 9), many(101, 9)) + "single_pair = true\n", b: of(textB, many(101, 9), many(1, 9))},
	{name: "same-networks", a: textA + "\n" + elsewhere(secondOfA, "10.104.0.0/16"), then: joins(second)},
	{name: "shared-network", before: sharesNetwork},
	{name: "pool-exhausted", a: strings.Replace(textServer, "10.9.0.0/24", "fd00:9::/120", 1), b: textClient},
	{name: "no-pool", b: textClient},
	{name: "address-not-asked", a: textServer, cured: true},

	// It is up.
	{name: "esp-one-way", a: with(textA, either...), b: with(textB, either...), then: speaks(20, nil, fromB), after: lasts(time.Minute)},
	{name: "esp-blocked", a: with(textA, either...), b: with(textB, either...), then: steps(speaks(5, fromA, fromB), loses(esp(nattest.PrivateB), 0), speaks(30, fromA, fromB)),
		after: steps(loses(func(nattest.Datagram) bool { return false }, 0), speaks(3, fromA, fromB))},
	{name: "esp-dropped", a: with(textA, either...), b: with(textB, either...), then: forges, after: lasts(2 * time.Minute)},
	{name: "no-tunnel-for-it", then: func(_ *world, _, b *site) {
		for i := range 10 {
			b.device.InjectPacket(udp(netip.MustParseAddrPort("10.77.0.1:9"), hostA, noise(uint64(i), 10)))
		}
		time.Sleep(time.Second)
	}, after: lasts(2 * time.Minute)},
	{name: "too-big", then: func(_ *world, _, b *site) {
		for i := range 10 {
			b.device.InjectPacket(tcp(hostB, hostA, 1, flagACK, nil, noise(uint64(i), 1460)))
		}
		time.Sleep(time.Second)
	}, after: lasts(2 * time.Minute)},
	{name: "mtu-black-hole", lost: func(d nattest.Datagram) bool { return len(d.Bytes)+28 > 1420 }, then: lasts(30 * time.Second), after: lasts(0)},
	{name: "replayed", then: func(w *world, a, b *site) {
		w.treat(func(nattest.Datagram) nattest.Verdict { return nattest.Verdict{Copies: 9} })
		speaks(20, fromA, fromB)(w, a, b)
	}, after: lasts(2 * time.Minute)},

	{name: "stale", a: with(textA, "esp", `"aes128gcm16-noesn"`), b: with(textB, "esp", `"aes128gcm16-noesn"`), then: func(w *world, a, b *site) {
		n := 0
		w.treat(func(d nattest.Datagram) (v nattest.Verdict) {
			if n++; n <= 150 && esp(nattest.PrivateB)(d) {
				v.Delay = 12 * time.Second
			}
			return v
		})
		for i := range 10000 {
			b.device.InjectPacket(fromB(uint64(i), 100))
			if i%500 == 0 {
				a.device.InjectPacket(fromA(uint64(i), 100))
			}
			time.Sleep(2 * time.Millisecond)
		}
	}, after: lasts(2 * time.Minute)},
	{name: "no-packets", then: func(_ *world, _, b *site) {
		for range 10 {
			b.device.InjectPacket([]byte("no packet"))
		}
		time.Sleep(time.Second)
	}, after: lasts(2 * time.Minute)},
	{name: "half-open", a: "[gateway]\ncookie_threshold = \"off\"\n" + textA, then: floods, after: lasts(2 * time.Minute)},

	// Time.
	clockMoves("slept", time.Hour+3*time.Minute, 0),
	clockMoves("clock-forward", 0, 3*time.Hour),
	clockMoves("clock-back", 0, -3*time.Hour),

	// It does not stay up.
	{name: "dead-peer", then: steps(func(_ *world, a, _ *site) { a.kill() }, lasts(2*time.Minute), speaks(1, nil, fromB))},
	{name: "expired", a: with(textA, "esp", `"aes128gcm16-ecp384"`) + "lifetime = \"5m\"\n", b: textB + "lifetime = \"5m\"\n", then: lasts(6*time.Minute + 30*time.Second)},
	{name: "expired-traffic", a: with(textA, "esp", `"aes128gcm16-ecp384"`) + "lifetime = \"5m\"\n", b: textB + "lifetime = \"5m\"\nstart = \"traffic\"\n",
		then: steps(speaks(2, nil, fromB), lasts(6*time.Minute+30*time.Second))},
	{name: "rekey-storm", a: textA + "lifetime_packets = 100\n", then: func(_ *world, a, b *site) {
		for i := range 2000 {
			a.device.InjectPacket(fromA(uint64(i), 100))
			b.device.InjectPacket(fromB(uint64(i), 100))
			time.Sleep(33 * time.Millisecond)
		}
	}, after: lasts(2 * time.Minute)},
	{name: "flapping", then: func(w *world, _, b *site) {
		for range 4 {
			b.kill()
			b = w.start(w.net.B, "b", textB)
			time.Sleep(5 * time.Second)
		}
	}, after: lasts(15 * time.Minute)},
	{name: "same-identity-twice", then: steps(joins(textB), lasts(3*time.Minute))},
	{name: "restart", then: func(w *world, a, b *site) {
		a.kill()
		a = w.start(w.net.A, "a", textA)
		speaks(10, fromA, fromB)(w, a, b)
	}, after: lasts(15 * time.Minute)},
}

// clockMoves is B's machine, which sleeps, and has its clock set.
func clockMoves(name string, slept, set time.Duration) situation {
	var net *network
	return situation{name: name, after: lasts(15 * time.Minute), before: func(s *starting) {
		if s.name == "b" {
			n, watch := watched()
			net = n
			watch(s)
		}
	}, then: func(*world, *site, *site) {
		net.slept.Store(int64(slept))
		net.set.Store(int64(set))
		time.Sleep(30 * time.Second)
	}}
}

func resolvesSlowly(s *starting) {
	s.Options.Doors.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

func noWay(s *starting) {
	s.Options.Doors.LocalAddr = func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errors.New("network is unreachable") }
}

func sharesNetwork(s *starting) {
	if s.name == "a" {
		s.Doors.Host = func() (config.Host, error) {
			return config.Host{Networks: []config.Interface{{Name: "eth1", Address: netip.MustParsePrefix("10.104.0.9/24")}}}, nil
		}
	}
}

// floods has a stranger begin connections, as a real initiator does.
func floods(w *world, a, _ *site) {
	init := w.sent(port(500))[0].Bytes
	stranger := w.stranger(500)
	for i := range 100 {
		binary.BigEndian.PutUint64(init, uint64(i+1))
		_, err := stranger.Send([]natt.Run{{Bytes: init, Path: natt.Path{Remote: netip.AddrPortFrom(nattest.PublicA, 500)}}})
		noError(w, err)
		time.Sleep(10 * time.Millisecond)
	}
}

// forges has a stranger send damaged ESP, while A's host speaks.
func forges(w *world, a, b *site) {
	w.crosses(b, a, fromB(1, 100))
	esp := w.sent(esp(nattest.PrivateB))[0]
	stranger := w.stranger(4500)
	for i := range 30 {
		damaged := slices.Clone(esp.Bytes)
		damaged[7] += byte(i) + 100
		_, err := stranger.Send([]natt.Run{{Bytes: damaged, Path: natt.Path{Remote: esp.To}}})
		noError(w, err)
		a.device.InjectPacket(fromA(1, 100))
		time.Sleep(time.Second)
	}
}

// shownBy has the tests that show what needs more than two gateways in memory: a
// machine without a device, a peer at fault, a system that refuses a packet.
var shownBy = map[string]string{
	"no_tun": "cmd/culvert/nostart_test.go TestNoStart", "no_capability": "cmd/culvert/nostart_test.go TestNoStart", "port_taken": "cmd/culvert/nostart_test.go TestNoStart",
	"port_denied": "cmd/culvert/nostart_test.go TestNoStart", "no_such_local": "cmd/culvert/nostart_test.go TestNoStart",

	"dropped_bad_padding": "espcrypto/inbound_test.go TestTrailer", "dropped_bad_next_header": "gateway/inbound_test.go TestTrafficFlowConfidentiality",
	"dropped_congestion_not_understood": "gateway/inbound_test.go TestRunOfOneChildIsNotAnothers", "dropped_inbound_malformed": "gateway/inbound_test.go TestRunOfOneChildIsNotAnothers",
	"dropped_selector_violation": "gateway/inbound_test.go TestSelectorsEnforced", "dropped_truncated": "gateway/inbound_test.go TestClassified",
	"dropped_tun_write_error": "gateway/inbound_test.go TestDeviceRefusesWrites", "dropped_tun_read_error": "gateway/outbound_test.go TestDeviceErrors",
	"dropped_sequence_exhausted": "gateway/sequence_test.go TestSequenceExhausted", "dropped_segment_refused": "gateway/outbound_test.go TestUnsealableBatchIsTakenBack",
	"dropped_ike_inbox_full": "gateway/system_faults_test.go TestIKEFlood", "dropped_ike_malformed": "gateway/system_faults_test.go TestIKEFlood",
	"dropped_ike_integrity": "ikev2/iketest/fragment_test.go TestForgedTotal", "dropped_ike_fragment_limit": "ikev2/iketest/fragment_test.go TestAssembledLimit",
	"dropped_ike_fragment_incomplete": "ikev2/iketest/fragment_test.go TestFragmentTotalChanges", "dropped_ike_half_open_limit": "ikev2/iketest/limits_test.go TestHalfOpenFlood",
	"dropped_ike_no_random": "ikev2/iketest/limits_test.go TestRandomnessFails",
	"dropped_receive_error": "natt/conn_linux_test.go TestReceiveErrors", "dropped_receive_truncated": "natt/conn_linux_test.go TestReceiveErrors",
	"dropped_send_unreachable": "natt/conn_linux_test.go TestErrorsThatDropARun", "dropped_send_denied": "natt/conn_linux_test.go TestErrorsThatDropARun",
	"dropped_send_would_block": "natt/conn_linux_test.go TestErrorsThatDropARun", "dropped_send_no_buffer": "natt/conn_linux_test.go TestErrorsThatDropARun",
	"dropped_send_error": "natt/conn_linux_test.go TestErrorsThatDropARun", "dropped_send_too_big": "natt/conn_linux_test.go testFragmentation",
	"dropped_send_bad_address": "natt/nattest/nattest_test.go TestRunsAndErrors",
}

// TestEveryDiagnosisIsShown: whatever docs/troubleshooting.md has is what gateways
// said that ran, or stands above.
func TestEveryDiagnosisIsShown(t *testing.T) {
	doc, err := os.ReadFile("../docs/troubleshooting.md")
	noError(t, err)
	codes := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^### .* \\[(.+)\\]$|^\\| `(.+?)` \\| .* \\| [0-9]+ \\|").FindAllStringSubmatch(string(doc), -1) {
		codes[regexp.MustCompile("_udp[0-9]+").ReplaceAllString(cmp.Or(m[1], "dropped_"+m[2]), "")] = true
	}
	_, beside, _ := strings.Cut(string(doc), "Beside these,")
	beside, _, _ = strings.Cut(beside, ".\n")
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(strings.Replace(beside, "`explain`", "", 1), -1) {
		codes[m[1]] = true
	}
	files, err := filepath.Glob("testdata/explained/*.txt")
	noError(t, err)
	shown := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		noError(t, err)
		for _, says := range strings.Split(string(text), " explains --\n")[1:] {
			says, _, _ = strings.Cut(says, "\n-- ")
			for _, m := range regexp.MustCompile(`(?m)^\[([a-z0-9_]+)(, worth knowing)?\]$`).FindAllStringSubmatch(says, -1) {
				shown[m[1]] = true
			}
		}
	}
	if len(codes) < 60 {
		t.Errorf("%d codes found", len(codes))
	}
	for code := range codes {
		file, test, _ := strings.Cut(shownBy[code], " ")
		switch elsewhere, err := os.ReadFile(filepath.Join("..", file)); {
		case shown[code] && file != "":
			t.Errorf("%s is shown here, and need not be by %s", code, shownBy[code])
		case !shown[code] && (err != nil || !strings.Contains(string(elsewhere), "func "+test+"(")):
			t.Errorf("%s is shown by no situation, and by no test %q", code, shownBy[code])
		}
	}
	for _, all := range []map[string]bool{shown, keys(shownBy)} {
		for code := range all {
			if !codes[code] {
				t.Errorf("%s is not in docs/troubleshooting.md", code)
			}
		}
	}
}

func keys(m map[string]string) map[string]bool {
	all := map[string]bool{}
	for k := range m {
		all[k] = true
	}
	return all
}

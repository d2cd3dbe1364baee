package lab

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// StrongSwanSA is an IKE SA as strongSwan sees it, in its own words.
type StrongSwanSA struct {
	Name, State           string // State is "ESTABLISHED" when it is
	LocalHost, RemoteHost string
	LocalPort, RemotePort string
	LocalID, RemoteID     string
	InitiatorSPI          string // 16 hex digits
	ResponderSPI          string
	Initiator             bool
	NATLocal, NATRemote   bool // it found a NAT before itself, before the peer
	Encryption, KeySize   string
	Integrity             string // empty with an AEAD
	PRF, KeyExchange      string
	Children              []StrongSwanChildSA
}

// StrongSwanChildSA is a child SA as strongSwan sees it.
type StrongSwanChildSA struct {
	Name, State           string // State is "INSTALLED" when it is
	InSPI, OutSPI         string // 8 hex digits
	Encryption, KeySize   string
	Integrity             string // empty with an AEAD
	ESN                   bool
	Encap                 bool // in UDP
	LocalTS, RemoteTS     []string
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
}

// SAs lists the IKE SAs and their children.
func (s *StrongSwan) SAs(ctx context.Context) ([]StrongSwanSA, error) {
	raw, err := s.Swanctl(ctx, "--list-sas", "--raw")
	if err != nil {
		return nil, err
	}
	return parseSAs(raw)
}

// parseSAs reads what `swanctl --list-sas --raw` prints: an event an IKE SA, then
// an empty reply.
//
//	list-sa event {foo {version=2 child-sas {t1-1 {name=t1 local-ts=[10.0.0.0/8]}}}}
//	list-sas reply {}
func parseSAs(raw string) ([]StrongSwanSA, error) {
	var sas []StrongSwanSA
	for line := range strings.Lines(raw) {
		event, ok := strings.CutPrefix(line, "list-sa event ")
		if !ok {
			continue
		}
		top, err := parseVici(event)
		if err != nil {
			return nil, err
		}
		for _, sa := range top.sections {
			sas = append(sas, ikeSA(sa))
		}
	}
	return sas, nil
}

func ikeSA(v *viciSection) StrongSwanSA {
	sa := StrongSwanSA{
		Name: v.name, State: v.get("state"),
		LocalHost: v.get("local-host"), RemoteHost: v.get("remote-host"),
		LocalPort: v.get("local-port"), RemotePort: v.get("remote-port"),
		LocalID: v.get("local-id"), RemoteID: v.get("remote-id"),
		InitiatorSPI: v.get("initiator-spi"), ResponderSPI: v.get("responder-spi"),
		Initiator: v.yes("initiator"), NATLocal: v.yes("nat-local"), NATRemote: v.yes("nat-remote"),
		Encryption: v.get("encr-alg"), KeySize: v.get("encr-keysize"), Integrity: v.get("integ-alg"),
		PRF: v.get("prf-alg"), KeyExchange: v.get("dh-group"),
	}
	for _, children := range v.sections {
		for _, child := range children.sections {
			sa.Children = append(sa.Children, childSA(child))
		}
	}
	return sa
}

func childSA(v *viciSection) StrongSwanChildSA {
	return StrongSwanChildSA{
		Name: v.get("name"), State: v.get("state"),
		InSPI: v.get("spi-in"), OutSPI: v.get("spi-out"),
		Encryption: v.get("encr-alg"), KeySize: v.get("encr-keysize"), Integrity: v.get("integ-alg"),
		ESN: v.yes("esn"), Encap: v.yes("encap"),
		LocalTS: v.values["local-ts"], RemoteTS: v.values["remote-ts"],
		PacketsIn: v.number("packets-in"), PacketsOut: v.number("packets-out"),
		BytesIn: v.number("bytes-in"), BytesOut: v.number("bytes-out"),
	}
}

// viciSection is one `name {key=value key=[item item] name {...}}`.
type viciSection struct {
	name     string
	values   map[string][]string
	sections []*viciSection
}

func (v *viciSection) get(key string) string { return strings.Join(v.values[key], " ") }
func (v *viciSection) yes(key string) bool   { return v.get(key) == "yes" || v.get(key) == "1" }
func (v *viciSection) number(key string) (n uint64) {
	n, _ = strconv.ParseUint(v.get(key), 10, 64)
	return n
}

// parseVici reads one message, from its opening brace on.
func parseVici(text string) (*viciSection, error) {
	p := viciParser{rest: text}
	if !p.take('{') {
		return nil, p.fail()
	}
	return p.section("")
}

type viciParser struct{ rest string }

func (p *viciParser) fail() error {
	return fmt.Errorf("lab: cannot read swanctl's output at %.40q", p.rest)
}

// take consumes c, and blanks before it, if it comes next.
func (p *viciParser) take(c byte) bool {
	p.rest = strings.TrimLeft(p.rest, " \n")
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// word consumes what comes before any of the stops.
func (p *viciParser) word(stops string) string {
	end := strings.IndexAny(p.rest, stops)
	if end < 0 {
		end = len(p.rest)
	}
	w := p.rest[:end]
	p.rest = p.rest[end:]
	return w
}

// section reads up to the closing brace.
func (p *viciParser) section(name string) (*viciSection, error) {
	v := &viciSection{name: name, values: map[string][]string{}}
	for !p.take('}') {
		key := p.word("={} \n")
		switch {
		case key == "":
			return nil, p.fail()
		case p.take('='):
			if err := p.value(v, key); err != nil {
				return nil, err
			}
		case p.take('{'):
			sub, err := p.section(key)
			if err != nil {
				return nil, err
			}
			v.sections = append(v.sections, sub)
		default:
			return nil, p.fail()
		}
	}
	return v, nil
}

func (p *viciParser) value(v *viciSection, key string) error {
	if !p.take('[') {
		v.values[key] = []string{p.word(" }\n")}
		return nil
	}
	depth := 1 // an item may have brackets of its own: 10.0.0.0/8[udp/53]
	for i, c := range p.rest {
		switch c {
		case '[':
			depth++
		case ']':
			depth--
		}
		if depth == 0 {
			v.values[key] = strings.Fields(p.rest[:i])
			p.rest = p.rest[i+1:]
			return nil
		}
	}
	return p.fail()
}

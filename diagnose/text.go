package diagnose

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxText = 96  // characters of one name, identity or selector
	maxPath = 256 // characters of a file's path
	maxList = 8   // entries of a list
)

// compose makes a Report of its summary and the sentences after it, without the empty ones.
func compose(code, summary string, sentences ...string) Report {
	detail := strings.ToUpper(summary[:1]) + summary[1:] + "."
	for _, s := range sentences {
		if s != "" {
			detail += " " + s
		}
	}
	return Report{Code: code, Summary: summary, Detail: detail}
}

// clean escapes all but printable ASCII and bounds the length. Text that is clean comes back as it is.
func clean(s string) string { return cleanTo(s, maxText) }

func cleanTo(s string, limit int) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		piece := s[i : i+n]
		if r < ' ' || r > '~' {
			piece = strconv.QuoteToASCII(piece)
			piece = piece[1 : len(piece)-1]
		}
		if b.Len()+len(piece) > limit {
			return b.String() + "..."
		}
		b.WriteString(piece)
		i += n
	}
	return b.String()
}

// list joins words, the first few of them: "a, b and 7 more".
func list(words []string) string {
	if len(words) == 0 {
		return "nothing"
	}
	shown := make([]string, 0, maxList)
	for _, w := range words[:min(len(words), maxList)] {
		shown = append(shown, clean(w))
	}
	joined := strings.Join(shown, ", ")
	if more := len(words) - len(shown); more > 0 {
		return fmt.Sprintf("%s and %d more", joined, more)
	}
	return joined
}

func (c Connection) String() string { return "connection " + clean(c.Name) }

// String is the identity with its type: "@foo (FQDN)".
func (id Identity) String() string {
	if id == (Identity{}) {
		return "nothing"
	}
	return fmt.Sprintf("%s (%s)", clean(id.Text), clean(id.Type))
}

var articles = map[string]string{
	TypeIPv4: "an IPv4", TypeIPv6: "an IPv6", TypeFQDN: "an FQDN", TypeUserFQDN: "a user@FQDN", TypeKeyID: "a key ID",
}

// presented is the identity as something said: "172.16.0.1 as an IPv4 identity".
func (id Identity) presented() string {
	if id == (Identity{}) {
		return "no identity"
	}
	if a, ok := articles[id.Type]; ok {
		return fmt.Sprintf("%s as %s identity", clean(id.Text), a)
	}
	return fmt.Sprintf("%s as an identity of type %s", clean(id.Text), clean(id.Type))
}

// String is where the peer is: "192.0.2.10:4500 behind NAT".
func (p Peer) String() string {
	if p.NAT.Remote {
		return p.Addr.String() + " behind NAT"
	}
	return p.Addr.String()
}

// sentence tells what NAT detection found, on which side.
func (n NAT) sentence() string {
	switch {
	case !n.Known:
		return "Whether there is a NAT in between is not known."
	case n.Local && n.Remote:
		return "Both sides are behind NAT."
	case n.Local:
		return "This side is behind NAT, the peer is not."
	case n.Remote:
		return "The peer is behind NAT, this side is not."
	}
	return "There is no NAT in between."
}

// assign is the key with its new values as the format writes it.
func (s Setting) assign(values ...string) string {
	if s.Style == VyOS {
		for i, v := range values {
			values[i] = cleanTo(s.Key, maxPath) + " " + bare(v)
		}
		return strings.Join(values, "; ")
	}
	for i, v := range values {
		values[i] = strconv.Quote(v)
	}
	value := strings.Join(values, ", ")
	if len(values) != 1 {
		value = "[" + value + "]"
	}
	return cleanTo(s.Key, maxPath) + " = " + value
}

// bare quotes a value only where a space or a quote demands it.
func bare(v string) string {
	if v == "" || strings.ContainsAny(v, " '\"\\;#{}") {
		return strconv.Quote(v)
	}
	return v
}

// place is where the setting stands: "line 12 of /etc/culvert/a.toml (remote_id)".
func (s Setting) place() string {
	if s.Line > 0 {
		return fmt.Sprintf("line %d of %s (%s)", s.Line, cleanTo(s.File, maxPath), cleanTo(s.Key, maxPath))
	}
	return fmt.Sprintf("%s in %s", cleanTo(s.Key, maxPath), cleanTo(s.File, maxPath))
}

// change tells to give the setting of c another value. what names the setting for where the configuration gives it no place.
func (c Connection) change(s Setting, what string, values ...string) string {
	switch {
	case s.Key == "" || s.File == "":
		return fmt.Sprintf("set the %s of %s to %s", what, c, list(values))
	case s.Line == 0:
		return fmt.Sprintf("add %s to %s in %s", s.assign(values...), c, cleanTo(s.File, maxPath))
	}
	return fmt.Sprintf("change line %d of %s to %s", s.Line, cleanTo(s.File, maxPath), s.assign(values...))
}

// isPrivate says that the text is an address which the outside never sees: RFC 1918, RFC 4193, RFC 6598, link-local or loopback.
func isPrivate(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && (a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() || carrierNAT.Contains(a))
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

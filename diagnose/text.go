package diagnose

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxText = 96   // characters of one name, identity or selector
	maxPath = 256  // characters of a file's path
	maxList = 8    // entries of a list
	maxCode = 1200 // characters of a configuration's line
	maxLine = 200  // characters after which a list takes no further entry
)

// compose makes a Report of its summary and the sentences after it, without the empty ones.
func compose(code, summary string, sentences ...string) Report {
	detail := capital(summary) + "."
	for _, s := range sentences {
		if s != "" {
			detail += " " + s
		}
	}
	return Report{Code: code, Summary: summary, Detail: detail}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

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

// list joins words, as many as are easily read: "a, b and 7 more".
func list(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i == maxList || b.Len() > maxLine {
			return fmt.Sprintf("%s and %d more", b.String(), len(words)-i)
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(clean(w))
	}
	if len(words) == 0 {
		return "nothing"
	}
	return b.String()
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
		return "NAT detection gave no result."
	case n.Local && n.Remote:
		return "Both sides are behind NAT."
	case n.Local:
		return "This side is behind NAT, the peer is not."
	case n.Remote:
		return "The peer is behind NAT, this side is not."
	}
	return "There is no NAT in between."
}

// assign is the key with another value, as the format writes it.
func (s Setting) assign(value string) string {
	switch s.Style {
	case VyOS:
		return code(s.Key + " " + bare(value))
	case Swanctl:
		_, key := s.section()
		return code(key + " = " + bare(value))
	}
	return code(s.Key + " = " + strconv.Quote(value))
}

// section is where a key of swanctl.conf is, and its name there.
func (s Setting) section() (path, key string) {
	if i := strings.LastIndexByte(s.Key, '.'); s.Style == Swanctl && i >= 0 {
		return s.Key[:i], s.Key[i+1:]
	}
	return "", s.Key
}

// assignList is the same for a key that takes several values: an array in TOML, a line each in VyOS.
func (s Setting) assignList(values []string) string {
	if s.Style == Swanctl {
		_, key := s.section()
		return code(key + " = " + strings.Join(values, ", "))
	}
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = strconv.Quote(v)
		if s.Style == VyOS {
			words[i] = s.assign(v)
		}
	}
	if s.Style == VyOS {
		return strings.Join(words, " and ")
	}
	return code(s.Key + " = [" + strings.Join(words, ", ") + "]")
}

// code sets what belongs into a configuration apart from the sentence around it.
func code(s string) string { return "`" + cleanTo(s, maxCode) + "`" }

// bare quotes a value only where a space or a quote demands it.
func bare(v string) string {
	if v == "" || strings.ContainsAny(v, " '\"\\;#{}") {
		return strconv.Quote(v)
	}
	return v
}

// place is where the setting stands: "line 12 of /etc/culvert/a.toml (`remote_id`)".
func (s Setting) place() string {
	if s.Line > 0 {
		return fmt.Sprintf("line %d of %s (%s)", s.Line, cleanTo(s.File, maxPath), code(s.Key))
	}
	return fmt.Sprintf("%s in %s", code(s.Key), cleanTo(s.File, maxPath))
}

// change tells to give the setting of c another value, which written is in the format of its file. what and value name both where the facts
// have no place for the setting.
func (c Connection) change(s Setting, written, what, value string) string {
	switch {
	case s.Key == "" || s.File == "":
		return fmt.Sprintf("set the %s of %s to %s", what, c, value)
	case s.Line == 0 && c.Name == "":
		return fmt.Sprintf("add %s in %s", written, cleanTo(s.File, maxPath))
	case s.Line == 0 && s.Style == Swanctl:
		section, _ := s.section()
		return fmt.Sprintf("add %s to %s in %s", written, code(section), cleanTo(s.File, maxPath))
	case s.Line == 0:
		return fmt.Sprintf("add %s to %s in %s", written, c, cleanTo(s.File, maxPath))
	}
	return s.rewrite(written)
}

// rewrite tells to change the line of a setting that is there.
func (s Setting) rewrite(written string) string {
	return fmt.Sprintf("change line %d of %s to %s", s.Line, cleanTo(s.File, maxPath), written)
}

// isPrivate says that the text is an address which the outside never sees: RFC 1918, RFC 4193, RFC 6598, link-local or loopback.
func isPrivate(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && (a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() || carrierNAT.Contains(a))
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

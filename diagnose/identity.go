package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// UnknownIdentity is a responder's view: an initiator presented an identity, and perhaps asked for one of ours, and no connection has this pair.
type UnknownIdentity struct {
	Peer      Peer
	Presented Identity // its IDi
	Wanted    Identity // its IDr, zero where it sent none
	// Connections are all that there are.
	Connections []Connection
}

// Report finds the connection that the peer most likely meant, and what differs.
func (f UnknownIdentity) Report() Report {
	if i := slices.IndexFunc(f.Connections, func(c Connection) bool { return c.RemoteID == f.Presented }); i >= 0 {
		return f.notWhomItWanted(f.Connections[i])
	}
	var expected Connection
	if i := f.nearest(); i >= 0 {
		expected = f.Connections[i]
	}
	m := mismatch{f.Peer, f.Presented, expected.RemoteID}
	r := m.relation()
	summary := fmt.Sprintf("peer at %v presented %s; %s", f.Peer, f.Presented.presented(), f.expectation(expected))
	if len(f.Connections) == 0 {
		return compose(r.code, summary, f.Peer.NAT.sentence(), toldOnly)
	}
	return compose(r.code, summary, r.why(m), r.fix(m, expected), f.Peer.NAT.sentence(), f.others(), toldOnly)
}

const toldOnly = "The peer was told only AUTHENTICATION_FAILED."

func (f UnknownIdentity) expectation(c Connection) string {
	switch {
	case c.Name != "":
		return fmt.Sprintf("%v expects %v", c, c.RemoteID)
	case len(f.Connections) == 0:
		return "no connection is configured here"
	}
	return fmt.Sprintf("none of the %d connections here expects that", len(f.Connections))
}

// nearest is the connection whose identity differs only in how it is written, else the one configured for the peer's address, else the only
// one that is not configured for another address; -1 where there is no telling.
func (f UnknownIdentity) nearest() int {
	peer := f.Peer.Addr.Addr().String()
	spelled := func(c Connection) bool { return mismatch{f.Peer, f.Presented, c.RemoteID}.relation().spelling }
	addressed := func(c Connection) bool { return c.Remote == peer }
	possible := func(c Connection) bool { _, err := netip.ParseAddr(c.Remote); return err != nil || c.Remote == peer }
	for _, likely := range []func(Connection) bool{spelled, addressed} {
		if i := slices.IndexFunc(f.Connections, likely); i >= 0 {
			return i
		}
	}
	first := slices.IndexFunc(f.Connections, possible)
	if first >= 0 && !slices.ContainsFunc(f.Connections[first+1:], possible) {
		return first
	}
	return -1
}

// others lists what the connections expect, where there are several.
func (f UnknownIdentity) others() string {
	if len(f.Connections) < 2 {
		return ""
	}
	expected := make([]string, len(f.Connections))
	for i, c := range f.Connections {
		expected[i] = fmt.Sprintf("%s by %s", clean(c.RemoteID.Text), clean(c.Name))
	}
	return "Expected here: " + list(expected) + "."
}

// notWhomItWanted is the case of a peer that we know and that asked for somebody else.
func (f UnknownIdentity) notWhomItWanted(c Connection) Report {
	summary := fmt.Sprintf("peer at %v presented %s, which %v expects, but asked for %v; here, this side is %v",
		f.Peer, f.Presented.presented(), c, f.Wanted, c.LocalID)
	why := "The peer expects another identity of this side than this side has."
	if f.Peer.NAT.Local && isPrivate(c.LocalID.Text) {
		why = fmt.Sprintf("This side is behind NAT and calls itself by its private address %s, which the peer never sees.", clean(c.LocalID.Text))
	}
	fix := fmt.Sprintf("there, have it expect %s of this side (%s).", clean(c.LocalID.Text), peerKeys("remote_id", "remote-id", c.LocalID))
	if f.Wanted.writable() {
		fix = fmt.Sprintf("either here, %s; or %s", c.changeID(c.LocalIDAt, "local", f.Wanted), fix)
	}
	return compose("identity_not_ours", summary, why, capital(fix), f.Peer.NAT.sentence(), toldOnly)
}

// WrongResponder is an initiator's view: the responder presented an identity that is not the one we expect.
type WrongResponder struct {
	Peer       Peer
	Presented  Identity // its IDr
	Connection Connection
}

// Report says what differs between the identity that was presented and the one expected.
func (f WrongResponder) Report() Report {
	c := f.Connection
	m := mismatch{f.Peer, f.Presented, c.RemoteID}
	r := m.relation()
	summary := fmt.Sprintf("responder at %v presented %s; %v expects %v", f.Peer, f.Presented.presented(), c, c.RemoteID)
	return compose(r.code, summary, r.why(m), r.fix(m, c), f.Peer.NAT.sentence(), "No tunnel was made, and no traffic went to it.")
}

// A mismatch is an identity against the one that was expected in its place.
type mismatch struct {
	peer                Peer
	presented, expected Identity
}

// A relation is one way in which two identities can differ, and what that means.
type relation struct {
	code     string
	spelling bool // the same identity, written differently
	holds    func(m mismatch) bool
	why      func(m mismatch) string
}

// relations, the most telling first. The last one always holds.
var relations = []relation{
	{"identity_at_sign", true, mismatch.differsInAt, func(m mismatch) string {
		return fmt.Sprintf("They differ by an '@'. One '@' in front says that a name follows and is not part of it; the peer %s.", m.atMistake())
	}},
	{"identity_type", true, mismatch.differsInType, func(m mismatch) string {
		s := fmt.Sprintf("The text is the same, the type is not, and both count: the peer sent %s, and %s is expected.", typeOf(m.presented), typeOf(m.expected))
		if m.presented.Type == TypeFQDN || m.expected.Type == TypeFQDN {
			s += " In most configurations an '@' in front makes a name of any text."
		}
		return s
	}},
	{"identity_case", true, mismatch.differsInCase, func(mismatch) string {
		return "They differ only in upper and lower case, and identities are compared byte for byte."
	}},
	{"identity_private_address", false, mismatch.isHidden, func(m mismatch) string {
		return fmt.Sprintf("%s is the peer's private address: a peer that was given no identity uses its interface's address, and the NAT in front of it shows %s instead.",
			clean(m.presented.Text), m.peer.Addr.Addr())
	}},
	{"identity_address_for_name", false, func(m mismatch) bool {
		return m.expected.Text != "" && m.presented.isAddress() && !m.expected.isAddress()
	}, func(m mismatch) string {
		return fmt.Sprintf("The peer identifies itself by an address, as one does that was given no identity, and %s is expected.", typeOf(m.expected))
	}},
	{"identity_name_for_address", false, func(m mismatch) bool { return m.expected.isAddress() && !m.presented.isAddress() }, func(m mismatch) string {
		return fmt.Sprintf("The peer identifies itself by %s, and its address is expected.", typeOf(m.presented))
	}},
	{"identity_unknown", false, func(mismatch) bool { return true }, func(m mismatch) string {
		if m.expected.Text == "" {
			return "The identity and its type must be equal to what one connection expects."
		}
		return "They are different identities."
	}},
}

func (m mismatch) relation() relation {
	return relations[slices.IndexFunc(relations, func(r relation) bool { return r.holds(m) })]
}

func (m mismatch) differsInAt() bool {
	named := func(id Identity) bool { return id.Type == TypeFQDN || id.Type == TypeUserFQDN || id.Type == TypeKeyID }
	return named(m.presented) && named(m.expected) && m.presented != m.expected && m.presented.name() == m.expected.name() &&
		(strings.Count(m.presented.value(), "@") != strings.Count(m.expected.value(), "@"))
}

func (m mismatch) differsInType() bool {
	return m.expected.Text != "" && m.presented.Type != m.expected.Type && m.presented.name() == m.expected.name()
}

func (m mismatch) differsInCase() bool {
	return m.presented.Type == m.expected.Type && strings.EqualFold(m.presented.Text, m.expected.Text)
}

// isHidden: a private address that comes from behind a NAT, or from another, public address.
func (m mismatch) isHidden() bool {
	return m.presented.isAddress() && isPrivate(m.presented.Text) && m.presented.Text != m.peer.Addr.Addr().String() &&
		(m.peer.NAT.Remote || !isPrivate(m.peer.Addr.Addr().String()))
}

func (m mismatch) atMistake() string {
	if strings.Count(m.presented.value(), "@") > strings.Count(m.expected.value(), "@") {
		return "has one too many in its configuration, or its format takes names without"
	}
	return "has none where one belongs, or its format takes names without"
}

// fix tells what to change: there to what is expected here, or here to what was presented where a configuration can name that.
func (r relation) fix(m mismatch, c Connection) string {
	if c.Name == "" {
		return "There, set the peer's own identity to the one that its connection here expects."
	}
	fix := fmt.Sprintf("there, set the peer's own identity to %s (%s)", clean(m.expected.Text), peerKeys("local_id", "local-id", m.expected))
	if m.presented.writable() {
		fix = fmt.Sprintf("either %s; or here, %s", fix, c.changeID(c.RemoteIDAt, "remote", m.presented))
		if c.RemoteIDAt.Style != TOML { // where keys stand apart, with the identities that they are for
			fix += ", and where its pre-shared key names that identity"
		}
	}
	return capital(fix) + "."
}

func (c Connection) changeID(s Setting, side string, id Identity) string {
	return c.change(s, s.assign(id.Text), side+" identity", id.Text)
}

// peerKeys is how a peer's configuration would say it.
func peerKeys(toml, vyos string, id Identity) string {
	text := clean(id.Text)
	words := fmt.Sprintf("%s; in VyOS: %s", Setting{Key: toml}.assign(text), Setting{Key: "authentication " + vyos, Style: VyOS}.assign(text))
	if id.Type == TypeKeyID { // which strongSwan writes otherwise
		return words
	}
	return words + fmt.Sprintf("; in swanctl.conf: %s", code(strings.Replace(toml, "_id", ".id", 1)+" = "+bare(text)))
}

// typeOf is the identity's type with its article, for the middle of a sentence.
func typeOf(id Identity) string {
	switch id.Type {
	case TypeFQDN:
		return "a name (FQDN)"
	case TypeIPv4, TypeIPv6:
		return "an " + id.Type
	}
	return "a " + clean(id.Type)
}

func (id Identity) isAddress() bool { return id.Type == TypeIPv4 || id.Type == TypeIPv6 }

// value is the identity without what marks its type: the field on the wire, where that is text.
func (id Identity) value() string {
	switch id.Type {
	case TypeFQDN:
		return strings.TrimPrefix(id.Text, "@")
	case TypeKeyID:
		return strings.TrimPrefix(id.Text, "keyid:")
	}
	return id.Text
}

// name is the value without any '@' in front.
func (id Identity) name() string { return strings.TrimLeft(id.value(), "@") }

// writable says that a configuration here can name the identity, and that it can be printed in full.
func (id Identity) writable() bool {
	if id.Text == "" || clean(id.Text) != id.Text {
		return false
	}
	switch id.Type {
	case TypeIPv4, TypeIPv6:
		_, err := netip.ParseAddr(id.Text)
		return err == nil
	case TypeFQDN:
		return strings.Count(id.Text, "@") == 1
	case TypeUserFQDN:
		return strings.Index(id.Text, "@") > 0
	}
	return id.Type == TypeKeyID
}

package diagnose

import (
	"fmt"
	"net/netip"
)

// WrongKey is the view of a side that knows both identities and finds that the peer's AUTH value is not made with the key it has for them.
type WrongKey struct {
	Peer       Peer
	Connection Connection
}

// Report names the pair of identities and where its key is. The key itself is not among the facts.
func (f WrongKey) Report() Report {
	c := f.Connection
	summary := fmt.Sprintf("peer at %v presented %s, which %v expects, but proved it with another pre-shared key", f.Peer, c.RemoteID.presented(), c)
	key := "the key of " + c.String()
	if c.KeyAt.Key != "" {
		key = "the key at " + c.KeyAt.place()
	}
	return compose("wrong_key", summary,
		fmt.Sprintf("The identities fit: the peer is %v and this side is %v. Only the key for this pair differs.", c.RemoteID, c.LocalID),
		fmt.Sprintf("Here it is %s: set it and the peer's to the same bytes, and look for quotes, spaces or a line end that became part of one of them.", key),
		f.Peer.NAT.sentence())
}

// RefusedByPeer is an initiator's view of AUTHENTICATION_FAILED: what it sent itself is all that it knows.
type RefusedByPeer struct {
	Peer       Peer
	Connection Connection
}

// Report gives the initiator's half: what it said it is, what it asked for, and what the peer must have for that.
func (f RefusedByPeer) Report() Report {
	c := f.Connection
	summary := fmt.Sprintf("peer at %v refused %v with AUTHENTICATION_FAILED; this side identified itself as %v", f.Peer, c, c.LocalID)
	asked := fmt.Sprintf("This side expects the peer to be %v.", c.RemoteID)
	if f.isHidden() {
		return compose("refused_private_address", summary, asked, f.hidden(), f.Peer.NAT.sentence(), onlyPeerKnows)
	}
	return compose("refused", summary, asked, f.causes(), f.places(), f.Peer.NAT.sentence(), onlyPeerKnows)
}

// RefusedOtherwise is a side's view of an error that its peer answered with, and that is none of the others'.
type RefusedOtherwise struct {
	Peer       Peer
	Connection Connection
	Tunnel     string // empty for the connection as a whole
	Notify     string // the error's name: "TEMPORARY_FAILURE"
}

// notifies are what errors of the peer's mean and come of.
var notifies = map[string]string{
	"TEMPORARY_FAILURE": "It cannot now: most often because it is connected already to somebody with the same identity and keeps that connection, which is another device that needs an identity of its own, or this one's connection of before, which the peer finds dead after a while.",
	"NO_ADDITIONAL_SAS": "It has as many tunnels as it makes for one connection; AWS makes one: write one tunnel with larger networks, on both sides.",
}

// Report says what the error means, where that is known.
func (f RefusedOtherwise) Report() Report {
	what := f.Connection.String()
	if f.Tunnel != "" {
		what = fmt.Sprintf("tunnel %s of %s", clean(f.Tunnel), f.Connection)
	}
	why := notifies[f.Notify]
	if why == "" {
		why = "Why, only the peer's log says."
	}
	return compose("refused_otherwise", fmt.Sprintf("peer at %v refused %s with %s", f.Peer, what, clean(f.Notify)), why, "It is asked again from time to time.")
}

const onlyPeerKnows = "AUTHENTICATION_FAILED never says why; the peer's log does."

func (f RefusedByPeer) isHidden() bool {
	return f.Peer.NAT.Local && f.Connection.LocalID.isAddress() && isPrivate(f.Connection.LocalID.Text)
}

func (f RefusedByPeer) hidden() string {
	c := f.Connection
	name := c.newName()
	return fmt.Sprintf("%s is a private address that the NAT hides, and the usual cause is that the peer does not expect it: %s, and have the peer expect that name (%s).",
		clean(c.LocalID.Text), c.changeID(c.LocalIDAt, "local", name), peerKeys("remote_id", "remote-id", name))
}

// newName is a name for this side to take. A connection that is named by an address has that of the peer.
func (c Connection) newName() Identity {
	if _, err := netip.ParseAddr(c.Name); err == nil {
		return Identity{TypeFQDN, "@this-gateway"}
	}
	return Identity{TypeFQDN, "@" + clean(c.Name)}
}

func (f RefusedByPeer) causes() string {
	c := f.Connection
	return fmt.Sprintf("Three things have to be right there: it expects %s of this side (%s), it is %s itself (%s), and its pre-shared key is the same.",
		clean(c.LocalID.Text), peerKeys("remote_id", "remote-id", c.LocalID), clean(c.RemoteID.Text), peerKeys("local_id", "local-id", c.RemoteID))
}

func (f RefusedByPeer) places() string {
	c := f.Connection
	if c.LocalIDAt.Key == "" || c.RemoteIDAt.Key == "" || c.KeyAt.Key == "" {
		return ""
	}
	return fmt.Sprintf("What they have to fit here is in %s, %s and %s.", c.LocalIDAt.place(), c.RemoteIDAt.place(), c.KeyAt.place())
}

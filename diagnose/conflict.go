package diagnose

import "fmt"

// SameNetworks is a side's view of two peers with the same inner addresses, the later of which it refused.
type SameNetworks struct {
	Peer       Peer
	Connection Connection
	Tunnel     string     // name of the child SA that was not made
	Remote     []Selector // what it was to protect on the peer's side
	RemoteAt   Setting

	// Rival is the connection that has these addresses, by RivalTunnel, whose networks on that side are RivalRemote.
	Rival         Connection
	RivalTunnel   string
	RivalRemote   []Selector
	RivalRemoteAt Setting
}

// Report names both connections and the two lines of which one has to change.
func (f SameNetworks) Report() Report {
	return compose("same_networks",
		fmt.Sprintf("peer at %v cannot have %s for %s tunnel %s: %s tunnel %s has %s", f.Peer, texts(f.Remote), f.Connection, clean(f.Tunnel),
			f.Rival, clean(f.RivalTunnel), f.overlap()),
		"A packet for these addresses can go to one peer only, and the one that was there first keeps them.",
		"Give the two sites networks of their own, or translate the addresses of one of them there; where both are ways to one site, disconnect the other first.",
		f.places())
}

func (f SameNetworks) overlap() string {
	if texts(f.Remote) == texts(f.RivalRemote) {
		return "them"
	}
	return texts(f.RivalRemote) + ", which overlaps"
}

func (f SameNetworks) places() string {
	if f.RemoteAt.Key == "" || f.RivalRemoteAt.Key == "" {
		return ""
	}
	return fmt.Sprintf("They are set in %s and in %s.", f.RemoteAt.place(), f.RivalRemoteAt.place())
}

// Duplicate is a side's view of a peer that connected a second time, and was refused because its first connection stays.
type Duplicate struct {
	Peer       Peer
	Connection Connection
	PolicyAt   Setting // the key that says what becomes of duplicates
	Policy     string  // its value
}

// Report says what becomes of the newcomer, and what it may be.
func (f Duplicate) Report() Report {
	place := ""
	if f.PolicyAt.Key != "" {
		place = fmt.Sprintf("To let a newcomer take the place, change %s.", f.PolicyAt.place())
	}
	return compose("duplicate", fmt.Sprintf("peer at %v is connected already as %v, and %s keeps that connection", f.Peer, f.Connection, code(f.Policy)),
		"Either the peer has lost its connection and comes back, and then it is let in as soon as the old one is found dead, in about 15 seconds; or two devices have the same identity, and each of them needs its own.",
		place)
}

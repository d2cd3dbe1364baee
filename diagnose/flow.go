package diagnose

import (
	"fmt"
	"time"
)

// OneWay is the view of a side whose tunnel is up and carries packets in one direction only.
type OneWay struct {
	Peer       Peer
	Connection Connection
	Tunnel     string
	// Out: packets go out and none come in; else they come in and none go out. Packets are those, since the last one of the other direction, or
	// since the tunnel is up where there was Never one.
	Out     bool
	Never   bool
	Packets uint64
	For     time.Duration
	// Dropped are counters of what arrived meanwhile and went no further, with their numbers: "selector_violation 12".
	Dropped []string
	// Local and Remote are the tunnel's networks.
	Local, Remote []Selector
}

// Report says what the direction that works rules out, and where to look.
func (f OneWay) Report() Report {
	tunnel := fmt.Sprintf("tunnel %s of %s", clean(f.Tunnel), f.Connection)
	if !f.Out {
		return compose("nothing_sent", fmt.Sprintf("%s gets packets and has none to send back: %d came in%s", tunnel, f.Packets, within(f.For)),
			fmt.Sprintf("They were decrypted and handed to this machine for %s. Either nobody there answers (the host is down, or its own firewall refuses them), or the answers do not come here: on that network, lead %s to this machine, and let it forward (`sysctl net.ipv4.ip_forward`).",
				texts(f.Local), texts(f.Remote)),
			"If nothing is to be sent back, this is right.")
	}
	summary := fmt.Sprintf("%s sends and gets nothing back: %d packets went out%s", tunnel, f.Packets, within(f.For))
	if len(f.Dropped) > 0 {
		return compose("esp_dropped", summary, fmt.Sprintf("Something comes back, and is dropped here: %s. What that counter says is the cause to look at first.", list(f.Dropped)))
	}
	since := "Packets did come in before, so the way was open then: the peer or a host behind it has stopped answering, or the way back has changed."
	if f.Never {
		since = "Not one has come in since the tunnel is up."
	}
	return compose("esp_one_way", summary, since,
		fmt.Sprintf("The IKE messages pass both ways between the same two UDP ports as ESP, so a blocked port 4500 is not the cause. Look, in this order: does a host in %s answer at all (its own firewall, its route back to %s by way of the peer)? Does the peer forward, and count packets in and out of this tunnel? Does it send ESP without UDP around it, which does not arrive here: there, force UDP encapsulation (strongSwan: `encap = yes`; VyOS: `force-udp-encapsulation`).",
			texts(f.Remote), texts(f.Local)),
		f.Peer.NAT.sentence(), "If nothing is to come back, this is right.")
}

// RekeyStorm is the view of a side whose keys are replaced all the time.
type RekeyStorm struct {
	Peer       Peer
	Connection Connection
	Rekeys     int
	During     time.Duration
	LifetimeAt Setting
}

// Report says whose lifetime to look at.
func (f RekeyStorm) Report() Report {
	place := ""
	if f.LifetimeAt.Key != "" {
		place = fmt.Sprintf("Here, the lifetime is set by %s.", f.LifetimeAt.place())
	}
	return compose("rekey_storm", fmt.Sprintf("%s gets new keys all the time: %d times%s", f.Connection, f.Rekeys, within(f.During)),
		"A lifetime of one side is far too short (seconds in place of minutes, or a byte limit that the traffic reaches at once), or the two sides replace each other's keys in turns. Make the lifetime of one side longer than the other's: then only the other one rekeys.",
		place)
}

// Flapping is the view of a side whose peer connects again and again.
type Flapping struct {
	Peer       Peer
	Connection Connection
	Times      int
	During     time.Duration
	// Addresses are where it came from, each once.
	Addresses []string
}

// Report tells one peer that restarts from two with one identity.
func (f Flapping) Report() Report {
	summary := fmt.Sprintf("%s was made anew %d times%s", f.Connection, f.Times, within(f.During))
	if len(f.Addresses) > 1 {
		return compose("same_identity_twice", summary,
			fmt.Sprintf("It came from %s in turns: two devices have the identity %s, and each throws the other out. Give each an identity and a connection of its own.", list(f.Addresses), f.Connection.RemoteID))
	}
	return compose("flapping", summary,
		"The peer restarts, or ends the connection and begins again: its log says why. Two devices behind one NAT with one identity look the same from here, and so does another device with the identity of this side, which the peer takes in its place: each needs its own.")
}

// Ended is the view of a side whose connection or tunnel ended without being replaced.
type Ended struct {
	Peer       Peer
	Connection Connection
	Tunnel     string // empty for the connection as a whole
	// Dead: the peer stopped answering. Deleted: it ended the connection. Else the lifetime was over.
	Dead, Deleted          bool
	LifetimeAt, LivenessAt Setting
	// VolumeAt is what limits how much a tunnel carries, if something does.
	VolumeAt Setting
}

// Report says what to look at so that it does not end again.
func (f Ended) Report() Report {
	what := f.Connection.String()
	if f.Tunnel != "" {
		what = fmt.Sprintf("tunnel %s of %s", clean(f.Tunnel), f.Connection)
	}
	if f.Deleted {
		return compose("deleted_by_peer", fmt.Sprintf("%s is down: the peer at %v ended it", what, f.Peer),
			"It was shut down or is being restarted, or somebody took the connection down there, or another connection with the same identity took the place of this one, or it found no use for a connection without its tunnel: its log says which.")
	}
	if f.Dead {
		place := ""
		if f.LivenessAt.Key != "" {
			place = fmt.Sprintf("How soon that is noticed is set by %s.", f.LivenessAt.place())
		}
		return compose("dead_peer", fmt.Sprintf("%s is down: the peer at %v does not answer any more", what, f.Peer),
			"It was up, so the two configurations fit: the peer or its network is down, or a NAT has forgotten its mapping, or a firewall was changed.", f.Peer.NAT.sentence(), place)
	}
	place := ""
	if f.LifetimeAt.Key != "" {
		place = fmt.Sprintf("The lifetime is set by %s.", f.LifetimeAt.place())
	}
	if f.VolumeAt.Key != "" {
		return compose("expired", fmt.Sprintf("%s is down: its lifetime is over, or it has carried all it may, and it was not replaced", what),
			fmt.Sprintf("How much it may carry is set by %s, and twice of that ends it: with a limit that the traffic reaches within seconds there is no time to replace it, so make it larger. Else, this side asked for new keys, and the peer refused or did not answer: compare the `esp` proposals of the two sides, groups included.", f.VolumeAt.place()), place)
	}
	return compose("expired", fmt.Sprintf("%s is down: its lifetime is over and it was not replaced", what),
		"This side asked for new keys, and the peer refused or did not answer. The most frequent cause is perfect forward secrecy: the first keys of a tunnel come with the connection and have no key exchange of their own, so that a difference in the groups of the ESP proposals shows now and not before. Compare the `esp` proposals of the two sides, groups included.",
		place)
}

// SinglePair is the view of a side that asked a peer which knows one pair of networks for several.
type SinglePair struct {
	Peer       Peer
	Connection Connection
	Tunnel     string
	// Theirs: the peer asked for several, and this side takes one pair by its configuration.
	Theirs   bool
	SingleAt Setting
}

// Report says how to divide.
func (f SinglePair) Report() Report {
	tunnel := "a tunnel of " + f.Connection.String() // a peer need not say which it means
	if f.Tunnel != "" {
		tunnel = fmt.Sprintf("tunnel %s of %s", clean(f.Tunnel), f.Connection)
	}
	if f.Theirs {
		return compose("single_pair", fmt.Sprintf("peer at %v asked for several pairs of networks in one child SA, and %s takes one pair", f.Peer, tunnel),
			"Let the peer make a child SA for each pair, or let this side take several.", f.place())
	}
	return compose("single_pair", fmt.Sprintf("peer at %v takes one pair of networks to a child SA, and %s has several", f.Peer, tunnel),
		"AWS and some others are so. Make a child SA for each pair; or where the peer has room for one only, as AWS has, make one pair of larger networks on both sides.", f.place())
}

func (f SinglePair) place() string {
	if f.SingleAt.Key == "" {
		return ""
	}
	return fmt.Sprintf("It is set at %s.", f.SingleAt.place())
}

package diagnose

import (
	"fmt"
	"strings"
)

// Narrowed is a side's view of a tunnel that is up for less than it has configured (RFC 7296 2.9).
type Narrowed struct {
	Peer       Peer
	Connection Connection
	Tunnel     string
	// Local and Remote are what is configured here, GotLocal and GotRemote what came out.
	Local, Remote, GotLocal, GotRemote []Selector
	// LeftLocal and LeftRemote are what is left out of them; one of them may be empty.
	LeftLocal, LeftRemote []Selector
	// AskedLocal and AskedRemote are what the peer asked for on our side and on its own, empty where this side asked.
	AskedLocal, AskedRemote []Selector
	LocalAt, RemoteAt       Setting
}

// Report shows what each side wanted and what came out, and what becomes of the rest.
func (f Narrowed) Report() Report {
	tunnel := fmt.Sprintf("tunnel %s of %s", clean(f.Tunnel), f.Connection)
	summary := tunnel + " is up for less than is configured here"
	got := fmt.Sprintf("It is up for %s to %s.", texts(f.GotLocal), texts(f.GotRemote))
	wanted := fmt.Sprintf("Here %s to %s is configured, and offered to the peer, which has taken a part of it.", texts(f.Local), texts(f.Remote))
	if len(f.AskedLocal) > 0 {
		wanted = fmt.Sprintf("Here %s to %s is configured; the peer asked for its %s to our %s.", texts(f.Local), texts(f.Remote), texts(f.AskedRemote), texts(f.AskedLocal))
	}
	return compose("narrowed", summary, got, wanted, f.left(), f.fix(), setHere(f.LocalAt, f.RemoteAt))
}

func (f Narrowed) left() string {
	var of []string
	if len(f.LeftLocal) > 0 {
		of = append(of, "of "+texts(f.LeftLocal))
	}
	if len(f.LeftRemote) > 0 {
		of = append(of, "for "+texts(f.LeftRemote))
	}
	return fmt.Sprintf("Packets %s have no tunnel: they are dropped here (no_outbound_sa).", strings.Join(of, " and packets "))
}

func (f Narrowed) fix() string {
	switch {
	case len(f.LeftRemote) == 0:
		return fmt.Sprintf("If they should pass, let the peer have %s among its remote networks; if not, this is right.", texts(f.Local))
	case len(f.LeftLocal) == 0:
		return fmt.Sprintf("If they should pass, let the peer have %s among its local networks; if not, this is right.", texts(f.Remote))
	}
	return fmt.Sprintf("If they should pass, let the peer have %s among its remote networks and %s among its local ones; if not, this is right.", texts(f.Local), texts(f.Remote))
}

// SharedNetwork is a side's view of a tunnel to a network that is connected to this machine as well.
type SharedNetwork struct {
	Connection Connection
	Tunnel     string
	Remote     Selector // the tunnel's network there
	Network    string   // the one that is connected here: "192.168.1.0/24"
	Interface  string   // by which
	RemoteAt   Setting
}

// Report says which packets go astray, and what to renumber.
func (f SharedNetwork) Report() Report {
	place := ""
	if f.RemoteAt.Key != "" {
		place = fmt.Sprintf("The tunnel's network is set in %s.", f.RemoteAt.place())
	}
	return compose("shared_network",
		fmt.Sprintf("tunnel %s of %s leads to %s, and %s is connected to this machine, at %s", clean(f.Tunnel), f.Connection, clean(f.Remote.Text), clean(f.Network), clean(f.Interface)),
		"A packet for an address that is on both sides can go to one of them only: hosts that are here are looked for there, or the other way round.",
		"The two sides need networks of their own: renumber one, have one of them translated, or name only the part in the tunnel that is not here.", place)
}

package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Selector is a range of addresses, with protocol and ports in its text where it has them: "10.103.0.0/24", "10.0.0.1 tcp/443".
type Selector struct {
	Start, End netip.Addr
	Text       string
}

// NoSelectors is a side's view of traffic selectors that have nothing in common. An initiator that was told TS_UNACCEPTABLE does not know the
// peer's.
type NoSelectors struct {
	Peer       Peer
	Connection Connection
	Tunnel     string // name of the child SA, empty where there is but one
	// Local and Remote are what is configured here; PeerLocal and PeerRemote what the peer proposed, from its point of view: its PeerRemote should meet
	// our Local.
	Local, Remote, PeerLocal, PeerRemote []Selector
	LocalAt, RemoteAt                    Setting
}

// Report shows both lists, marks the side that differs and says what would make them meet.
func (f NoSelectors) Report() Report {
	tunnel := f.Connection.String()
	if f.Tunnel != "" {
		tunnel += " tunnel " + clean(f.Tunnel)
	}
	summary := fmt.Sprintf("peer at %v and %s have no traffic in common", f.Peer, tunnel)
	if len(f.PeerLocal) == 0 && len(f.PeerRemote) == 0 {
		return f.refused(summary)
	}
	lists := fmt.Sprintf("The peer protects its %s to our %s. Here %s to the peer's %s is configured.",
		texts(f.PeerLocal), texts(f.PeerRemote), texts(f.Local), texts(f.Remote))
	if f.isSwapped() {
		return compose("selectors_swapped", summary, lists,
			"Both sides call the same networks local: one of the two configurations must be turned round, since what is local there is remote here.",
			f.fix(true, true))
	}
	local, remote := !meet(f.Local, f.PeerRemote), !meet(f.Remote, f.PeerLocal)
	if !local && !remote { // the protocols or ports do not meet
		return compose("selectors", summary, lists, f.differ(false, false), f.fix(texts(f.Local) != texts(f.PeerRemote), texts(f.Remote) != texts(f.PeerLocal)))
	}
	return compose("selectors", summary, lists, f.differ(local, remote), f.fix(local, remote))
}

// networkKeys are the words of other configurations for them.
const networkKeys = "strongSwan: `local_ts`, `remote_ts`; VyOS: `local prefix`, `remote prefix`"

func (f NoSelectors) refused(summary string) Report {
	return compose("refused_selectors", summary,
		fmt.Sprintf("This side offered its %s to the peer's %s, and the peer accepts no part of that.", texts(f.Local), texts(f.Remote)),
		fmt.Sprintf("There, the local networks have to have something of %s in them, and the remote networks something of %s (%s).", texts(f.Remote), texts(f.Local), networkKeys), setHere(f.LocalAt, f.RemoteAt))
}

// setHere says where both selectors are set, if that is known.
func setHere(local, remote Setting) string {
	if local.Key == "" || remote.Key == "" {
		return ""
	}
	return fmt.Sprintf("Here they are set in %s and %s.", local.place(), remote.place())
}

// isSwapped: the two sides fit once one of them is turned round.
func (f NoSelectors) isSwapped() bool {
	return meet(f.Local, f.PeerLocal) && meet(f.Remote, f.PeerRemote) && !(meet(f.Local, f.PeerRemote) && meet(f.Remote, f.PeerLocal))
}

// meet says that two lists have an address in common.
func meet(a, b []Selector) bool {
	return slices.ContainsFunc(a, func(x Selector) bool {
		return slices.ContainsFunc(b, func(y Selector) bool { return x.Start.Compare(y.End) <= 0 && y.Start.Compare(x.End) <= 0 })
	})
}

func texts(ss []Selector) string { return list(textsOf(ss)) }

func textsOf(ss []Selector) []string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = s.Text
	}
	return out
}

// differ marks what has no counterpart.
func (f NoSelectors) differ(local, remote bool) string {
	var s []string
	if local {
		s = append(s, fmt.Sprintf("our side differs: %s there, %s here", texts(f.PeerRemote), texts(f.Local)))
	}
	if remote {
		s = append(s, fmt.Sprintf("the peer's side differs: %s there, %s here", texts(f.PeerLocal), texts(f.Remote)))
	}
	if len(s) == 0 {
		return "The addresses meet on both sides, the protocols or ports do not."
	}
	joined := strings.Join(s, "; and ")
	return strings.ToUpper(joined[:1]) + joined[1:] + "."
}

// fix tells what to write here, or there. Long or odd lists of the peer's are not put into a configuration.
func (f NoSelectors) fix(local, remote bool) string {
	var here, there []string
	if local && printable(f.PeerRemote) {
		here = append(here, f.changeTo(f.LocalAt, "local", f.PeerRemote))
	}
	if remote && printable(f.PeerLocal) {
		here = append(here, f.changeTo(f.RemoteAt, "remote", f.PeerLocal))
	}
	if local {
		there = append(there, "its remote networks to "+texts(f.Local))
	}
	if remote {
		there = append(there, "its local networks to "+texts(f.Remote))
	}
	switch {
	case len(there) == 0:
		return ""
	case len(here) == 0:
		return fmt.Sprintf("There, set %s.", strings.Join(there, " and "))
	}
	return fmt.Sprintf("Either here, %s; or there, set %s.", strings.Join(here, ", and "), strings.Join(there, " and "))
}

func (f NoSelectors) changeTo(s Setting, side string, to []Selector) string {
	return f.Connection.change(s, s.assignList(textsOf(to)), side+" networks", texts(to))
}

func printable(ss []Selector) bool {
	return len(ss) > 0 && len(ss) <= maxList && !slices.ContainsFunc(ss, func(s Selector) bool { return clean(s.Text) != s.Text })
}

package diagnose

import (
	"fmt"
	"net/netip"
	"time"
)

// NoAnswer is an initiator's view of a peer from which nothing comes back.
type NoAnswer struct {
	Connection Connection
	// ResolveError says why there is no address for Connection.Remote; empty where there is one. Nothing was sent then.
	ResolveError string
	From, To     netip.AddrPort // From's address may be unspecified
	Exchange     string         // what was asked last: "IKE_SA_INIT", "IKE_AUTH"
	Tries        int
	For          time.Duration // from the first try on
	// Answered says that the peer did answer before, on port 500.
	Answered bool
	NAT      NAT
	// Error is what the network reported meanwhile, empty where it was silent: "connection refused".
	Error string
}

// Report says what was sent where, and what that leaves to look at.
func (f NoAnswer) Report() Report {
	switch {
	case f.ResolveError != "":
		return f.unresolved()
	case f.Answered && f.To.Port() != 500:
		return compose("no_answer_natt", f.summary(), f.network(),
			fmt.Sprintf("The peer answered on UDP 500, so it is there; UDP %d from %s to %s is what does not pass. Open it in both directions on every firewall and cloud security group in between, and forward it on the NAT in front of the peer.",
				f.To.Port(), f.From, f.To), f.bothHidden())
	}
	return compose("no_answer", f.summary(), f.network(), f.causes(), f.place())
}

// bothHidden: where both sides are behind NAT, only what the peer's NAT forwards gets in.
func (f NoAnswer) bothHidden() string {
	if !f.NAT.Local || !f.NAT.Remote {
		return ""
	}
	return "Both sides are behind NAT, so the NAT in front of the peer has to forward UDP 500 and 4500 to it, always and both; neither side then can be known by its own address, so give both a name as identity."
}

func (f NoAnswer) summary() string {
	return fmt.Sprintf("no answer from %v for %v: %s went out %s from %v%s",
		f.To, f.Connection, clean(f.Exchange), times(f.Tries), f.From, f.during())
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (f NoAnswer) during() string {
	if f.For <= 0 {
		return ""
	}
	return fmt.Sprintf(" in %v", f.For.Round(time.Second))
}

func (f NoAnswer) network() string {
	if f.Error == "" {
		return ""
	}
	return fmt.Sprintf("The network reported: %s.", clean(f.Error))
}

func (f NoAnswer) causes() string {
	return "No IKE message came back, not even an error: the peer is not running, or is at another address, or UDP 500 and 4500 do not pass in between (firewall, cloud security group, or a NAT in front of the peer that does not forward them)."
}

// place names the line with the peer's address; an address that DNS gave is worth a look of its own.
func (f NoAnswer) place() string {
	c := f.Connection
	if c.Remote == "" || c.RemoteAt.Key == "" {
		return ""
	}
	s := fmt.Sprintf("The address is from %s", c.RemoteAt.place())
	if _, err := netip.ParseAddr(c.Remote); err != nil {
		s += fmt.Sprintf(", where %s resolved to %s", clean(c.Remote), f.To.Addr())
	}
	return s + "; if the peer is elsewhere, change it there."
}

// Unfinished is a responder's view of somebody who has begun to connect, and of whom nothing more comes.
type Unfinished struct {
	Peer Peer
	Port uint16 // ours, to which the second message goes where there is a NAT
}

// Report tells the port that is forgotten from a stranger who tries doors.
func (f Unfinished) Report() Report {
	return compose("unfinished", fmt.Sprintf("peer at %v began to connect, and did not go on", f.Peer),
		fmt.Sprintf("Its first message came and was answered, the second did not come. If it is a peer of this side, what does not pass is UDP %d, to which the second goes, from there to here, or the answer on its way back: open both UDP 500 and %d in both directions on every firewall and cloud security group in between, and forward both on a NAT in front of this side.", f.Port, f.Port),
		f.Peer.NAT.sentence(), "If it is nobody's address that you know, it was somebody who tries doors, and nothing comes of it.")
}

// NoPath is the view of a side whose own machine has no way to the peer.
type NoPath struct {
	Connection Connection
	To         netip.Addr // invalid where it is not known
	Error      string     // the system's word: "network is unreachable"
}

// Report says what to look at on this machine.
func (f NoPath) Report() Report {
	c, to := f.Connection, "its peer"
	if f.To.IsValid() {
		to = f.To.String()
	}
	place := ""
	if c.RemoteAt.Key != "" {
		place = fmt.Sprintf("The peer's address is from %s.", c.RemoteAt.place())
	}
	return compose("no_path", fmt.Sprintf("this machine has no way to %s, for %v", to, c),
		fmt.Sprintf("The system says: %s. Its network is down, or has no address of that family or no default route: `ip address` and `ip route get %s` show it.", clean(f.Error), to), place,
		"It is tried again as soon as the network changes, and every few seconds.")
}

func (f NoAnswer) unresolved() Report {
	c := f.Connection
	summary := fmt.Sprintf("%v has no address to send to: %s does not resolve", c, clean(c.Remote))
	fix := "Correct the name, or write the peer's address in its place."
	if c.RemoteAt.Key != "" {
		fix = fmt.Sprintf("It is from %s: correct the name there, or write the peer's address in its place.", c.RemoteAt.place())
	}
	return compose("name_unresolved", summary, fmt.Sprintf("The resolver says: %s.", clean(f.ResolveError)), fix, "The name is tried again.")
}

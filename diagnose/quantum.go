package diagnose

import "fmt"

// NoPostQuantum is the view of a side that requires an additional key exchange with a peer that makes none (RFC 9370).
type NoPostQuantum struct {
	Peer       Peer
	Connection Connection // the zero one where the peer is not known yet
	// Guess: the peer only said NO_PROPOSAL_CHOSEN, and has accepted nothing of what this side offers.
	Guess bool
	// At is where it is required.
	At Setting
}

// Report says what the peer has to be given, and what to change here to do without.
func (f NoPostQuantum) Report() Report {
	summary := fmt.Sprintf("peer at %v makes no post-quantum key exchange, and this side requires one", f.Peer)
	if f.Guess {
		summary = fmt.Sprintf("peer at %v accepts none of the proposals of this side, all of which require a post-quantum key exchange", f.Peer)
	}
	if f.Connection.Name != "" {
		summary += " for " + f.Connection.String()
	}
	there := "there, offer ML-KEM-768 beside the classical group (strongSwan 6 and culvert write that x25519-ke1_mlkem768)"
	if f.At.Key == "" {
		return compose("no_post_quantum", summary, capital(there)+".")
	}
	return compose("no_post_quantum", summary, fmt.Sprintf("Either %s; or here, %s, for a peer that cannot.", there, f.Connection.changePlain(f.At)))
}

// NoPPK is the view of a side that finds no post-quantum pre-shared key in common with its peer, where one of the two requires it (RFC 8784).
type NoPPK struct {
	Peer       Peer
	Connection Connection
	// Required says that this side requires it. Named is the name that the peer gave of its key, empty where it gave none.
	Required bool
	Named    string
	// ID and At are the name of this side's key, empty where it has none, and where it is or would be written.
	ID string
	At Setting
}

// Report says who requires which key.
func (f NoPPK) Report() Report {
	who := "this side requires"
	if !f.Required {
		who = "the peer requires"
	}
	return compose("no_ppk", fmt.Sprintf("peer at %v and this side share no post-quantum pre-shared key for %v, and %s one", f.Peer, f.Connection, who),
		f.peers(), f.ours(), "Both sides need the same key under the same name.")
}

func (f NoPPK) peers() string {
	if f.Named == "" {
		return "The peer named none."
	}
	return fmt.Sprintf("The peer names its key %s.", code(clean(f.Named)))
}

func (f NoPPK) ours() string {
	s := "This side has none."
	if f.ID != "" {
		s = fmt.Sprintf("This side names its own %s.", code(clean(f.ID)))
	}
	if f.At.Key == "" {
		return s
	}
	return s + fmt.Sprintf(" That is set at %s.", f.At.place())
}

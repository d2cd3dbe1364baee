package config

import (
	"slices"

	"culvert/ikev2"
)

// settle brings settings of a peer that depend on each other to one meaning,
// whatever spelling they had.
func settle(r *reader) {
	for i := range r.cfg.Peers {
		p := &r.cfg.Peers[i]
		settleStart(r, p)
		settleMethods(r, p)
	}
}

// settleStart: a connection is brought up from here for the tunnels that start
// now; without one it waits for traffic or the peer.
func settleStart(r *reader, p *Peer) {
	now := false
	for i := range p.Tunnels {
		t := &p.Tunnels[i]
		where := t.Where.At("start").Pos
		now = now || t.Start == ikev2.StartNow
		switch {
		case t.Start == ikev2.StartNow && !p.Initiate:
			r.error(where, `leave one of them out, or write start = "traffic" or "peer"`, "tunnel %q starts now, but peer %q is not initiated to", t.Name, p.Name)
		case t.OnTraffic() && (t.LocalDynamic || t.RemoteDynamic):
			r.error(where, "start it with the connection, or name the networks", "tunnel %q cannot be started by traffic: a dynamic network is not known before the connection is up", t.Name)
		case t.Start == ikev2.StartTraffic && p.Remote == "" && !r.failed(p.Where.At("remote")):
			r.error(where, "write the peer's address or host name, or let the peer start it", "tunnel %q cannot be started by traffic: the address of peer %q is not known", t.Name, p.Name)
		}
	}
	if len(p.Tunnels) > 0 {
		p.Initiate = p.Initiate && now
	}
}

// failed says whether the value there was refused.
func (r *reader) failed(p Place) bool {
	return slices.ContainsFunc(r.list, func(d Diagnostic) bool { return d.Severity == SeverityError && d.Line == p.Line })
}

// settleMethods: additional key exchanges are named in the proposals, which
// then are taken as they are, or for all of them (RFC 9370).
func settleMethods(r *reader, p *Peer) {
	named := slices.ContainsFunc(p.IKE, func(prop ikev2.Proposal) bool { return len(additionalOf(prop)) > 0 })
	switch {
	case p.PostQuantum.Mode == ikev2.ModeOff && (named || len(p.PostQuantum.Methods) > 0):
		r.error(p.Where.At("post_quantum").Pos, "leave one of them out", "peer %q names key exchanges with ML-KEM, and switches them off", p.Name)
	case named && len(p.PostQuantum.Methods) > 0:
		r.error(p.Where.At("post_quantum_methods").Pos, "leave one of them out", "peer %q names additional key exchanges in its proposals too", p.Name)
	}
}

// validatePPK: a key and its name belong together (RFC 8784 section 5).
func validatePPK(r *reader, p *Peer) {
	has, at := p.PPK.Secret.secret != nil, p.Where.At("ppk_id")
	switch {
	case has && p.PPK.ID == "" && !at.Given:
		r.error(p.Where.At("ppk").Pos, "add "+at.Setting("NAME")+", the same as at the peer", "peer %q has a post-quantum pre-shared key without a name", p.Name)
	case !has && p.PPK.ID != "":
		hint := `add ppk_file = "FILE", ppk_env = "VARIABLE" or ppk = "KEY"`
		if at.format != FormatTOML {
			hint = "add " + p.Where.At("ppk").Setting("KEY")
		}
		r.error(at.Pos, hint, "peer %q names a post-quantum pre-shared key and does not have it", p.Name)
	case !has && p.PPK.Required:
		r.error(p.Where.At("ppk_required").Pos, "add ppk_id and ppk_file", "peer %q requires a post-quantum pre-shared key and does not have it", p.Name)
	}
}

// validateTiming: waits that double have to have where to go.
func validateTiming(r *reader, p *Peer) {
	if p.RetransmitMax < p.Retransmit {
		r.error(p.Where.At("retransmit_max").Pos, "raise it, or lower retransmit", "peer %q: retransmit_max is less than retransmit", p.Name)
	}
	if p.ReconnectMax < p.Reconnect {
		r.error(p.Where.At("reconnect_max").Pos, "raise it, or lower reconnect", "peer %q: reconnect_max is less than reconnect", p.Name)
	}
}

package config

import (
	"slices"

	"culvert/ikev2"
	"culvert/ikev2/wire"
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
		where := t.Where["start"].Pos
		now = now || t.Start == ikev2.StartNow
		switch {
		case t.Start == ikev2.StartNow && !p.Initiate:
			r.error(where, `leave one of them out, or write start = "traffic" or "peer"`, "tunnel %q starts now, but peer %q is not initiated to", t.Name, p.Name)
		case t.Start == ikev2.StartTraffic && p.Remote == "" && !r.failed(p.Where["remote"]):
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

// noMethod is ke1_none: the proposal does without an additional key exchange
// too.
const noMethod uint16 = 0

// settleMethods takes the additional key exchanges out of the IKE proposals:
// one policy of the peer stands for all of them (RFC 9370). Where every
// proposal has one there is no connection without, unless post_quantum says
// otherwise.
func settleMethods(r *reader, p *Peer) {
	pq := &p.PostQuantum
	var classical []ikev2.Proposal
	found, required := false, len(p.IKE) > 0
	for _, prop := range p.IKE {
		methods := ofType(prop, wire.TransformADDKE1)
		required = required && len(methods) > 0
		found = found || len(methods) > 0
		for _, m := range methods {
			switch {
			case m.ID == noMethod:
				required = false
			case !slices.Contains(pq.Methods, m.ID):
				pq.Methods = append(pq.Methods, m.ID)
			}
		}
		prop = slices.DeleteFunc(slices.Clone(prop), func(t wire.Transform) bool { return t.Type == wire.TransformADDKE1 })
		if !slices.ContainsFunc(classical, func(o ikev2.Proposal) bool { return slices.Equal(o, prop) }) {
			classical = append(classical, prop)
		}
	}
	p.IKE = classical
	switch given := p.Where["post_quantum"].Given; {
	case pq.Mode == ikev2.ModeOff && len(pq.Methods) > 0:
		r.error(p.Where["post_quantum"].Pos, "leave one of them out", "peer %q names key exchanges with ML-KEM, and switches them off", p.Name)
	case found && required && !given:
		pq.Mode = ikev2.ModeRequire
	}
}

// validatePPK: a key and its name belong together (RFC 8784 section 5).
func validatePPK(r *reader, p *Peer) {
	has, at := p.PPK.Secret.secret != nil, p.Where["ppk_id"]
	switch {
	case has && p.PPK.ID == "" && !at.Given:
		r.error(p.Where["ppk"].Pos, "add "+at.Setting("NAME")+", the same as at the peer", "peer %q has a post-quantum pre-shared key without a name", p.Name)
	case !has && p.PPK.ID != "":
		r.error(at.Pos, `add ppk_file = "FILE", ppk_env = "VARIABLE" or ppk = "KEY"`, "peer %q names a post-quantum pre-shared key and does not have it", p.Name)
	case !has && p.PPK.Required:
		r.error(p.Where["ppk_required"].Pos, "add ppk_id and ppk_file", "peer %q requires a post-quantum pre-shared key and does not have it", p.Name)
	}
}

// validateTiming: waits that double have to have where to go.
func validateTiming(r *reader, p *Peer) {
	if p.RetransmitMax < p.Retransmit {
		r.error(p.Where["retransmit_max"].Pos, "raise it, or lower retransmit", "peer %q: retransmit_max is less than retransmit", p.Name)
	}
	if p.ReconnectMax < p.Reconnect {
		r.error(p.Where["reconnect_max"].Pos, "raise it, or lower reconnect", "peer %q: reconnect_max is less than reconnect", p.Name)
	}
}

package gateway

import (
	"errors"
	"fmt"
	"strings"

	"culvert/config"
	"culvert/diagnose"
	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// explain hands the facts of a failure to diagnose. The report is empty for
// events that are no failure, or one that their line says all about.
func (c *control) explain(e ikev2.Event) diagnose.Report {
	f := facts{c.g.cfg, e}
	switch e.Kind {
	case ikev2.EventRefused:
		return f.refused()
	case ikev2.EventRefusedByPeer:
		return f.refusedByPeer()
	case ikev2.EventUnprotectedError:
		switch {
		case e.Reason == ikev2.ReasonPostQuantum:
			return f.noPostQuantum()
		case e.Notify == wire.NotifyNoProposalChosen:
			return f.noProposal("IKE", "ike")
		}
	case ikev2.EventGaveUp:
		if e.Initiator && e.Exchange != wire.ExchangeInformational {
			return f.noAnswer()
		}
	case ikev2.EventDown, ikev2.EventChildDown:
		if e.Reason == ikev2.ReasonExpired || e.Kind == ikev2.EventDown && (e.Reason == ikev2.ReasonDead || e.Reason == ikev2.ReasonDeleted) {
			return f.ended()
		}
	}
	return diagnose.Report{}
}

type facts struct {
	cfg *config.Config
	e   ikev2.Event
}

func (f facts) refused() diagnose.Report {
	switch f.e.Reason {
	case ikev2.ReasonUnknownIdentity:
		return diagnose.UnknownIdentity{Peer: f.peer(), Presented: identity(f.e.PeerSaid), Wanted: identity(f.e.PeerWanted), Connections: f.connections()}.Report()
	case ikev2.ReasonWrongKey:
		return diagnose.WrongKey{Peer: f.peer(), Connection: f.connection()}.Report()
	case ikev2.ReasonWrongResponder:
		return diagnose.WrongResponder{Peer: f.peer(), Presented: identity(f.e.PeerSaid), Connection: f.connection()}.Report()
	case ikev2.ReasonNoProposal:
		return f.noProposal("IKE", "ike")
	case ikev2.ReasonChildProposal:
		return f.noProposal("ESP", "esp")
	case ikev2.ReasonSelectors:
		return f.noSelectors()
	case ikev2.ReasonPoolExhausted:
		return f.noAddressLeft()
	case ikev2.ReasonAddressNotAsked:
		return f.addressNotAsked()
	case ikev2.ReasonSelectorConflict:
		return f.sameNetworks()
	case ikev2.ReasonDuplicate:
		return f.duplicate()
	case ikev2.ReasonPostQuantum:
		return f.noPostQuantum()
	case ikev2.ReasonSinglePair:
		return f.singlePair()
	case ikev2.ReasonPPK:
		return f.noPPK()
	case ikev2.ReasonUnfinished:
		return diagnose.Unfinished{Peer: f.peer(), Port: f.cfg.Gateway.NATTPort}.Report()
	}
	return diagnose.Report{}
}

func (f facts) refusedByPeer() diagnose.Report {
	switch {
	case f.e.Reason == ikev2.ReasonAuthFailed && f.e.Initiator:
		return diagnose.RefusedByPeer{Peer: f.peer(), Connection: f.connection()}.Report()
	case f.e.Reason == ikev2.ReasonChildProposal:
		return f.noProposal("ESP", "esp")
	case f.e.Reason == ikev2.ReasonNoAddress:
		return diagnose.NoAddress{Peer: f.peer(), Connection: f.connection(), Notify: notifyName(f.e.Notify), RequestAt: f.peerSetting("request_address")}.Report()
	case f.e.Reason == ikev2.ReasonAddressRequired:
		return diagnose.AddressRequired{Peer: f.peer(), Connection: f.connection(), RequestAt: f.peerSetting("request_address"), LocalAt: f.tunnelSetting("local")}.Report()
	case f.e.Reason == ikev2.ReasonSelectors:
		return f.noSelectors()
	case f.e.Reason == ikev2.ReasonSinglePair:
		return f.singlePair()
	case f.e.Reason == ikev2.ReasonNotify || f.e.Reason == ikev2.ReasonChildRefused:
		return diagnose.RefusedOtherwise{Peer: f.peer(), Connection: f.connection(), Tunnel: f.e.Child, Notify: notifyName(f.e.Notify)}.Report()
	}
	return diagnose.Report{}
}

func (f facts) peer() diagnose.Peer {
	return diagnose.Peer{Addr: f.e.Path.Remote, NAT: diagnose.NAT(f.e.NAT)}
}

func (f facts) configured() *config.Peer {
	for i := range f.cfg.Peers {
		if f.cfg.Peers[i].Name == f.e.Peer {
			return &f.cfg.Peers[i]
		}
	}
	return nil
}

func (f facts) connection() diagnose.Connection {
	if p := f.configured(); p != nil {
		return f.describe(p)
	}
	return diagnose.Connection{}
}

func (f facts) connections() []diagnose.Connection {
	var out []diagnose.Connection
	for i := range f.cfg.Peers {
		out = append(out, f.describe(&f.cfg.Peers[i]))
	}
	return out
}

func (f facts) describe(p *config.Peer) diagnose.Connection {
	return diagnose.Connection{
		Name: p.Name, Remote: p.Remote, LocalID: identity(p.LocalID), RemoteID: identity(p.RemoteID),
		RemoteAt: f.at(p.Where, "remote"), LocalIDAt: f.at(p.Where, "local_id"), RemoteIDAt: f.at(p.Where, "remote_id"), KeyAt: f.at(p.Where, "psk"),
	}
}

func identity(id ikev2.Identity) diagnose.Identity {
	if id == (ikev2.Identity{}) {
		return diagnose.Identity{}
	}
	return diagnose.Identity{Type: id.TypeName(), Text: id.String()}
}

func (f facts) at(where config.Places, key string) diagnose.Setting {
	p := where.At(key)
	if p.Key == "" {
		return diagnose.Setting{}
	}
	s := diagnose.Setting{File: p.File, Key: p.Key}
	if p.Given {
		s.Line = p.Pos.Line
	}
	switch f.cfg.Format {
	case config.FormatTOML:
	case config.FormatSwanctl:
		s.Style = diagnose.Swanctl
	default:
		s.Style = diagnose.VyOS
	}
	return s
}

func (f facts) tunnel() *config.Tunnel {
	p := f.configured()
	if p == nil {
		return nil
	}
	for i := range p.Tunnels {
		if p.Tunnels[i].Name == f.e.Child || len(p.Tunnels) == 1 {
			return &p.Tunnels[i]
		}
	}
	return nil
}

// likely is the peer, or of who has not said who it is the only one that it can
// be.
func (f facts) likely() *config.Peer {
	if f.configured() == nil && len(f.cfg.Peers) == 1 {
		return &f.cfg.Peers[0]
	}
	return f.configured()
}

func (f facts) likelySetting(key string) diagnose.Setting {
	if p := f.likely(); p != nil {
		return f.at(p.Where, key)
	}
	return diagnose.Setting{}
}

func (f facts) tunnelSetting(key string) diagnose.Setting {
	if t := f.tunnel(); t != nil {
		return f.at(t.Where, key)
	}
	return diagnose.Setting{}
}

func (f facts) noProposal(what, key string) diagnose.Report {
	r := diagnose.NoProposal{Peer: f.peer(), Connection: f.connection(), For: what, Ours: proposals(f.e.OwnProposals), Theirs: proposals(f.e.PeerProposals), Renewal: f.e.Renewal}
	if p := f.likely(); p != nil && p.PostQuantum.Mode == ikev2.ModeOff {
		r.PlainAt = f.at(p.Where, "post_quantum")
	}
	if r.At = f.likelySetting(key); what == "ESP" {
		r.At = f.tunnelSetting(key)
	}
	return r.Report()
}

func (f facts) noPostQuantum() diagnose.Report {
	return diagnose.NoPostQuantum{Peer: f.peer(), Connection: f.connection(), Guess: f.e.Kind == ikev2.EventUnprotectedError, At: f.likelySetting("post_quantum")}.Report()
}

func (f facts) noPPK() diagnose.Report {
	r := diagnose.NoPPK{Peer: f.peer(), Connection: f.connection(), Named: f.e.PeerPPK}
	if p := f.configured(); p != nil {
		r.Required, r.ID, r.At = p.PPK.Required, p.PPK.ID, f.at(p.Where, "ppk_id")
	}
	return r.Report()
}

var transformWords = map[wire.TransformType]string{
	wire.TransformEncr: "encryption", wire.TransformPRF: "PRF", wire.TransformInteg: "integrity", wire.TransformKE: "key exchange", wire.TransformESN: "sequence numbers",
	wire.TransformADDKE1: "additional key exchange",
}

func proposals(ps []ikev2.Proposal) []diagnose.Proposal {
	var out []diagnose.Proposal
	for _, p := range ps {
		var d diagnose.Proposal
		for _, t := range p {
			word, ok := transformWords[t.Type]
			if !ok {
				word = t.Type.String()
			}
			d = append(d, diagnose.Transform{Type: word, Name: t.String(), Written: config.Keyword(t)})
		}
		out = append(out, d)
	}
	return out
}

func (f facts) noSelectors() diagnose.Report {
	r := diagnose.NoSelectors{Peer: f.peer(), Connection: f.connection(), Tunnel: f.e.Child,
		Local: selectors(f.e.LocalTS), Remote: selectors(f.e.RemoteTS), PeerLocal: selectors(f.e.PeerRemoteTS), PeerRemote: selectors(f.e.PeerLocalTS)}
	r.LocalAt, r.RemoteAt = f.tunnelSetting("local"), f.tunnelSetting("remote")
	return r.Report()
}

func selectors(ss []wire.Selector) []diagnose.Selector {
	out := make([]diagnose.Selector, len(ss))
	for i, s := range ss {
		out[i] = diagnose.Selector{Start: s.Start, End: s.End, Text: strings.TrimSpace(s.String())}
	}
	return out
}

// noPath is why a peer cannot even be called.
func (f facts) noPath(p *config.Peer, err error) diagnose.Report {
	var none unreachable
	if errors.As(err, &none) {
		return diagnose.NoPath{Connection: f.describe(p), To: none.remote, Error: none.Error()}.Report()
	}
	return diagnose.NoAnswer{Connection: f.describe(p), ResolveError: err.Error()}.Report()
}

func (f facts) noAnswer() diagnose.Report {
	return diagnose.NoAnswer{Connection: f.connection(), From: f.e.Path.Local, To: f.e.Path.Remote, Exchange: f.e.Exchange.String(),
		Tries: f.e.Attempt, For: f.e.Wait, NAT: diagnose.NAT(f.e.NAT), Answered: f.e.Exchange != wire.ExchangeIKESAInit}.Report()
}

func (f facts) ended() diagnose.Report {
	r := diagnose.Ended{Peer: f.peer(), Connection: f.connection(), Tunnel: f.e.Child, Dead: f.e.Reason == ikev2.ReasonDead, Deleted: f.e.Reason == ikev2.ReasonDeleted,
		LifetimeAt: f.peerSetting("ike_lifetime"), LivenessAt: f.peerSetting("dpd")}
	if t := f.tunnel(); t != nil && f.e.Child != "" {
		r.LifetimeAt = f.at(t.Where, "lifetime")
		r.VolumeAt = f.volumeSetting(t)
	}
	return r.Report()
}

// volumeSetting limits how much a tunnel carries, if something does.
func (f facts) volumeSetting(t *config.Tunnel) (s diagnose.Setting) {
	for _, key := range []string{"lifetime_bytes", "lifetime_packets"} {
		if at := f.at(t.Where, key); at.Line > 0 {
			s = at
		}
	}
	return s
}

func (f facts) singlePair() diagnose.Report {
	r := diagnose.SinglePair{Peer: f.peer(), Connection: f.connection(), Tunnel: f.e.Child, Theirs: f.e.Kind == ikev2.EventRefused}
	if t := f.tunnel(); t != nil {
		r.Tunnel, r.SingleAt = t.Name, f.at(t.Where, "single_pair")
	}
	return r.Report()
}

func (f facts) sameNetworks() diagnose.Report {
	rival := facts{f.cfg, ikev2.Event{Peer: f.e.Rival, Child: f.e.RivalChild}}
	r := diagnose.SameNetworks{Peer: f.peer(), Connection: f.connection(), Tunnel: f.e.Child, Remote: selectors(f.e.RemoteTS),
		Rival: rival.connection(), RivalTunnel: f.e.RivalChild, RivalRemote: selectors(f.e.RivalTS)}
	if ours, theirs := f.tunnel(), rival.tunnel(); ours != nil && theirs != nil {
		r.RemoteAt, r.RivalRemoteAt = f.at(ours.Where, "remote"), f.at(theirs.Where, "remote")
	}
	return r.Report()
}

var duplicatePolicies = map[ikev2.DuplicatePolicy]string{ikev2.DuplicatesReplace: "replace", ikev2.DuplicatesKeep: "keep", ikev2.DuplicatesNever: "never"}

func (f facts) duplicate() diagnose.Report {
	r := diagnose.Duplicate{Peer: f.peer(), Connection: f.connection()}
	if p := f.configured(); p != nil {
		r.Policy, r.PolicyAt = fmt.Sprintf("duplicates = %q", duplicatePolicies[p.Duplicates]), f.at(p.Where, "duplicates")
	}
	return r.Report()
}

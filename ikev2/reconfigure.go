package ikev2

import (
	"bytes"
	"reflect"
	"slices"
	"time"
)

// Change is what another configuration means for a peer.
type Change uint8

// The changes.
const (
	// Unchanged: nothing is sent, and no timer moves.
	Unchanged Change = iota
	// Adjusted: the IKE SA stays. Intervals and lifetimes count from now on, IKE
	// and child SAs with other proposals are rekeyed, child SAs with other
	// selectors replaced; a new child SA comes up, one that is gone is deleted.
	Adjusted
	// Reestablished: another IKE SA is made. Where an identity or a key is
	// another, the old one ends first: whom it belongs to may be nobody's business
	// here any more. Otherwise it stays until the new one is authenticated, or ends
	// when we do not connect to the peer: then the peer has to come back.
	Reestablished
	// Added: nothing happens until the peer, or Connect.
	Added
	// Removed: the SAs are deleted.
	Removed
)

var changeNames = [...]string{"unchanged", "adjusted", "reestablished", "added", "removed"}

// String is the change's name in logs and scripts.
func (c Change) String() string { return changeNames[c] }

// Reconfigure has the engine work by another configuration from now on, and
// says by name what that means for the peers of both. Peers and children are
// matched by their names. SAs that are not authenticated yet go on and are
// judged by the new peers. Ports, KeyLog, Lanes and the key of tickets stay as they are.
// After Shutdown it does nothing.
func (e *Engine) Reconfigure(now time.Time, cfg Config) map[string]Change {
	if e.now = now; e.shut {
		return nil
	}
	cfg.IKEPort, cfg.NATTPort, cfg.KeyLog, cfg.Resume.Key, cfg.Lanes = e.cfg.IKEPort, e.cfg.NATTPort, e.cfg.KeyLog, e.cfg.Resume.Key, e.cfg.Lanes
	pools := changedPools(e.cfg.Pools, cfg.Pools)
	e.cfg, e.limits = cfg, cfg.Limits.withDefaults()

	before, changes := e.peers, map[string]Change{}
	var peers []*peer
	for _, policy := range cfg.Peers {
		policy = policy.withDefaults()
		p, change := e.byName[policy.Name], Added
		if p == nil {
			p = newPeer(e, policy)
		} else {
			change = p.adopt(policy, pools)
		}
		changes[p.Name], peers = change, append(peers, p)
	}
	e.know(peers)
	for _, p := range before {
		if _, stays := changes[p.Name]; !stays {
			changes[p.Name], p.wanted = Removed, false
			p.end(ReasonReconfigured)
		}
	}
	for _, p := range peers {
		p.follow(changes[p.Name])
	}
	return changes
}

// changedPools are the names of the pools that are not what they were. One that
// has only grown is.
func changedPools(was, is []Pool) map[string]bool {
	changed, old := map[string]bool{}, map[string]Pool{}
	for _, p := range was {
		changed[p.Name], old[p.Name] = true, p
	}
	for _, p := range is {
		o := old[p.Name]
		if o.First.IsValid() && !o.First.Less(p.First) && !p.Last.Less(o.Last) {
			o.First, o.Last = p.First, p.Last
		}
		changed[p.Name] = !reflect.DeepEqual(o, p)
	}
	return changed
}

// compare says what a new policy means. What is not named here counts as agreed
// when the IKE SA was made, so that a change of it takes another.
func (p *peer) compare(policy Peer, pools map[string]bool) Change {
	was := p.Peer
	was.Timing, was.IKELifetime, was.Duplicates, was.Children = policy.Timing, policy.IKELifetime, policy.Duplicates, policy.Children
	was.IKE, was.Redirect, was.Resumption = policy.IKE, policy.Redirect, policy.Resumption
	for _, name := range policy.Address.Pools {
		if pools[name] {
			return Reestablished
		}
	}
	switch {
	case !reflect.DeepEqual(was, policy):
		return Reestablished
	case !reflect.DeepEqual(p.Peer, policy):
		return Adjusted
	}
	return Unchanged
}

// isAnother: who the peer is, or how it proves that, has changed.
func (p *peer) isAnother(policy Peer) bool {
	return p.LocalID != policy.LocalID || p.RemoteID != policy.RemoteID || !bytes.Equal(p.PSK, policy.PSK) ||
		!reflect.DeepEqual(p.PPK, policy.PPK)
}

// adopt takes a new policy. An unchanged peer keeps even the old one, at which
// its child SAs point.
func (p *peer) adopt(policy Peer, pools map[string]bool) Change {
	change := p.compare(policy, pools)
	if change == Unchanged {
		return change
	}
	if p.isAnother(policy) || change == Reestablished && !p.wanted {
		p.end(ReasonReconfigured)
	}
	if change == Reestablished {
		p.ticket = nil // it stands for what was agreed then
	}
	was := p.Peer
	p.Peer, p.failed, p.acquired, p.again = policy, 0, nil, time.Time{}
	kept := keptChildren(was.Children, policy.Children)
	for _, sa := range []*ikeSA{p.attempt, p.up} {
		if sa != nil {
			sa.conform(&was, kept)
		}
	}
	return change
}

// follow does what a peer's new policy asks for.
func (p *peer) follow(c Change) {
	switch {
	case c == Reestablished && p.wanted:
		p.renew()
	case c == Adjusted && p.idle():
		p.connect() // what kept it down may be mended
	}
}

// has says whether a child's policy is one of the peer's.
func (p *peer) has(cfg *Child) bool {
	for i := range p.Children {
		if &p.Children[i] == cfg {
			return true
		}
	}
	return false
}

// keptChildren leads from the old policies of children to the new ones of the
// same name.
func keptChildren(was, is []Child) map[*Child]*Child {
	kept := map[*Child]*Child{}
	for i := range was {
		for j := range is {
			if was[i].Name == is[j].Name {
				kept[&was[i]] = &is[j]
			}
		}
	}
	return kept
}

// sameTraffic: a child SA by the one policy is as good as one by the other.
func sameTraffic(a, b *Child) bool {
	x, y := *a, *b
	x.ESP, x.Lifetime, x.LifeBytes, x.LifePackets, x.Start = y.ESP, y.Lifetime, y.LifeBytes, y.LifePackets, y.Start
	return reflect.DeepEqual(x, y)
}

// aboutChild is a task that points at the policy of a child.
type aboutChild interface{ conform(kept map[*Child]*Child) }

func (t *childTask) conform(kept map[*Child]*Child) {
	if t.cfg = adopted(t.cfg, kept); t.wish != nil {
		t.wish.cfg = t.cfg
	}
}

// adopted is the policy that a child by cfg goes by from now on: the new one if
// that is for the same traffic.
func adopted(cfg *Child, kept map[*Child]*Child) *Child {
	if to := kept[cfg]; to != nil && sameTraffic(cfg, to) {
		return to
	}
	return cfg
}

// conform has an SA, and all that is on its way on it, go by the peer's new
// policy.
func (sa *ikeSA) conform(was *Peer, kept map[*Child]*Child) {
	sa.conformWishes(kept)
	sa.plans(func(t task) bool {
		if a, ok := t.(aboutChild); ok {
			a.conform(kept)
		}
		return false
	})
	if c := sa.pending; c != nil {
		c.cfg = adopted(c.cfg, kept)
	}
	if m := sa.making; m != nil && m.child != nil {
		if m.child.cfg = adopted(m.child.cfg, kept); !sa.peer.has(m.child.cfg) {
			sa.unmake()
		}
	}
	if sa.state == stateUp {
		sa.adjust(was, kept)
	}
}

// conformWishes keeps the wishes that may still be had, divided as they are.
// What was refused before is asked for again.
func (sa *ikeSA) conformWishes(kept map[*Child]*Child) {
	standing, before := sa.standingWishes(), sa.wishes
	sa.wishes = nil
	for _, w := range before {
		w.cfg, w.refused, w.asleep = adopted(w.cfg, kept), 0, false
		if sa.peer.has(w.cfg) && (w.once || w.lanes > 0 || sa.peer.start(w.cfg) == StartNow) {
			sa.wishes = append(sa.wishes, w)
		}
	}
	for _, w := range standing {
		if !slices.ContainsFunc(before, func(v *wish) bool { return v.cfg == w.cfg && !v.once && v.lanes == 0 }) {
			sa.wishes = append(sa.wishes, w)
		}
	}
}

// adjust is conform for an SA that is up.
func (sa *ikeSA) adjust(was *Peer, kept map[*Child]*Child) {
	if was.IKELifetime != sa.peer.IKELifetime {
		sa.e.restartLifetime(&sa.timers, sa.peer.IKELifetime)
	}
	for _, k := range []timerKind{timerDPD, timerKeepalive, timerChildren} {
		sa.e.setTimer(&sa.timers, k, time.Time{})
	}
	sa.armDPD()
	sa.armKeepalive()
	if !reflect.DeepEqual(was.IKE, sa.peer.IKE) {
		sa.rekey()
	}
	sa.conformChildren(kept)
	sa.bringUpChildren()
}

// conformChildren: where the selectors are others the child SA ends, and the one
// that takes its place is asked for whoever began the connection.
func (sa *ikeSA) conformChildren(kept map[*Child]*Child) {
	var anew []*wish
	for _, c := range slices.Clone(sa.children) {
		was, is := c.cfg, kept[c.cfg]
		switch {
		case is == nil || !c.live() || c.from != nil:
		case sameTraffic(was, is):
			c.cfg = is
			c.adjust(was)
		case !sa.peer.lowers(is):
			anew = append(anew, &wish{cfg: is, once: true})
		}
	}
	sa.endUnwanted()
	for _, w := range anew {
		sa.want(w)
	}
}

// adjust has a child that carries traffic follow its policy.
func (c *childSA) adjust(was *Child) {
	if was.Lifetime != c.cfg.Lifetime {
		c.sa.e.restartLifetime(&c.timers, c.cfg.Lifetime)
	}
	if c.state == childHeld {
		c.sa.e.setTimer(&c.timers, timerRekey, time.Time{})
	}
	if was.LifeBytes != c.cfg.LifeBytes || was.LifePackets != c.cfg.LifePackets {
		c.volume = c.sa.e.volume(c.cfg)
	}
	if !reflect.DeepEqual(was.ESP, c.cfg.ESP) {
		c.rekey()
	}
}

// endUnwanted deletes the children whose policy is no more, or that the operator
// wants down.
func (sa *ikeSA) endUnwanted() {
	for _, c := range slices.Clone(sa.children) {
		switch {
		case !c.live():
		case !sa.peer.has(c.cfg):
			c.close(ReasonReconfigured)
		case c.lowered:
			c.close(ReasonDisconnect)
		}
	}
}

// restartLifetime has a lifetime that has changed count from now.
func (e *Engine) restartLifetime(t *timers, life time.Duration) {
	e.setTimer(t, timerRekey, time.Time{})
	e.setTimer(t, timerLifetime, time.Time{})
	e.lifetime(t, life)
}

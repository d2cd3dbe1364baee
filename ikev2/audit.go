package ikev2

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Audit looks for what must never be: a change of state that the table
// forbids, an SA or an SPI that nobody owns, a timer without its SA. It costs
// time in proportion to the number of SAs and is for tests; an error is a bug
// of the engine.
func (e *Engine) Audit() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(e.badTransitions == 0, "%d forbidden changes of state", e.badTransitions)
	halfOpen, reserved, waiting := crowd{by: map[netip.Addr]int{}}, 0, 0
	for spi, sa := range e.sas {
		check(sa.ownSPI() == spi && sa.state != stateGone, "IKE SA %v is kept in state %d", sa.id(), sa.state)
		if sa.claimant.IsValid() {
			halfOpen.add(sa.claimant, 1)
		}
		sa.auditProtection(check)
		if sa.timers.pos >= 0 {
			waiting++
		}
		sa.auditPolicy(check)
		reserved += sa.auditChildren(e, check)
		waiting += sa.waitingChildren()
		check(sa.ticket == nil || sa.state == stateUp, "IKE SA %v in state %d keeps a ticket", sa.id(), sa.state)
		check(sa.resumed == nil || sa.state <= stateAuth || sa.state >= stateClosing, "IKE SA %v in state %d is still to be resumed", sa.id(), sa.state)
		check((sa.state == stateHeir) == (sa.heirOf != nil && sa.heirOf.heir == sa), "IKE SA %v in state %d is nobody's heir", sa.id(), sa.state)
		check(sa.heir == nil || sa.state == stateUp && e.sas[sa.heir.ownSPI()] == sa.heir, "heir of IKE SA %v in state %d", sa.id(), sa.state)
		sa.auditPath(check)
	}
	e.auditLeases(check)
	for p, list := range e.claims {
		for _, c := range list {
			check(e.spis.get(c.in) == c && c.state != childGone, "forgotten child %08x claims %v", c.in, p)
		}
	}
	for _, p := range e.peers {
		p.audit(check)
		if p.timers.pos >= 0 {
			waiting++
		}
	}
	for _, sa := range e.inits {
		check(e.sas[sa.ownSPI()] == sa, "IKE_SA_INIT of forgotten IKE SA %v", sa.id())
	}
	for spi, sa := range e.coming {
		check(e.sas[sa.ownSPI()] == sa && sa.expected == spi, "a successor of forgotten IKE SA %v is to come", sa.id())
	}
	check(len(e.spent) <= maxSpent, "%d spent tickets", len(e.spent))
	check(halfOpen.total == e.halfOpen.total && maps.Equal(halfOpen.by, e.halfOpen.by), "half-open: %v, counted %v", halfOpen, e.halfOpen)
	check(reserved == e.spis.used(), "%d inbound SPIs have an owner, %d are in use", reserved, e.spis.used())
	check(waiting == len(e.heap), "%d timers have an owner, %d are waiting", waiting, len(e.heap))
	return errors.Join(errs...)
}

// SAs counts the IKE SAs in any state, and the child SAs, with those whose
// inbound half still takes late packets.
func (e *Engine) SAs() (ike, children int) { return len(e.sas), e.spis.used() }

// auditPath: ESP goes another way than IKE only as long as that is being proven.
func (sa *ikeSA) auditPath(check func(bool, string, ...any)) {
	check(!sa.espHeld.Encap || sa.state != stateUp || sa.plans(roams), "ESP of IKE SA %v is held back for nothing", sa.id())
	check(len(sa.others) <= maxOthers, "%d addresses of the peer of IKE SA %v", len(sa.others), sa.id())
	check(!sa.doubted || sa.state != stateUp || sa.active != nil, "IKE SA %v is doubted, and nothing asks", sa.id())
}

func (sa *ikeSA) auditChildren(e *Engine, check func(bool, string, ...any)) int {
	var beginning []*childSA
	if sa.pending != nil {
		beginning = append(beginning, sa.pending)
	}
	if sa.making != nil && sa.making.child != nil {
		beginning = append(beginning, sa.making.child)
	}
	all := slices.Concat(sa.children, beginning)
	check(len(sa.gone) == 0 || sa.pending != nil && len(sa.gone) <= maxGone, "IKE SA %v remembers %d Deletes", sa.id(), len(sa.gone))
	check(sa.making == nil || sa.state == stateUp, "IKE SA %v in state %d waits for key exchanges", sa.id(), sa.state)
	check(len(sa.children) == 0 || sa.state == stateUp, "children of IKE SA %v in state %d", sa.id(), sa.state)
	check(len(sa.wishes) <= 2*(maxParts+1)*max(1, len(sa.peerChildren())), "IKE SA %v has %d wishes", sa.id(), len(sa.wishes))
	for _, c := range sa.children {
		for _, p := range c.remotePrefixes() {
			check(slices.Contains(e.claims[p], c), "child %08x does not claim %v", c.in, p)
		}
		rival := e.claims.rival(c)
		check(rival == nil || !c.live(), "child %08x carries what is another peer's", c.in)
	}
	for _, c := range all {
		check(c.lane == Lane(c.in, e.lanes()), "child %08x is not its lane's, %d", c.in, c.lane)
		check(c.sa == sa && e.spis.get(c.in) == c, "inbound SPI %08x belongs to another child", c.in)
		check(c.from == nil || c.state == childUp, "child %08x in state %d waits for its successor", c.in, c.state)
		check(c.sending == (c.state == childUp), "child %08x in state %d sends: %v", c.in, c.state, c.sending)
		check(slices.Contains(beginning, c) == (c.state == childNew) && c.state != childGone, "child %08x is kept in state %d", c.in, c.state)
	}
	return len(all)
}

// auditPolicy: no SA that is up outlives its peer's or its child's policy.
func (sa *ikeSA) auditPolicy(check func(bool, string, ...any)) {
	if sa.state != stateUp {
		return
	}
	check(sa.e.byName[sa.peer.Name] == sa.peer, "IKE SA %v is up for peer %s, which is not configured any more", sa.id(), sa.peer.Name)
	for _, w := range sa.wishes {
		check(sa.peer.has(w.cfg), "IKE SA %v wishes for child %s, which is not configured", sa.id(), w.cfg.Name)
		check(!sa.peer.lowers(w.cfg), "IKE SA %v wishes for child %s, which is to be down", sa.id(), w.cfg.Name)
	}
	for _, c := range sa.children {
		check(!c.live() || sa.peer.has(c.cfg), "child %08x lives by a policy that is no more", c.in)
	}
}

func (e *Engine) auditLeases(check func(bool, string, ...any)) {
	held := 0
	for addr, l := range e.leases.byAddr {
		check(l.addr == addr && e.leases.byOwner[l.owner] == l, "lease of %v belongs to nobody", addr)
		if l.holder != nil {
			held++
			check(slices.Contains(l.holder.leases, l), "lease of %v is held by IKE SA %v, which has not got it", addr, l.holder.id())
		}
	}
	check(len(e.leases.byAddr) == len(e.leases.byOwner), "%d addresses leased to %d peers", len(e.leases.byAddr), len(e.leases.byOwner))
	for _, sa := range e.sas {
		check(len(sa.leases)+len(sa.virtual) == 0 || sa.state == stateUp, "IKE SA %v has addresses in state %d", sa.id(), sa.state)
		held -= len(sa.leases)
	}
	check(held == 0, "%d more leases held than SAs have", held)
}

func (sa *ikeSA) peerChildren() []Child {
	if sa.peer == nil {
		return nil
	}
	return sa.peer.Children
}

func (sa *ikeSA) waitingChildren() (n int) {
	for _, c := range sa.children {
		if c.timers.pos >= 0 {
			n++
		}
	}
	return n
}

func (p *peer) audit(check func(bool, string, ...any)) {
	if p.up != nil {
		check(p.up.state == stateUp && p.e.sas[p.up.ownSPI()] == p.up, "peer %s is up by an IKE SA in state %d", p.Name, p.up.state)
	}
	if p.attempt != nil {
		check(p.attempt.state <= stateAuth && p.e.sas[p.attempt.ownSPI()] == p.attempt, "peer %s tries with an IKE SA in state %d", p.Name, p.attempt.state)
	}
	check(p.ticket == nil || p.wanted && p.attempt == nil, "peer %s keeps a ticket for nothing", p.Name)
	check(len(p.redirects) <= maxRedirects, "peer %s remembers %d redirects", p.Name, len(p.redirects))
	check(!p.idle() || p.timers.pos >= 0, "peer %s is wanted and nothing is done for it", p.Name)
	check(p.leaving == nil, "peer %s has an SA that does not leave", p.Name)
	check(!p.stale || p.wanted && p.up != nil, "peer %s is to be renewed and not wanted, or not up", p.Name)
	check(len(p.acquired) <= len(p.Children), "peer %s keeps %d wishes of packets", p.Name, len(p.acquired))
}

package ikev2

import (
	"slices"

	"culvert/ikev2/wire"
)

// A gateway that has several lanes, each with a core of its own, asks for a
// child SA for each of them: cores that share one wait for each other, or put its
// packets out of order (RFC 9611). The notify says on both sides that there may
// be several for the same traffic; a peer that leaves it out does not know of
// them, and the one child SA carries what all lanes have.
//
//	initiator                                         responder
//	SA TSi TSr  N(SA_RESOURCE_INFO)            ----->
//	                                           <-----  SA TSi TSr  N(SA_RESOURCE_INFO)
//	CREATE_CHILD_SA  the same suite and        ----->
//	    selectors, N(SA_RESOURCE_INFO)(number)
//	                                           <-----  as before, or N(TS_MAX_QUEUE)
//
// Who asked for the first asks for the others. What number the notify has is of no
// meaning to the peer: each side gives a child SA to the lane of its own that has
// the fewest, and to the same again when it is replaced. None is more than the
// others; while a lane has none, its packets go by one of theirs.

// fewLanes is how many child SAs for the same traffic a peer is granted by a
// gateway with fewer lanes of its own.
const fewLanes = 4

// anyLane stands for a lane that nobody has chosen.
const anyLane = -1

func (e *Engine) lanes() int { return max(1, e.cfg.Lanes) }

// additional: the wish is for more child SAs where there is one already.
func (w *wish) additional() bool { return w != nil && w.lanes > 0 }

// count is how many child SAs there are of those that an additional wish is for.
func (sa *ikeSA) count(w *wish) (n int) {
	for _, c := range sa.children {
		if w.fulfilledBy(c) {
			n++
		}
	}
	return n
}

func (c *childSA) carries(local, remote []wire.Selector) bool {
	return slices.Equal(c.local, local) && slices.Equal(c.remote, remote)
}

// freeLane is the lane with the fewest child SAs like c, any where there is none.
func (sa *ikeSA) freeLane(c *childSA) int {
	lanes, used := make([]int, sa.e.lanes()), false
	take := func(x *childSA) {
		if x != c && x.lane != anyLane && x.like(c) {
			lanes[x.lane]++
			used = true
		}
	}
	for _, x := range sa.children {
		if x.live() && x.from == nil {
			take(x)
		}
	}
	if sa.pending != nil {
		take(sa.pending)
	}
	if !used {
		return anyLane
	}
	return slices.Index(lanes, slices.Min(lanes))
}

// askForLane says that the child SA may be one of several.
func (sa *ikeSA) askForLane(w *wish, c *childSA, req *draft) {
	switch {
	case sa.e.lanes() == 1:
	case w.additional():
		req.notify(wire.NotifySAResourceInfo, []byte{byte(c.lane)})
	default:
		req.notify(wire.NotifySAResourceInfo, nil)
	}
}

// takeLane looks whether the peer knows that the child SA may be one of several.
// An additional one has just the selectors of the first (RFC 9611 section 3).
func (t *childTask) takeLane(sa *ikeSA, m *message, tsi, tsr []wire.Selector) Reason {
	if t.wish == nil { // what is replaced has said so
		return ReasonNone
	}
	t.child.resource = sa.e.lanes() > 1 && wire.FindNotify(m.payloads, wire.NotifySAResourceInfo) != nil
	if t.wish.additional() && !(t.child.resource && slices.Equal(tsi, t.wish.local) && slices.Equal(tsr, t.wish.remote)) {
		return ReasonChildRefused
	}
	return ReasonNone
}

// wantLanes wants one like c for every lane.
func (sa *ikeSA) wantLanes(w *wish, c *childSA) {
	there := func(v *wish) bool { return v.additional() && v.cfg == c.cfg && c.carries(v.local, v.remote) }
	if c.resource && !w.additional() && sa.peer.has(c.cfg) && !sa.peer.lowers(c.cfg) && !slices.ContainsFunc(sa.wishes, there) {
		sa.wishes = append(sa.wishes, &wish{cfg: c.cfg, local: c.local, remote: c.remote, lanes: sa.e.lanes(), suite: c.suite})
	}
}

// refusedLane: the first child SA carries everything, so that a refusal of others
// is nobody's trouble. A peer that has no more is not asked again, but for the
// place of one that it deletes.
func (t *childTask) refusedLane(sa *ikeSA, m *message) {
	n := errorNotify(m.payloads)
	if n == nil { // the peer has one that we do not want
		sa.start(wire.ExchangeInformational, &deleteChildTask{in: t.child.in})
	}
	if n == nil || n.NotifyType == wire.NotifyTSMaxQueue || n.NotifyType == wire.NotifyNoAdditionalSAs {
		t.wish.lanes = max(1, sa.count(t.wish))
		return
	}
	sa.putOff(t.wish, ReasonChildRefused)
}

// lane says whether the child that the peer asks for may be, and whose it is.
func (a *childAnswer) lane(c *childSA) bool {
	if a.old != nil {
		c.lane = a.old.lane
		return true
	}
	c.lane = a.sa.freeLane(c)
	c.resource = wire.FindNotify(a.req.payloads, wire.NotifySAResourceInfo) != nil
	first := wish{cfg: c.cfg, local: c.local, remote: c.remote, lanes: 1}
	return !c.resource || a.sa.count(&first) < max(fewLanes, a.sa.e.lanes())
}

// within are the proposals that leave no choice but the suite.
func (s ESPSuite) within(ps []Proposal) (out []Proposal) {
	of := s.proposal()
	for _, p := range ps {
		q := slices.DeleteFunc(slices.Clone(p), func(t wire.Transform) bool {
			return t.Type != wire.TransformKE && !isAddKE(t) && !slices.Contains(of, t)
		})
		if slices.Contains(q, of[0]) {
			out = append(out, q)
		}
	}
	return out
}

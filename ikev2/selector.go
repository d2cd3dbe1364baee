package ikev2

import (
	"net/netip"
	"slices"

	"culvert/ikev2/wire"
)

func findTS(ps []wire.Payload) (tsi, tsr []wire.Selector, ok bool) {
	i, r := wire.FindTS(ps, false), wire.FindTS(ps, true)
	if i != nil {
		tsi = i.Selectors
	}
	if r != nil {
		tsr = r.Selectors
	}
	return tsi, tsr, len(tsi) > 0 && len(tsr) > 0
}

// narrow is the traffic that policy and request both name (RFC 7296 section
// 2.9), without selectors that another one contains, and as much of it as a
// payload can hold (section 3.13).
func narrow(policy, request []wire.Selector) []wire.Selector {
	var out []wire.Selector
	for _, a := range policy {
		for _, b := range request {
			s, ok := intersect(a, b)
			if !ok || slices.ContainsFunc(out, func(o wire.Selector) bool { return contains(o, s) }) {
				continue
			}
			out = slices.DeleteFunc(out, func(o wire.Selector) bool { return contains(s, o) })
			out = append(out, s)
		}
	}
	return out[:min(len(out), maxSelectors)]
}

const maxSelectors = 255

// Without is what of ss lies outside cut.
func Without(ss, cut []wire.Selector) []wire.Selector { return without(ss, cut) }

// without is what of ss lies outside cut. Selectors are cut by their addresses;
// one of whose ports or protocols cut has some only stays as it is.
func without(ss, cut []wire.Selector) []wire.Selector {
	for _, c := range cut {
		var rest []wire.Selector
		for _, s := range ss {
			rest = append(rest, cutOut(s, c)...)
		}
		ss = rest
	}
	return ss[:min(len(ss), maxSelectors)]
}

func cutOut(s, c wire.Selector) (rest []wire.Selector) {
	common, meet := intersect(s, c)
	if common.Start, common.End = s.Start, s.End; !meet || common != s {
		return []wire.Selector{s}
	}
	before, after := s, s
	if before.End = c.Start.Prev(); s.Start.Less(c.Start) {
		rest = append(rest, before)
	}
	if after.Start = c.End.Next(); c.End.Less(s.End) {
		rest = append(rest, after)
	}
	return rest
}

// within says that every selector lies inside one of the policy's.
func within(ss, policy []wire.Selector) bool {
	return !slices.ContainsFunc(ss, func(s wire.Selector) bool {
		return !slices.ContainsFunc(policy, func(p wire.Selector) bool { return contains(p, s) })
	})
}

func contains(outer, inner wire.Selector) bool {
	s, ok := intersect(outer, inner)
	return ok && s == inner
}

func intersect(a, b wire.Selector) (wire.Selector, bool) {
	s := wire.Selector{Protocol: max(a.Protocol, b.Protocol), Start: later(a.Start, b.Start), End: earlier(a.End, b.End)}
	sameProtocol := a.Protocol == b.Protocol || a.Protocol == 0 || b.Protocol == 0
	ports := false
	s.StartPort, s.EndPort, ports = intersectPorts(a, b)
	sameFamily := a.Start.BitLen() == b.Start.BitLen()
	return s, sameProtocol && ports && sameFamily && s.Start.Compare(s.End) <= 0
}

// intersectPorts: 65535-0 is OPAQUE, ports that cannot be seen (RFC 7296
// section 3.13.1); "any" includes it, a range does not.
func intersectPorts(a, b wire.Selector) (start, end uint16, ok bool) {
	switch {
	case opaque(a):
		return a.StartPort, a.EndPort, opaque(b) || anyPort(b)
	case opaque(b):
		return b.StartPort, b.EndPort, anyPort(a)
	}
	start, end = max(a.StartPort, b.StartPort), min(a.EndPort, b.EndPort)
	return start, end, start <= end
}

func opaque(s wire.Selector) bool  { return s.StartPort == 65535 && s.EndPort == 0 }
func anyPort(s wire.Selector) bool { return s.StartPort == 0 && s.EndPort == 65535 }

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return a
	}
	return b
}

// maxAsked is how many of the peer's selectors are kept for those who want to know
// why it got others.
const maxAsked = 16

// narrowing is what our policy leaves of the selectors of a request.
type narrowing struct {
	child *childSA // nil: nothing
	// more: further traffic of the request can have child SAs of its own.
	more bool
	// pairs: there would be several pairs of selectors where policy has one to a
	// child SA.
	pairs bool
}

func (n narrowing) notify() wire.NotifyType {
	if n.pairs {
		return wire.NotifySinglePairRequired
	}
	return wire.NotifyTSUnacceptable
}

// narrowToPolicy finds the child whose policy has something in common with what
// the peer asks for, on both sides, and narrows to that (RFC 7296 section 2.9):
// the one that has all of the first selectors, which may be those of a packet,
// or else the first one.
func (sa *ikeSA) narrowToPolicy(req *message) narrowing {
	var fits []*childSA
	for i := range sa.peer.Children {
		cfg := &sa.peer.Children[i]
		if c := sa.narrowTo(cfg, sa.localTS(cfg), sa.remoteTS(cfg), req); c != nil {
			fits = append(fits, c)
		}
	}
	if len(fits) == 0 {
		return narrowing{}
	}
	remote, local, _ := findTS(req.payloads)
	lead := packet{local[0], remote[0]}
	n := narrowing{child: fits[max(0, slices.IndexFunc(fits, lead.carriedBy))]}
	n.more = slices.ContainsFunc(fits, func(c *childSA) bool { return c.cfg != n.child.cfg && !sa.fulfilled(&wish{cfg: c.cfg}) })
	if n.child.cfg.SinglePair && len(n.child.local)*len(n.child.remote) > 1 {
		return n.toPair(lead, leads(local) || leads(remote))
	}
	return n
}

// toPair narrows to the pair that a packet lies in. Without one it would be a
// guess.
func (n narrowing) toPair(lead packet, specific bool) narrowing {
	l, r, ok := lead.within(n.child.local, n.child.remote)
	if !ok || !specific {
		return narrowing{pairs: true}
	}
	n.child.local, n.child.remote, n.more = []wire.Selector{l}, []wire.Selector{r}, true
	return n
}

// leads: the first selector lies inside another, as a packet's does.
func leads(ss []wire.Selector) bool {
	return slices.ContainsFunc(ss[1:], func(s wire.Selector) bool { return contains(s, ss[0]) })
}

func (sa *ikeSA) narrowTo(cfg *Child, local, remote []wire.Selector, req *message) *childSA {
	tsi, tsr, _ := findTS(req.payloads)
	l, r := narrow(local, tsr), narrow(remote, tsi)
	if len(l) == 0 || len(r) == 0 {
		return nil
	}
	c := sa.newChild(cfg)
	c.local, c.remote = l, r
	if !within(tsr, l) || !within(tsi, r) {
		c.askedLocal, c.askedRemote = slices.Clone(tsr[:min(len(tsr), maxAsked)]), slices.Clone(tsi[:min(len(tsi), maxAsked)])
	}
	return c
}

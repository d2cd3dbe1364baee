package sad

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// flows indexes outbound SAs by remote prefix, then by local prefix. A prefix
// stands for a selector's range by covering it: the index only narrows the
// search, the entry's selectors decide. A prefix selector, which all but
// exotic ones are, is its own cover; and a peer's choice of ranges cannot
// blow the index up.
type flows = bart.Table[*sources]

// sources are the SAs of one remote prefix by local prefix, newest first, then
// the reservations. It is not a table itself: bart clones values that know how to
// be cloned, here all neighbours of the one that changes.
type sources struct {
	by *bart.Table[[]*Outbound]
}

func withFlows(t *flows, o *Outbound) *flows {
	return editFlows(t, o, func(list []*Outbound) []*Outbound {
		if o.Reserved {
			return append(slices.Clip(list), o)
		}
		return append([]*Outbound{o}, list...)
	})
}

func withoutFlows(t *flows, o *Outbound) *flows {
	return editFlows(t, o, func(list []*Outbound) []*Outbound {
		return slices.DeleteFunc(slices.Clone(list), func(x *Outbound) bool { return x == o })
	})
}

// editFlows applies change to the list of every cell that o's selectors
// cover; a cell that ends empty leaves the index.
func editFlows(t *flows, o *Outbound, change func([]*Outbound) []*Outbound) *flows {
	locals := covers(o.Local)
	for _, remote := range covers(o.Remote) {
		t = t.ModifyPersist(remote, func(s *sources, ok bool) (*sources, bool) {
			by := &bart.Table[[]*Outbound]{}
			if ok {
				by = s.by
			}
			for _, local := range locals {
				by = by.ModifyPersist(local, func(list []*Outbound, _ bool) ([]*Outbound, bool) {
					list = change(list)
					return list, len(list) == 0
				})
			}
			return &sources{by}, by.Size() == 0
		})
	}
	return t
}

// matchFlow walks from the longest remote prefix to shorter ones: a specific
// cell whose SAs want another port must not hide a general one.
func matchFlow(t *flows, f *Flow, lane int) *Outbound {
	for bits := f.Dst.BitLen(); bits >= 0; {
		at, s, ok := t.LookupPrefixLPM(netip.PrefixFrom(f.Dst, bits))
		if !ok {
			return nil
		}
		if o := matchSource(s, f, lane); o != nil {
			return o
		}
		bits = at.Bits() - 1
	}
	return nil
}

func matchSource(s *sources, f *Flow, lane int) *Outbound {
	for bits := f.Src.BitLen(); bits >= 0; {
		at, list, ok := s.by.LookupPrefixLPM(netip.PrefixFrom(f.Src, bits))
		if !ok {
			return nil
		}
		if o := matchLane(list, f, lane); o != nil {
			return o
		}
		bits = at.Bits() - 1
	}
	return nil
}

// matchLane is the first SA that carries f, or the first of the lane's own if
// there is one; a reservation, which stands behind all of them, if there is none.
func matchLane(list []*Outbound, f *Flow, lane int) (first *Outbound) {
	for _, o := range list {
		switch {
		case o.Reserved && first != nil:
			return first
		case !o.Carries(f):
		case o.Lane == lane || o.Reserved:
			return o
		case first == nil:
			first = o
		}
	}
	return first
}

package ikev2

import (
	"cmp"
	"fmt"
	"slices"
)

// Raise has a child SA brought up and kept up, whatever its Start says and whoever
// began the IKE SA. Child is a name of Peer's. It holds until Lower, or for as long
// as the engine knows the peer.
type Raise struct{ Peer, Child string }

// Lower has the SAs of a child taken down, and none asked for until Raise. The
// peer may ask for one.
type Lower struct{ Peer, Child string }

func (Raise) command() {}
func (Lower) command() {}

func (e *Engine) say(name, child string, up bool) error {
	var unknown error
	err := e.withPeer(name, func(p *peer) { unknown = p.say(child, up) })
	return cmp.Or(err, unknown)
}

// Said is what the operator has said of a child last, if anything.
func (e *Engine) Said(peer, child string) (up, said bool) {
	if p := e.byName[peer]; p != nil {
		up, said = p.said[child]
	}
	return up, said
}

// start is how a child starts, where the operator has said nothing else.
func (p *peer) start(c *Child) StartMode {
	switch {
	case p.lowers(c):
		return StartPeer
	case p.said[c.Name]:
		return StartNow
	}
	return c.Start
}

// lowers: the operator wants the child down.
func (p *peer) lowers(c *Child) bool {
	up, said := p.said[c.Name]
	return said && !up
}

func (p *peer) say(child string, up bool) error {
	i := slices.IndexFunc(p.Children, func(c Child) bool { return c.Name == child })
	if i < 0 {
		return fmt.Errorf("peer %q has no child named %q", p.Name, child)
	}
	if p.said == nil {
		p.said = map[string]bool{}
	}
	p.said[child] = up
	c := &p.Children[i]
	if !up {
		p.acquired = withoutWishes(p.acquired, c)
	}
	for _, sa := range []*ikeSA{p.attempt, p.up} {
		switch {
		case sa == nil:
		case up:
			sa.raiseChild(c)
		default:
			sa.lowerChild(c)
		}
	}
	return nil
}

// raiseChild wishes for the child at all times, and asks for it at once, refused or not.
func (sa *ikeSA) raiseChild(c *Child) {
	standing := false
	for _, w := range sa.wishes {
		if w.cfg == c {
			w.refused, w.asleep = 0, false
			standing = standing || !w.once && !w.additional()
		}
	}
	if !standing {
		sa.wishes = append(sa.wishes, sa.newWishes(c)...)
	}
	if sa.state == stateUp {
		sa.bringUpChildren()
	}
}

// lowerChild ends the child, and what is on its way to be one.
func (sa *ikeSA) lowerChild(c *Child) {
	sa.wishes = withoutWishes(sa.wishes, c)
	coming := []*childSA{sa.pending}
	if sa.making != nil {
		coming = append(coming, sa.making.child)
	}
	for _, x := range append(coming, sa.children...) {
		if x != nil && x.cfg == c {
			x.lowered = true
		}
	}
	sa.endUnwanted()
}

func withoutWishes(ws []*wish, of *Child) []*wish {
	return slices.DeleteFunc(ws, func(w *wish) bool { return w.cfg == of })
}

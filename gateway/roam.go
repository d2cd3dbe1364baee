package gateway

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"culvert/config"
	"culvert/ikev2"
)

// Network is the host's own view of its network.
type Network interface {
	io.Closer
	// Changed says that addresses, routes or links may have changed. Changes
	// that nobody has taken yet count once.
	Changed() <-chan struct{}
}

const (
	// settleTime is how long changes of the network are waited out: a new
	// address comes with several.
	settleTime = 100 * time.Millisecond
	// lookInterval bounds how often the ways to all peers are looked at.
	lookInterval = time.Second
)

// roaming is what control knows of the ways to its peers. On every change of
// the network, and after sleep, it looks at all of them, aside and once at a
// time, and tells the engine.
type roaming struct {
	ways    map[string]*way // by peer
	due     <-chan time.Time
	looking bool
	stale   bool // something changed while looking
	slept   bool
	last    time.Time // the latest look
}

// way is how a peer was called last, and whether there was no way at all then.
type way struct {
	path ikev2.Path
	gone bool
}

func newRoaming() roaming { return roaming{ways: map[string]*way{}} }

func (r *roaming) way(peer string) *way {
	if r.ways[peer] == nil {
		r.ways[peer] = &way{}
	}
	return r.ways[peer]
}

// networkChanged has the ways looked at when the changes have settled.
func (c *control) networkChanged() {
	r := &c.roaming
	switch {
	case r.looking:
		r.stale = true
	case r.due == nil:
		r.due = time.After(max(settleTime, time.Until(r.last.Add(lookInterval))))
	}
}

// changed is the network's channel; nil, for ever silent, where none is watched.
func (d *Doors) changed() <-chan struct{} {
	if d.Network == nil {
		return nil
	}
	return d.Network.Changed()
}

// host is what the interfaces say, as far as they say it.
func (d *Doors) host() (h config.Host) {
	if d.Host != nil {
		h, _ = d.Host()
	}
	return h
}

// look is a question about the way to one peer, and the answer.
type look struct {
	peer          string
	remote, local netip.Addr
	path          ikev2.Path
	err           error
}

// lookAround asks for the ways to all peers. With many of them that takes a
// while, so it happens aside.
func (c *control) lookAround(ctx context.Context) {
	r := &c.roaming
	slept := r.slept
	r.due, r.looking, r.slept, r.last = nil, true, false, time.Now()
	c.wake.tell()
	looks := c.looks()
	c.loops.Go(func() {
		for i := range looks {
			looks[i].ask(c.g.doors.LocalAddr)
		}
		host := c.g.doors.host()
		select {
		case c.g.asks <- func(c *control) { c.host = host; c.looked(looks, slept) }:
		case <-ctx.Done():
		}
	})
}

func (l *look) ask(localAddr func(netip.Addr) (netip.Addr, error)) {
	local, err := localAddr(l.remote)
	if l.local.IsValid() && err == nil {
		local = l.local // as configured
	}
	l.err = err
	l.path.Local = netip.AddrPortFrom(local, l.path.Local.Port())
}

// looks are the questions: about the address that a peer is at, or where it is
// not up, about the one where it was called.
func (c *control) looks() (looks []look) {
	for i := range c.g.cfg.Peers {
		p := &c.g.cfg.Peers[i]
		w, s := c.roaming.ways[p.Name], c.peers[p.Name]
		l := look{peer: p.Name, local: p.Local}
		if !l.local.IsValid() && !c.g.cfg.Gateway.Local.IsUnspecified() {
			l.local = c.g.cfg.Gateway.Local
		}
		if w != nil {
			l.path = w.path
		}
		l.remote = l.path.Remote.Addr()
		if s.State == "up" && s.RemoteAddress.IsValid() {
			l.remote = s.RemoteAddress.Addr()
		}
		if !l.remote.IsValid() {
			continue
		}
		if w == nil {
			l.path = ikev2.Path{Local: netip.AddrPortFrom(netip.Addr{}, c.g.cfg.Gateway.IKEPort), Remote: netip.AddrPortFrom(l.remote, p.RemoteIKEPort)}
		}
		looks = append(looks, l)
	}
	return looks
}

// looked tells the engine which ways there are. A way that was gone, or that
// was not looked at while the machine slept, may lead to a peer that has
// forgotten us.
func (c *control) looked(looks []look, slept bool) {
	c.roaming.looking = false
	if c.roaming.stale {
		c.roaming.stale = false
		c.networkChanged()
	}
	if c.deadline != nil {
		return
	}
	for _, l := range looks {
		if c.peers[l.peer] == nil {
			continue // gone with a reload
		}
		w := c.roaming.way(l.peer)
		if l.err != nil {
			c.wayGone(w, l)
			w.gone = true
			continue
		}
		c.command(ikev2.Roam{Peer: l.peer, Path: l.path, Again: slept || w.gone})
		*w = way{path: l.path}
	}
}

// leadsAgain tells the engine, which may be waiting for another attempt.
func (c *control) leadsAgain(peer string, w *way) {
	if w.gone {
		w.gone = false
		c.command(ikev2.Roam{Peer: peer, Path: w.path, Again: true})
	}
}

func (c *control) wayGone(w *way, l look) {
	if !w.gone {
		c.g.log.Warn(fmt.Sprintf("peer %s: no way to %v from this host: %v; waiting for the network", l.peer, l.remote, l.err), "event", "path_gone", "peer", l.peer)
	}
}

// broadcast wakes up all who wait.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait is closed by the next tell.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

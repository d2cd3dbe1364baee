package gateway

import (
	"net/netip"
	"time"

	"culvert/config"
	"culvert/diagnose"
	"culvert/ikev2"
)

// What fits the path to a peer is measured with packets (ikev2/pathmtu.go): the
// system only knows what ICMP has told it.

const (
	// measureAgain is when a path is measured anew, for it may have changed without
	// a sign; measureNow is so where somebody asks what is wrong.
	measureAgain, measureNow = time.Hour, time.Minute
	// measureRetry is when the engine is asked again where it did not tell.
	measureRetry = 15 * time.Second
	// measureAtOnce bounds the searches begun in a trafficInterval.
	measureAtOnce = 64
)

// measurement is of the path between two addresses. Size is the largest packet
// that arrived, of those up to most; 0 where that cannot be told, or not yet.
type measurement struct {
	local, remote netip.Addr
	asked, told   time.Time
	size, most    int
	// silent: the system knows nothing of it.
	silent bool
}

// of says whether p is the path.
func (m *measurement) of(p ikev2.Path) bool {
	return m != nil && m.local == p.Local.Addr() && m.remote == p.Remote.Addr()
}

// narrow says that the path takes less than was wanted.
func (m *measurement) narrow() bool { return m.size > 0 && m.size < m.most }

// due says whether it is time to ask.
func (m *measurement) due(now time.Time) bool {
	if m.told.Before(m.asked) {
		return now.Sub(m.asked) >= measureRetry
	}
	return now.Sub(m.told) >= measureAgain
}

// doubt has a path measured soon, unless it has just been.
func (c *control) doubt(peer string) {
	if m := c.measured[peer]; m != nil && time.Since(m.told) >= measureNow {
		m.told = time.Time{}
	}
}

// pathMTU is the largest packet that a path is known to take, to the system or by
// measurement; 0 when nobody knows.
func (c *control) pathMTU(peer string, p ikev2.Path) int {
	known := c.g.pathMTU(p)
	if m := c.measured[peer]; m.of(p) && m.narrow() && (known == 0 || m.size < known) {
		return m.size
	}
	return known
}

// measurePaths asks for the paths that have not been measured for a while.
func (c *control) measurePaths() {
	if c.deadline != nil {
		return
	}
	now, left, sending := time.Now(), measureAtOnce, map[string]*child{}
	for _, ch := range c.children {
		if ch.out != nil {
			sending[ch.Peer] = ch
		}
	}
	for i := range c.g.cfg.Peers {
		name := c.g.cfg.Peers[i].Name
		ch, m := sending[name], c.measured[name]
		if ch == nil || left == 0 {
			continue
		}
		path := ikev2.Path(ch.Path())
		if !m.of(path) {
			m = &measurement{local: path.Local.Addr(), remote: path.Remote.Addr()}
			c.measured[name] = m
		} else if !m.due(now) {
			continue
		}
		left--
		m.asked = now
		c.command(ikev2.FindPathMTU{Peer: name, Most: max(m.most, c.longest(ch))})
	}
}

// longest is the largest packet in bytes that the child's traffic makes.
func (c *control) longest(ch *child) int {
	path := ch.Path()
	known, six := c.g.pathMTU(ikev2.Path(path)), path.Remote.Addr().Is6()
	if known == 0 {
		known = defaultPathMTU
	}
	inner := min(innerMTU(known, six, ch.Suite), c.g.doors.Device.MTU())
	if limit := c.g.cfg.Gateway.MTU; limit != 0 {
		inner = min(inner, limit)
	}
	return outerHeaders(six) + ch.Suite.PacketLen(inner)
}

// pathMeasured has the children of a peer keep to what was found.
func (c *control) pathMeasured(o ikev2.PathMTU) {
	m := c.measured[o.Peer]
	if !m.of(o.Path) {
		return
	}
	m.told = time.Now()
	if o.Size == 0 {
		return // the last result holds, if there was one
	}
	m.size, m.most = o.Size, o.Most
	known := c.g.pathMTU(o.Path)
	m.silent = m.narrow() && (known == 0 || known-m.size >= 4)
	for _, ch := range c.children {
		if ch.Peer == o.Peer {
			ch.SetPathMTU(c.pathMTU(ch.Peer, ikev2.Path(ch.Path())))
		}
	}
}

// reached is the largest packet in bytes that arrived at a peer, 0 where that is
// not known.
func (c *control) reached(peer string) int {
	if m := c.measured[peer]; m != nil && c.peers[peer].State == "up" {
		return m.size
	}
	return 0
}

// blackHoles are the paths that lose packets for their size and do not say so, by
// peer.
func (c *control) blackHoles() map[string][]Finding {
	inner := map[string]int{}
	for _, ch := range c.children {
		path := ikev2.Path(ch.Path())
		if m := c.measured[ch.Peer]; ch.out != nil && m.of(path) && m.silent {
			n := innerMTU(m.size, path.Remote.Addr().Is6(), ch.Suite)
			if was, ok := inner[ch.Peer]; !ok || n < was {
				inner[ch.Peer] = n
			}
		}
	}
	by := map[string][]Finding{}
	for peer, n := range inner {
		f, m := facts{c.g.cfg, ikev2.Event{Peer: peer}}, c.measured[peer]
		r := diagnose.BlackHole{Peer: diagnose.Peer{Addr: c.peers[peer].RemoteAddress, NAT: c.peers[peer].nat}, Connection: f.connection(),
			Size: m.size, Most: m.most, Inner: n, MTUAt: f.gatewaySetting("mtu")}.Report()
		by[peer] = []Finding{{Peer: peer, Code: r.Code, Why: r.Summary, Text: r.Detail}}
	}
	return by
}

// gatewaySetting is where the setting stands, or the file where it could.
func (f facts) gatewaySetting(key string) diagnose.Setting {
	s := f.at(f.cfg.Gateway.Where, key)
	if s.Key == "" && f.cfg.Format == config.FormatTOML {
		s = diagnose.Setting{File: f.cfg.File, Key: key}
	}
	return s
}

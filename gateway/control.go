package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/config"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/natt"
)

// control is the one goroutine that owns the IKE engine and writes the SA
// tables. Everything reaches it through channels; it does what the engine's
// outputs say, in their order.
type control struct {
	g         *Gateway
	engine    *ikev2.Engine
	keylog    *keyLog
	children  map[uint32]*child // by inbound SPI
	peers     map[string]*peerStatus
	notices   chan notice // from the data path
	reserved  []*sad.Outbound
	dropped   map[string]*lane // of each peer's packets, over all its SAs
	loops     loops
	dialing   map[string]*search             // for peers' addresses
	said      map[string]bool                // peers that the operator has told to connect, or not to
	draining  bool                           // because the operator has said so
	ctx       context.Context                // ends when the gateway is to
	strangers map[ikev2.EventKind]*strangers // of log records
	// assigned is what peers assign to us, ownAddrs the device's addresses by the
	// peer that assigned them last, routes the prefixes that lead into it.
	assigned      map[string]ikev2.AssignAddresses
	ownAddrs      map[string][]netip.Addr
	routes        []netip.Prefix
	leasesChanged bool      // since the lease file was written
	reported      time.Time // when the engine last heard of traffic
	timer         *time.Timer
	deadline      <-chan time.Time // when stopping: the end of waiting for peers
	scratch       []byte
	roaming       roaming
	clocks        clocks
	history       history
	watch         watch
	measured      map[string]*measurement // by peer
	host          config.Host             // its interfaces, when last looked at
	wake          broadcast               // of those who wait for a way to a peer
}

// noticesLen bounds what the data path has to say and control has not heard.
const noticesLen = 64

// trafficInterval is how often the engine hears which children carried
// traffic: often against its intervals of 20 and 30 s.
const trafficInterval = 5 * time.Second

// trafficPause bounds how often it hears so before a timer of its own, which may
// be about a peer's silence: every look costs a visit to every child, and with
// thousands of peers timers end all the time.
const trafficPause = time.Second

func newControl(g *Gateway, e *ikev2.Engine, k *keyLog) *control {
	c := &control{
		g: g, engine: e, keylog: k, children: map[uint32]*child{}, dropped: map[string]*lane{}, assigned: map[string]ikev2.AssignAddresses{}, ownAddrs: map[string][]netip.Addr{}, peers: map[string]*peerStatus{},
		notices: make(chan notice, noticesLen), loops: loops{ended: make(chan error, 1)},
		dialing: map[string]*search{}, said: map[string]bool{}, strangers: map[ikev2.EventKind]*strangers{}, history: history{peers: map[string]*past{}}, timer: time.NewTimer(time.Hour), roaming: newRoaming(), watch: newWatch(), measured: map[string]*measurement{},
	}
	for i := range g.cfg.Peers {
		c.peers[g.cfg.Peers[i].Name] = newPeerStatus(&g.cfg.Peers[i])
	}
	return c
}

// run returns when ctx has ended and the peers have been told, or have had
// their time to answer; or what broke.
func (c *control) run(ctx context.Context) (broken error) {
	defer c.timer.Stop()
	c.ctx = ctx
	for i := range c.g.cfg.Peers {
		if p := &c.g.cfg.Peers[i]; p.Initiate {
			c.dial(ctx, p)
		}
	}
	traffic := time.NewTicker(trafficInterval)
	defer traffic.Stop()
	c.sampleLosses()
	c.host = c.g.doors.host()
	c.compareClocks()
	clock := time.NewTicker(clockInterval)
	defer clock.Stop()
	past := time.NewTicker(historyInterval)
	defer past.Stop()
	stop, changed := ctx.Done(), c.g.doors.changed()
	for c.deadline == nil || !c.engine.Idle() {
		c.arm()
		select {
		case d := <-c.g.inbox:
			c.engine.HandleDatagram(time.Now(), d)
		case now := <-c.timer.C:
			if now.Sub(c.reported) >= trafficPause {
				c.reportTraffic()
			}
			c.engine.HandleTimeout(now)
		case <-traffic.C:
			c.reportTraffic()
			c.measurePaths()
			c.lookForTrouble()
			c.tellLeftOut()
			c.saveLeases()
		case now := <-past.C:
			c.remember(now)
		case <-clock.C:
			c.compareClocks()
		case <-changed:
			c.networkChanged()
		case <-c.roaming.due:
			c.lookAround(ctx)
		case n := <-c.notices:
			c.notice(ctx, n)
		case ask := <-c.g.asks:
			ask(c)
		case err := <-c.loops.ended:
			broken = cmp.Or(broken, err)
			c.stop()
		case <-stop:
			stop = nil
			c.stop()
		case <-c.deadline:
			return broken
		}
		c.drain(ctx)
	}
	return broken
}

// stop tells every peer, once, and gives them a bounded time to answer.
func (c *control) stop() {
	if c.deadline == nil {
		c.deadline = time.After(shutdownTime)
		c.command(ikev2.Shutdown{})
	}
}

// notice takes what the data path saw.
func (c *control) notice(ctx context.Context, n notice) {
	switch n.Kind {
	case noticeNoSA:
		c.acquire(ctx, n)
	case noticeMoved:
		c.command(ikev2.Moved{SPI: n.InboundSPI, Path: ikev2.Path(n.Path)})
	case noticeExhausted:
		c.g.log.Error(fmt.Sprintf("child SA %08x has used all its sequence numbers and carries nothing until it is replaced", n.InboundSPI), "event", "sequence_exhausted")
		c.command(ikev2.Rekey{SPI: n.InboundSPI})
	case noticeUnknownSPI:
		c.command(ikev2.UnknownSPI{SPI: n.InboundSPI, Path: ikev2.Path(n.Path)})
	}
}

// Drain has the gateway take no new peers until it ends, and sends those that it
// can to another gateway: an address or a host name, empty for none. When it ends
// it leaves those that hold a ticket to resume with its successor. The error
// says what is wrong with to, or that the gateway does not run.
func (g *Gateway) Drain(to string) error {
	err := ErrNotRunning
	g.ask(func(c *control) {
		if err = c.engine.Command(time.Now(), ikev2.Drain{To: to}); err == nil {
			c.draining = true
			c.g.log.Info("draining: no new peers are taken", "event", "draining", "to", to)
		}
	})
	return err
}

// arm sets the timer to the engine's deadline.
func (c *control) arm() {
	at, ok := c.engine.Deadline()
	if !ok {
		at = time.Now().Add(time.Hour)
	}
	c.timer.Reset(time.Until(at))
}

func (c *control) command(cmd ikev2.Command) {
	if err := c.engine.Command(time.Now(), cmd); err != nil {
		c.g.log.Error(err.Error(), "event", "command_failed")
	}
}

// ask runs f on the control goroutine and waits for it. False when the
// gateway is not running yet or no longer.
func (g *Gateway) ask(f func(*control)) bool {
	select {
	case <-g.running:
	default:
		return false
	}
	finished := make(chan struct{})
	select {
	case g.asks <- func(c *control) { f(c); close(finished) }:
		<-finished
		return true
	case <-g.done:
		return false
	}
}

// Answers waits until the gateway runs, and for the control goroutine to have
// time for us. False when the gateway has ended, or ctx before it began.
func (g *Gateway) Answers(ctx context.Context) bool {
	select {
	case <-g.running:
		return g.ask(func(*control) {})
	case <-ctx.Done():
		return false
	}
}

// drain does what the engine wants done.
func (c *control) drain(ctx context.Context) {
	for {
		o, ok := c.engine.Poll()
		if !ok {
			return
		}
		switch o := o.(type) {
		case ikev2.Transmit:
			c.transmit(o)
		case ikev2.InstallInbound:
			c.installInbound(o)
		case ikev2.InstallOutbound:
			c.installOutbound(o)
		case ikev2.RemoveInbound:
			c.removeInbound(o.InboundSPI)
		case ikev2.RemoveOutbound:
			c.removeOutbound(o.InboundSPI)
		case ikev2.MovePeer:
			c.move(o)
		case ikev2.Redial:
			c.redial(ctx, o)
		case ikev2.AssignAddresses:
			c.assign(o)
		case ikev2.RemoveAddresses:
			c.unassign(o.Peer)
		case ikev2.PathMTU:
			c.pathMeasured(o)
		case ikev2.IKEKeys:
			c.keylog.ike(o)
			if row, ok := ikeKeyRow(o); ok {
				c.g.tap.capture().addRows("ikev2_decryption_table", row)
			}
		case ikev2.Event:
			c.happened(ctx, o)
		}
	}
}

// transmit sends an IKE message, behind the non-ESP marker on the port that it
// shares with ESP, or a keepalive as it is (RFC 3948 sections 2.2 and 2.3).
func (c *control) transmit(o ikev2.Transmit) {
	c.g.tap.capture().ike(natt.Path(o.Path), o.Payload, false)
	conn := c.g.doors.IKE
	payload := o.Payload
	if o.Path.Encap {
		conn = c.g.doors.NATT
		if len(payload) > 1 {
			c.scratch = append(natt.AppendMarker(c.scratch[:0]), payload...)
			payload = c.scratch
		}
	}
	if _, err := conn.Send([]natt.Run{{Bytes: payload, Path: natt.Path(o.Path), Whole: o.Whole}}); err != nil {
		c.g.log.Debug(fmt.Sprintf("sending IKE to %v: %v", o.Path.Remote, err), "event", "send_failed")
	}
}

// reportTraffic tells the engine which children carried something since the
// last time, and which need new keys for it.
func (c *control) reportTraffic() {
	c.reported = time.Now()
	for spi, ch := range c.children {
		if t := ch.traffic(); t.In || t.Out {
			c.command(t)
		}
		if ch.wornOut() {
			c.command(ikev2.Rekey{SPI: spi})
		}
	}
}

// dialRetry is the wait before another look for a way to a peer that has none.
const dialRetry = 5 * time.Second

// search looks for the address of a peer, until there is one or something else
// has made it needless.
type search struct {
	peer *config.Peer
	anew bool // connect even where the peer is up
	end  context.CancelFunc
}

// dial finds out where a peer is and from which address we reach it, then has
// the engine connect. Looking a name up takes time, so it happens aside, once
// at a time for each peer.
func (c *control) dial(ctx context.Context, p *config.Peer) *search {
	if s := c.dialing[p.Name]; s != nil {
		return s
	}
	ctx, end := context.WithCancel(ctx)
	s := &search{peer: p, end: end}
	c.dialing[p.Name] = s
	gateway := c.g.cfg.Gateway
	c.loops.Go(func() {
		for ctx.Err() == nil {
			changed := c.wake.wait()
			path, err := c.g.findPath(ctx, &gateway, p)
			select {
			case c.g.asks <- func(c *control) { c.found(s, path, err) }:
			case <-ctx.Done():
			}
			if err == nil {
				return
			}
			select {
			case <-time.After(dialRetry):
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	return s
}

// hangUp ends the search for a peer's address.
func (c *control) hangUp(peer string) {
	if s := c.dialing[peer]; s != nil {
		s.end()
		delete(c.dialing, peer)
	}
}

// found takes what dial found, a way or why there is none. A gateway that is
// stopping connects no more.
func (c *control) found(s *search, path ikev2.Path, err error) {
	name := s.peer.Name
	if c.dialing[name] != s {
		return
	}
	w := c.roaming.way(name)
	if err != nil {
		w.gone = true
		c.noPath(s.peer, err)
		return
	}
	c.hangUp(name)
	w.path = path
	if c.deadline == nil {
		c.command(ikev2.Connect{Peer: name, Path: path, Once: !c.initiates(s.peer), Anew: s.anew})
		c.leadsAgain(name, w)
	}
}

// initiates says whether we keep the peer connected: what the operator has said
// since the start goes before the configuration.
func (c *control) initiates(p *config.Peer) bool {
	if said, ok := c.said[p.Name]; ok {
		return said
	}
	return p.Initiate
}

// redial finds the way to where a peer sends us, once. Without one, the peer
// stays where it is.
func (c *control) redial(ctx context.Context, o ikev2.Redial) {
	i := slices.IndexFunc(c.g.cfg.Peers, func(p config.Peer) bool { return p.Name == o.Peer })
	if i < 0 {
		return
	}
	p, gateway := c.g.cfg.Peers[i], c.g.cfg.Gateway
	p.Remote = o.Host
	c.loops.Go(func() {
		path, err := c.g.findPath(ctx, &gateway, &p)
		found := func(c *control) { c.command(ikev2.Redirected{Peer: p.Name, Path: path}) }
		if err != nil {
			found = func(c *control) {
				c.g.log.Warn(fmt.Sprintf("%s: no way to the gateway that it sends us to: %v", p.Name, err), "event", "no_path", "peer", p.Name)
			}
		}
		select {
		case c.g.asks <- found:
		case <-ctx.Done():
		}
	})
}

// findPath resolves a peer's address, and our own for it: the configured one,
// or the one that the system would send from.
func (g *Gateway) findPath(ctx context.Context, gateway *config.Gateway, p *config.Peer) (ikev2.Path, error) {
	remote, err := netip.ParseAddr(p.Remote)
	if remote = remote.Unmap(); err != nil {
		if remote, err = g.lookup(ctx, p.Remote); err != nil {
			return ikev2.Path{}, err
		}
	}
	local := p.Local
	if !local.IsValid() {
		local = gateway.Local
	}
	if !local.IsValid() || local.IsUnspecified() {
		if local, err = g.doors.LocalAddr(remote); err != nil {
			return ikev2.Path{}, unreachable{err, remote}
		}
	}
	return ikev2.Path{Local: netip.AddrPortFrom(local, gateway.IKEPort), Remote: netip.AddrPortFrom(remote, p.RemoteIKEPort)}, nil
}

// unreachable is the system's word on an address to which it has no way.
type unreachable struct {
	error
	remote netip.Addr
}

func (g *Gateway) lookup(ctx context.Context, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dialRetry)
	defer cancel()
	addrs, err := g.doors.Resolve(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, errors.New("it has no address")
	}
	i := max(0, slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is4() }))
	return addrs[i].Unmap(), nil
}

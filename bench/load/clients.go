package load

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
	"culvert/natt"
)

func clientName(i int) string { return fmt.Sprintf("c%05d", i) }
func clientKey(i int) string  { return fmt.Sprintf("a key of its own for %05d", i) }

func clientAddr(i int) netip.Addr  { return netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}) }
func clientInner(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// clientServer is what a client asks for of the gateway's network: each something
// else, as all of them are one engine, which minds that no two peers lead to the
// same.
func clientServer(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}) }

// client is one peer of the gateway.
type client struct {
	path  ikev2.Path
	begun time.Time
	up    bool   // since connect or reconnect began
	child uint32 // the inbound SPI of the child SA that is
	spi   uint32 // its outbound one, of packets by the path esp
	esp   ikev2.Path
}

// clients are all peers of the gateway, in one engine.
type clients struct {
	o         Options
	engine    *ikev2.Engine
	ike, natt natt.Conn
	inbox     chan ikev2.Datagram
	all       []*client
	byName    map[string]*client
	up        int
	begun     int             // were told to connect
	took      []time.Duration // of the tunnels that connect brought up
	resumed   int             // since reconnect began
	next      int             // to send a packet
}

func newClients(o Options) (*clients, error) {
	c := &clients{o: o, inbox: make(chan ikev2.Datagram, 4096), byName: map[string]*client{}}
	doors, err := loopback(clientIKEPort, clientNATTPort)
	if err != nil {
		return nil, err
	}
	c.ike, c.natt = doors.IKE, doors.NATT
	c.engine = ikev2.New(c.config(), rand.Reader)
	go c.receive(c.ike)
	go c.receive(c.natt)
	return c, nil
}

func (c *clients) config() ikev2.Config {
	cfg := ikev2.Config{IKEPort: clientIKEPort, NATTPort: clientNATTPort}
	gw, _ := ikev2.ParseIdentity("@gateway")
	for i := range c.o.Peers {
		id, _ := ikev2.ParseIdentity("@" + clientName(i))
		cfg.Peers = append(cfg.Peers, ikev2.Peer{
			Name: clientName(i), LocalID: id, RemoteID: gw, PSK: []byte(clientKey(i)), RemoteNATTPort: gatewayNATTPort,
			Timing: ikev2.Timing{DPD: c.o.DPD},
			Children: []ikev2.Child{{
				Name:   "t",
				Local:  []wire.Selector{wire.SelectorFromPrefix(netip.PrefixFrom(clientInner(i), 32))},
				Remote: []wire.Selector{wire.SelectorFromPrefix(netip.PrefixFrom(clientServer(i), 32))},
			}},
		})
		one := &client{path: ikev2.Path{
			Local:  netip.AddrPortFrom(clientAddr(i), clientIKEPort),
			Remote: netip.AddrPortFrom(gatewayAddr, gatewayIKEPort),
		}}
		c.all, c.byName[clientName(i)] = append(c.all, one), one
	}
	return cfg
}

// receive carries a socket's messages to the engine's goroutine.
func (c *clients) receive(conn natt.Conn) {
	runs := make([]natt.Run, 64)
	for {
		n, err := conn.Receive(runs)
		if err != nil {
			return
		}
		for _, r := range runs[:n] {
			for i := range r.Segments() {
				c.deliver(r.Path, r.Segment(i))
			}
		}
	}
}

func (c *clients) deliver(p natt.Path, b []byte) {
	if p.Encap {
		if natt.Classify(b) != natt.IKE {
			return
		}
		b = natt.StripMarker(b)
	}
	c.inbox <- ikev2.Datagram{Path: ikev2.Path(p), Payload: append([]byte(nil), b...)}
}

func (c *clients) close() {
	_ = c.ike.Close()
	_ = c.natt.Close()
}

// connect brings every client up, Window at a time.
func (c *clients) connect(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	err := c.run(ctx, nil, func() bool {
		for c.begun < len(c.all) && c.begun-c.up < c.o.Window {
			one, name := c.all[c.begun], clientName(c.begun)
			c.begun++
			one.begun = time.Now()
			if err := c.engine.Command(time.Now(), ikev2.Connect{Peer: name, Path: one.path}); err != nil {
				panic(err) // a name that config gave it
			}
			c.drain()
		}
		return c.up == len(c.all)
	})
	return time.Since(begun), err
}

// trafficTick is how often some of the clients' packets are sent.
const trafficTick = 10 * time.Millisecond

// reconnect waits until every client has found out that the gateway has
// forgotten it, and is up again; half is when half of them were.
func (c *clients) reconnect(ctx context.Context) (all, half time.Duration, err error) {
	begun := time.Now()
	c.up, c.resumed = 0, 0
	for _, one := range c.all {
		one.up = false
	}
	var traffic <-chan time.Time
	if c.o.Traffic > 0 {
		ticker := time.NewTicker(trafficTick)
		defer ticker.Stop()
		traffic = ticker.C
	}
	err = c.run(ctx, traffic, func() bool {
		if half == 0 && 2*c.up >= len(c.all) {
			half = time.Since(begun)
		}
		return c.up == len(c.all)
	})
	return time.Since(begun), half, err
}

// run drives the engine until done says so, and sends packets at each tick of
// traffic.
func (c *clients) run(ctx context.Context, traffic <-chan time.Time, done func() bool) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := time.Now()
	for !done() {
		if now := time.Now(); now.Sub(said) > 2*time.Second {
			said = now
			c.o.Progress(fmt.Sprintf("%d of %d tunnels are up", c.up, c.o.Peers))
		}
		at, ok := c.engine.Deadline()
		if !ok {
			at = time.Now().Add(time.Second)
		}
		timer.Reset(time.Until(at))
		select {
		case d := <-c.inbox:
			c.engine.HandleDatagram(time.Now(), d)
		case now := <-timer.C:
			c.engine.HandleTimeout(now)
		case <-traffic:
			c.sendPackets()
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tunnels were up: %w", c.up, c.o.Peers, ctx.Err())
		}
		c.drain()
	}
	return nil
}

// sendPackets sends those of one tick. They look like ESP from outside, which is
// all that a gateway looks at which does not know the SPI.
func (c *clients) sendPackets() {
	count := int(int64(len(c.all)) * int64(trafficTick) / int64(c.o.Traffic))
	for range max(count, 1) {
		one := c.all[c.next%len(c.all)]
		c.next++
		if one.spi == 0 || one.up {
			continue
		}
		packet := binary.BigEndian.AppendUint32(nil, one.spi)
		packet = append(packet, make([]byte, 60)...)
		_, _ = c.natt.Send([]natt.Run{{Bytes: packet, Path: natt.Path(one.esp)}})
	}
}

func (c *clients) drain() {
	for {
		o, ok := c.engine.Poll()
		if !ok {
			return
		}
		switch o := o.(type) {
		case ikev2.Transmit:
			c.transmit(o)
		case ikev2.InstallOutbound:
			one := c.byName[o.Peer]
			one.spi, one.esp = o.OutboundSPI, o.Path
		case ikev2.Event:
			c.happened(o)
		}
	}
}

func (c *clients) transmit(o ikev2.Transmit) {
	conn, b := c.ike, o.Payload
	if o.Path.Encap {
		conn = c.natt
		if len(b) > 1 {
			b = append(natt.AppendMarker(nil), b...)
		}
	}
	_, _ = conn.Send([]natt.Run{{Bytes: b, Path: natt.Path(o.Path)}})
}

func (c *clients) happened(e ikev2.Event) {
	one := c.byName[e.Peer]
	switch e.Kind {
	case ikev2.EventEstablished:
		if e.Resumed {
			c.resumed++
		}
	case ikev2.EventChildUp:
		one.child = e.InboundSPI
		c.count(one, true)
		if !one.begun.IsZero() {
			c.took = append(c.took, time.Since(one.begun))
			one.begun = time.Time{}
		}
	case ikev2.EventChildDown:
		if one.child == e.InboundSPI {
			c.count(one, false)
		}
	}
}

func (c *clients) count(one *client, up bool) {
	switch {
	case up && !one.up:
		c.up++
	case !up && one.up:
		c.up--
	}
	one.up = up
}

// percentile is of the times that the clients took to come up.
func (c *clients) percentile(p int) time.Duration {
	slices.Sort(c.took)
	return c.took[min(len(c.took)*p/100, len(c.took)-1)]
}

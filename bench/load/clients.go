package load

import (
	"context"
	"crypto/rand"
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

// clients are all peers of the gateway, in one engine.
type clients struct {
	o         Options
	engine    *ikev2.Engine
	ike, natt natt.Conn
	inbox     chan ikev2.Datagram
	path      map[string]ikev2.Path
	up        map[string]bool // since connect or reconnect began
	next      int             // the first that was never told to connect
	begun     map[string]time.Time
	took      []time.Duration // of the tunnels that connect brought up
	resumed   int             // since reconnect began
}

func newClients(o Options) (*clients, error) {
	c := &clients{o: o, inbox: make(chan ikev2.Datagram, 4096), path: map[string]ikev2.Path{}, up: map[string]bool{}, begun: map[string]time.Time{}}
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
				Remote: []wire.Selector{wire.SelectorFromPrefix(netip.MustParsePrefix("192.168.0.0/16"))},
			}},
		})
		c.path[clientName(i)] = ikev2.Path{
			Local:  netip.AddrPortFrom(clientAddr(i), clientIKEPort),
			Remote: netip.AddrPortFrom(gatewayAddr, gatewayIKEPort),
		}
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
	err := c.run(ctx, func() bool {
		for c.next < c.o.Peers && c.next-len(c.up) < c.o.Window {
			name := clientName(c.next)
			c.next++
			c.begun[name] = time.Now()
			if err := c.engine.Command(time.Now(), ikev2.Connect{Peer: name, Path: c.path[name]}); err != nil {
				panic(err) // a name that config gave it
			}
			c.drain()
		}
		return len(c.up) == c.o.Peers
	})
	return time.Since(begun), err
}

// reconnect waits until every client has found out that the gateway has
// forgotten it, and is up again.
func (c *clients) reconnect(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	c.up, c.resumed = map[string]bool{}, 0
	err := c.run(ctx, func() bool { return len(c.up) == c.o.Peers })
	return time.Since(begun), err
}

// run drives the engine until done says so.
func (c *clients) run(ctx context.Context, done func() bool) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := time.Now()
	for !done() {
		if now := time.Now(); now.Sub(said) > 2*time.Second {
			said = now
			c.o.Progress(fmt.Sprintf("%d of %d tunnels are up", len(c.up), c.o.Peers))
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
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tunnels were up: %w", len(c.up), c.o.Peers, ctx.Err())
		}
		c.drain()
	}
	return nil
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
	switch e.Kind {
	case ikev2.EventEstablished:
		if e.Resumed {
			c.resumed++
		}
	case ikev2.EventChildUp:
		c.up[e.Peer] = true
		if at, first := c.begun[e.Peer]; first {
			c.took = append(c.took, time.Since(at))
			delete(c.begun, e.Peer)
		}
	case ikev2.EventChildDown:
		delete(c.up, e.Peer)
	}
}

// percentile is of the times that the clients took to come up.
func (c *clients) percentile(p int) time.Duration {
	slices.Sort(c.took)
	return c.took[min(len(c.took)*p/100, len(c.took)-1)]
}

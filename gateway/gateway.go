// Package gateway composes the rooms into one IPsec gateway: it opens the
// doors (TUN device, UDP sockets), starts the goroutines, and carries data
// between the IKE engine, the SA tables and the data path.
//
//	           TUN device                      UDP 4500        UDP 500
//	               |                            ^     |           |
//	outbound.go    +-> SA of the flow -> seal --+     |           |
//	               ^                                  v           |
//	inbound.go     +-- selectors <- open <- SA of the SPI         |
//	                                                  | IKE       |
//	                                                  v           v
//	                  several lanes: a queue, a socket and both loops for each
//	control.go        timer, commands ------> one goroutine: the IKE engine,
//	                                          the only writer of the SA tables
package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/config"
	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/natt"
	"culvert/tun"
)

// Options are what a caller may put in place of the machine's own.
type Options struct {
	// Log takes one record for each event; nil discards them. The journal has
	// them anyway.
	Log *slog.Logger
	// KeyLog is a directory that gets Wireshark's tables of IKE and ESP keys.
	// Whoever reads it reads the traffic.
	KeyLog string
	// Doors replace the machine's device, sockets and routes.
	Doors *Doors
	// Random replaces the system's source of random bytes.
	Random io.Reader
}

// Doors are the gateway's ways out. The gateway closes what it was given.
type Doors struct {
	Device    tun.Device
	IKE, NATT natt.Conn
	// Lanes are further queues of the device and further sockets on NATT's port,
	// a pair for each core that is to carry packets beside the first.
	Lanes []Lane
	// LocalAddr is the address from which this host reaches remote.
	LocalAddr func(remote netip.Addr) (netip.Addr, error)
	// PathMTU is the largest packet in bytes that a path is known to take; nil
	// knows nothing.
	PathMTU func(local, remote netip.Addr) (int, error)
	// Network tells of changes of this host's addresses and routes; nil tells
	// of none.
	Network Network
	// Clock is the time of day, and for how long the machine has slept since it
	// was started; nil is the system's.
	Clock func() (wall time.Time, slept time.Duration)
	// Resolve turns a host name into addresses.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Host is what the machine's interfaces say; nil knows nothing.
	Host func() (config.Host, error)
	// AddRoute and DelRoute lead a prefix into the device.
	// ChangeRoute gives a route of AddRoute other options.
	AddRoute    func(prefix netip.Prefix, opts tun.RouteOptions) error
	ChangeRoute func(prefix netip.Prefix, opts tun.RouteOptions) error
	DelRoute    func(prefix netip.Prefix) error
	// AddAddr and DelAddr are for addresses of the device itself.
	AddAddr, DelAddr func(netip.Addr) error
}

// Lane is what one core carries packets between.
type Lane struct {
	Device tun.Device
	NATT   natt.Conn
}

// lanes are all of them; IKE is the first one's.
func (d *Doors) lanes() []Lane { return append([]Lane{{d.Device, d.NATT}}, d.Lanes...) }

// Gateway is one running configuration.
type Gateway struct {
	cfg      *config.Config // control's, once Run has begun: Reload takes another
	opts     Options
	log      *slog.Logger
	journal  *Journal
	doors    *Doors
	table    sad.Table
	counters Counters
	tap      tap
	started  time.Time

	inbox   chan ikev2.Datagram
	asks    chan func(*control)
	running chan struct{} // closed when Run begins
	done    chan struct{} // closed when Run ends
}

// inboxLen bounds the IKE messages that wait for the control goroutine; more
// are dropped and counted, so that a flood costs no memory.
const inboxLen = 256

// shutdownTime bounds how long Run waits for peers to answer our Delete.
const shutdownTime = 2 * time.Second

// New opens the doors. The error says in plain words what is missing: rights,
// a free port, /dev/net/tun.
func New(cfg *config.Config, opts Options) (*Gateway, error) {
	g := &Gateway{
		cfg: cfg, opts: opts, doors: opts.Doors, started: time.Now(),
		inbox: make(chan ikev2.Datagram, inboxLen), asks: make(chan func(*control)),
		running: make(chan struct{}), done: make(chan struct{}),
	}
	next := slog.Handler(slog.DiscardHandler)
	if opts.Log != nil {
		next = opts.Log.Handler()
	}
	g.journal = NewJournal(next)
	g.log = slog.New(g.journal)
	if g.doors == nil {
		doors, err := openDoors(cfg)
		if err != nil {
			return nil, err
		}
		g.doors = doors
	}
	return g, nil
}

// Journal has the gateway's own records, and those of Log.
func (g *Gateway) Journal() *Journal { return g.journal }

// Log is for records that belong to the gateway's, of who runs it.
func (g *Gateway) Log() *slog.Logger { return g.log }

// Run carries traffic until ctx ends; then it tells the peers, takes down
// routes and device, and returns nil. Any other return is a failure that no
// retry mends: a socket or the device broke, or a file of keys cannot be read or
// written; peers are told of that end too. Run may be called once, and leaves no
// goroutine behind.
func (g *Gateway) Run(ctx context.Context) error {
	close(g.running)
	defer close(g.done)
	keylog, err := openKeyLog(g.opts.KeyLog)
	if err != nil {
		g.closeDoors()
		return err
	}
	defer func() { _ = keylog.Close() }()
	random := g.opts.Random
	if random == nil {
		random = rand.Reader
	}
	tickets, err := ticketKey(g.cfg, random)
	if err != nil {
		g.closeDoors()
		return err
	}
	g.log.Info(fmt.Sprintf("device %s is up, MTU %d", g.doors.Device.Name(), g.doors.Device.MTU()),
		"event", "device_up", "device", g.doors.Device.Name(), "mtu", g.doors.Device.MTU(),
		"offload", g.doors.Device.Offload().String(), "udp_offload", g.doors.NATT.Offload())
	ctx, cancel := context.WithCancel(ctx)
	ike := engineConfig(g.cfg, g.opts.KeyLog != "")
	ike.Resume.Key = tickets
	ike.Leases = g.loadLeases()
	c := newControl(g, ikev2.New(ike, random), keylog)
	c.addRoutes()
	c.reserve(g.cfg)
	g.startDataPath(c)
	err = c.run(ctx)
	cancel()
	c.saveLeases()
	c.delRoutes(c.routes)
	g.closeDoors()
	c.loops.Wait()
	return err
}

// loops are the goroutines beside control, and what the first of them ended
// with: none ends before the doors close, unless something is broken.
type loops struct {
	sync.WaitGroup
	ended chan error
}

func (l *loops) start(name string, run func() error) {
	l.Go(func() {
		err := run()
		if err == nil || errors.Is(err, net.ErrClosed) {
			err = errors.New("closed or removed by somebody else")
		}
		select {
		case l.ended <- fmt.Errorf("%s: %w", name, err):
		default:
		}
	})
}

// startDataPath starts the goroutines that carry packets.
func (g *Gateway) startDataPath(c *control) {
	c.loops.start(fmt.Sprintf("UDP port %d", g.cfg.Gateway.IKEPort), g.receiveIKE)
	lanes := g.doors.lanes()
	for i, l := range lanes {
		in := newInbound(l.Device, l.NATT, &g.table, &g.counters,
			inboundOptions{InnerMTU: g.cfg.Gateway.MTU, IKE: g.deliver, Notices: c.notices, Shared: len(lanes) > 1, Tap: &g.tap})
		out := newOutbound(l.Device, l.NATT, &g.table, &g.counters,
			outboundOptions{InnerMTU: g.cfg.Gateway.MTU, Notices: c.notices, Lane: i, Shared: len(lanes) > 1, Tap: &g.tap})
		c.loops.start(fmt.Sprintf("UDP port %d", g.cfg.Gateway.NATTPort), in.run)
		c.loops.start("device "+l.Device.Name(), out.run)
	}
}

// receiveIKE carries port 500 to control.
func (g *Gateway) receiveIKE() error {
	runs := make([]natt.Run, 16)
	for {
		n, err := g.doors.IKE.Receive(runs)
		if err != nil {
			return err
		}
		for _, r := range runs[:n] {
			for i := range r.Segments() {
				g.deliver(r.Path, r.Segment(i))
			}
		}
	}
}

// deliver copies an IKE message to control, which may be behind.
func (g *Gateway) deliver(p natt.Path, b []byte) {
	g.tap.capture().ike(p, b, true)
	d := ikev2.Datagram{Path: ikev2.Path(p), Payload: append([]byte(nil), b...)}
	select {
	case g.inbox <- d:
	default:
		g.counters.count(dropInboxFull)
	}
}

func (g *Gateway) closeDoors() {
	closers := []io.Closer{g.doors.IKE}
	for _, l := range g.doors.lanes() {
		closers = append(closers, l.Device, l.NATT)
	}
	if g.doors.Network != nil {
		closers = append(closers, g.doors.Network)
	}
	for _, c := range closers {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			g.log.Warn("closing: "+err.Error(), "event", "close_failed")
		}
	}
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// TCPOptions says what to send. The zero value is one stream for one second.
type TCPOptions struct {
	Duration time.Duration             // 0 means 1 s
	Streams  int                       // side by side; 0 means 1
	Packet   int                       // most bytes of an IPv4 packet, 128 at least; 0 leaves it to the kernels
	Interval time.Duration             // between two calls of Progress; 0 means 1 s
	Progress func(interval Throughput) // told what arrived in each interval; may be nil
}

func (o TCPOptions) withDefaults() TCPOptions {
	if o.Duration <= 0 {
		o.Duration = time.Second
	}
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	o.Streams = max(o.Streams, 1)
	return o
}

// Throughput is how much TCP payload arrived in how much time.
type Throughput struct {
	Bytes    int64
	Duration time.Duration
}

// BitsPerSecond is the mean rate of TCP payload.
func (t Throughput) BitsPerSecond() float64 {
	if t.Duration <= 0 {
		return 0
	}
	return float64(t.Bytes) * 8 / t.Duration.Seconds()
}

// connectTime is how long the streams have to be set up.
const connectTime = 10 * time.Second

// TCP moves data from one host to another, which listens on addr, one of its own,
// for the duration, through the kernels' TCP. What it returns was counted at the receiver
// between the moment that all streams stood and the end. It is an error that a
// stream cannot be set up, breaks before the end, or that nothing arrives.
func TCP(ctx context.Context, from, to *Host, addr netip.Addr, o TCPOptions) (Throughput, error) {
	t := &transfer{TCPOptions: o.withDefaults(), failed: make(chan error, 1)}
	result, err := t.run(ctx, from, to, addr)
	t.stop()
	if err != nil {
		return result, fmt.Errorf("lab: TCP from %s to %s: %w", from.Name, to.Name, err)
	}
	return result, nil
}

// transfer is one run of TCP.
type transfer struct {
	TCPOptions
	received atomic.Int64
	conns    []net.Conn // both ends
	stopped  atomic.Bool
	failed   chan error // the first failure
	running  sync.WaitGroup
}

func (t *transfer) run(ctx context.Context, from, to *Host, addr netip.Addr) (Throughput, error) {
	if err := t.connect(ctx, from, to, addr); err != nil {
		return Throughput{}, err
	}
	for i, conn := range t.conns {
		if i%2 == 0 {
			t.running.Go(func() { t.move(conn, send) })
		} else {
			t.running.Go(func() { t.move(conn, t.receive) })
		}
	}
	return t.measure(ctx)
}

// connect sets the streams up one by one: sender, receiver, sender, receiver.
func (t *transfer) connect(ctx context.Context, from, to *Host, addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	ln, err := to.listen(ctx, addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for range t.Streams {
		sender, err := from.dial(ctx, "tcp", ln.Addr().String(), t.Packet)
		if err != nil {
			return err
		}
		t.conns = append(t.conns, sender)
		receiver, err := ln.Accept()
		if err != nil {
			return err
		}
		t.conns = append(t.conns, receiver)
	}
	return nil
}

func (h *Host) listen(ctx context.Context, addr netip.Addr) (ln net.Listener, err error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // Go's default; an ordinary socket is what is to be measured
	err = h.Do(func() error {
		ln, err = config.Listen(ctx, "tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	return ln, err
}

func (h *Host) dial(ctx context.Context, network, address string, packet int) (conn net.Conn, err error) {
	var dialer net.Dialer
	if packet > 0 {
		dialer.Control = func(_, _ string, c syscall.RawConn) error { return limitSegments(c, packet-ipv4TCPHeaderLen) }
	}
	err = h.Do(func() error {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

const ipv4TCPHeaderLen = 40 // options count as payload to the maximum segment size

// move calls step with one buffer until the end, or until it fails.
func (t *transfer) move(conn net.Conn, step func(net.Conn, []byte) error) {
	buf := make([]byte, 256<<10)
	for {
		err := step(conn, buf)
		if t.stopped.Load() {
			return
		}
		if err != nil {
			select {
			case t.failed <- err:
			default:
			}
			return
		}
	}
}

func send(conn net.Conn, buf []byte) error {
	_, err := conn.Write(buf)
	return err
}

func (t *transfer) receive(conn net.Conn, buf []byte) error {
	n, err := conn.Read(buf)
	t.received.Add(int64(n))
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// measure waits for the end and counts, telling of each interval.
func (t *transfer) measure(ctx context.Context) (Throughput, error) {
	start := time.Now()
	end := time.NewTimer(t.Duration)
	defer end.Stop()
	tick := time.NewTicker(t.Interval)
	defer tick.Stop()
	var last Throughput
	for {
		var err error
		done := true
		select {
		case <-tick.C:
			done = false
		case <-end.C:
		case err = <-t.failed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		now := Throughput{t.received.Load(), time.Since(start)}
		if done {
			if err == nil && now.Bytes == 0 {
				err = errors.New("the connection stands, but no data arrived")
			}
			return now, err
		}
		if t.Progress != nil {
			t.Progress(Throughput{now.Bytes - last.Bytes, now.Duration - last.Duration})
		}
		last = now
	}
}

// stop ends the streams at once, whatever is still under way in them.
func (t *transfer) stop() {
	t.stopped.Store(true)
	for _, conn := range t.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	t.running.Wait()
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// UDPOptions says what to send. The zero value is packets of 64 bytes for one second.
type UDPOptions struct {
	Duration time.Duration // 0 means 1 s
	Size     int           // payload of a datagram in bytes; 0 means 64
}

func (o UDPOptions) withDefaults() UDPOptions {
	if o.Duration <= 0 {
		o.Duration = time.Second
	}
	if o.Size <= 0 {
		o.Size = 64
	}
	return o
}

// Flood is how many datagrams were sent, and arrived, in how much time.
type Flood struct {
	Sent, Received int64
	Duration       time.Duration
}

// Delivered is the mean rate of what arrived, in datagrams a second.
func (f Flood) Delivered() float64 {
	if f.Duration <= 0 {
		return 0
	}
	return float64(f.Received) / f.Duration.Seconds()
}

// UDP sends datagrams from one host to another, which listens on addr, an IPv4
// address of its own, as fast as one thread can with one system call each, for
// the duration: more than a tunnel carries. Loss is what is measured and no
// error; what arrives after the last was sent does not count. It is an error
// that nothing arrives.
func UDP(ctx context.Context, from, to *Host, addr netip.Addr, o UDPOptions) (Flood, error) {
	f, err := flood(ctx, from, to, addr, o.withDefaults())
	if err == nil && f.Received == 0 {
		err = fmt.Errorf("nothing arrived of %d datagrams", f.Sent)
	}
	if err != nil {
		return f, fmt.Errorf("lab: UDP from %s to %s: %w", from.Name, to.Name, err)
	}
	return f, nil
}

func flood(ctx context.Context, from, to *Host, addr netip.Addr, o UDPOptions) (f Flood, err error) {
	receiver, err := to.listenUDP(addr)
	if err != nil {
		return f, err
	}
	var counted sync.WaitGroup
	defer counted.Wait()
	defer receiver.Close()
	sender, err := from.dial(ctx, "udp", receiver.LocalAddr().String(), 0)
	if err != nil {
		return f, err
	}
	defer sender.Close()

	start := time.Now()
	end := start.Add(o.Duration)
	received := make(chan error, 1)
	receiver.SetReadDeadline(end)
	counted.Go(func() { received <- count(receiver, o.Size, &f.Received) })
	payload := make([]byte, o.Size)
	for time.Now().Before(end) && ctx.Err() == nil {
		if _, err := sender.Write(payload); err == nil { // a full queue, or nobody there yet: the next may do
			f.Sent++
		}
	}
	err = <-received
	f.Duration = time.Since(start)
	return f, errors.Join(err, ctx.Err())
}

// count takes datagrams in until the deadline.
func count(conn *net.UDPConn, size int, n *int64) error {
	const batch = 64
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, size)}
	}
	in := ipv4.NewPacketConn(conn)
	for {
		got, err := in.ReadBatch(messages, 0)
		*n += int64(got)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receiveBuffer holds what arrives while the receiver waits for a processor.
const receiveBuffer = 4 << 20

func (h *Host) listenUDP(addr netip.Addr) (conn *net.UDPConn, err error) {
	err = h.Do(func() error {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	if err != nil {
		return nil, err
	}
	forceReceiveBuffer(conn, receiveBuffer)
	return conn, nil
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// PingOptions says what to send. The zero value is one echo of 56 bytes.
type PingOptions struct {
	Count    int           // echoes; 0 means 1
	Interval time.Duration // between two; 0 means 100 ms
	Timeout  time.Duration // for the last answers; 0 means 1 s
	Size     int           // ICMP payload in bytes; 0 means 56
	DF       bool          // never fragment; the kernel keeps to the path MTU it learns
}

func (o PingOptions) withDefaults() PingOptions {
	o.Count = max(o.Count, 1)
	if o.Interval <= 0 {
		o.Interval = 100 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.Size <= 0 {
		o.Size = 56
	}
	return o
}

// PingStats is what came of it.
type PingStats struct {
	Sent, Received int
	TooBig         int           // of those not received, how many the sender's kernel refused as larger than the path MTU
	Min, Avg, Max  time.Duration // round trip; 0 when nothing was received

	RoundTrips []time.Duration // of those received, in the order of the answers
}

// Lost is the number of echoes without an answer.
func (s PingStats) Lost() int { return s.Sent - s.Received }

func (s *PingStats) add(rtt time.Duration) {
	if s.Received == 0 || rtt < s.Min {
		s.Min = rtt
	}
	s.Max = max(s.Max, rtt)
	s.Avg = (s.Avg*time.Duration(s.Received) + rtt) / time.Duration(s.Received+1)
	s.Received++
	s.RoundTrips = append(s.RoundTrips, rtt)
}

// echoKind is how an address family does echoes.
type echoKind struct {
	network        string
	any            string
	protocol       int
	request, reply icmp.Type
}

var (
	echo4 = echoKind{"ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	echo6 = echoKind{"ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

// pinger is one run of Ping.
type pinger struct {
	PingOptions
	kind   echoKind
	conn   net.PacketConn
	dst    netip.Addr
	id     uint16
	sentAt map[uint16]time.Time // by sequence number; unanswered ones
	stats  PingStats
}

// Ping sends ICMP or ICMPv6 echoes from the host to dst. Lost echoes are not an
// error; not being able to send, and the end of ctx, are, and then the stats tell
// how far it came.
func (h *Host) Ping(ctx context.Context, dst netip.Addr, o PingOptions) (PingStats, error) {
	p := &pinger{
		PingOptions: o.withDefaults(), kind: echo4, dst: dst,
		id: uint16(rand.Uint32()), sentAt: map[uint16]time.Time{},
	}
	if dst.Is6() {
		p.kind = echo6
	}
	if err := h.Do(p.open); err != nil {
		return p.stats, fmt.Errorf("lab: ping on %s: %w", h.Name, err)
	}
	defer p.conn.Close()
	defer context.AfterFunc(ctx, func() { p.conn.Close() })()
	if err := p.run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return p.stats, fmt.Errorf("lab: ping %s from %s: %w", dst, h.Name, err)
	}
	return p.stats, nil
}

func (p *pinger) open() error {
	conn, err := net.ListenPacket(p.kind.network, p.kind.any)
	if err != nil {
		return err
	}
	if p.DF {
		err = dontFragment(conn.(*net.IPConn), p.dst)
	}
	if err != nil {
		conn.Close()
		return err
	}
	p.conn = conn
	return nil
}

func (p *pinger) run() error {
	next := time.Now()
	for i := range p.Count {
		if err := p.send(uint16(i)); err != nil {
			return err
		}
		next = next.Add(p.Interval)
		if err := p.receive(next, func() bool { return i == p.Count-1 }); err != nil {
			return err
		}
	}
	return p.receive(time.Now().Add(p.Timeout), func() bool { return len(p.sentAt) == 0 })
}

func (p *pinger) send(seq uint16) error {
	m := icmp.Message{Type: p.kind.request, Body: &icmp.Echo{ID: int(p.id), Seq: int(seq), Data: make([]byte, p.Size)}}
	packet, err := m.Marshal(nil) // the kernel fills in the checksum of ICMPv6
	if err != nil {
		return err
	}
	p.stats.Sent++
	now := time.Now()
	_, err = p.conn.WriteTo(packet, &net.IPAddr{IP: p.dst.AsSlice()})
	if errors.Is(err, syscall.EMSGSIZE) {
		p.stats.TooBig++
		return nil
	}
	if err != nil {
		return err
	}
	p.sentAt[seq] = now
	return nil
}

// receive takes answers in until the deadline, or until enough says so.
func (p *pinger) receive(deadline time.Time, enough func() bool) error {
	buf := make([]byte, 1<<16)
	p.conn.SetReadDeadline(deadline)
	for !enough() {
		n, from, err := p.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		p.answer(buf[:n], from, time.Now())
	}
	return nil
}

// answer counts a reply to an echo of ours that had none yet.
func (p *pinger) answer(packet []byte, from net.Addr, now time.Time) {
	addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
	m, err := icmp.ParseMessage(p.kind.protocol, packet)
	if err != nil || m.Type != p.kind.reply || addr.Unmap() != p.dst {
		return
	}
	echo, ok := m.Body.(*icmp.Echo)
	if !ok || echo.ID != int(p.id) || len(echo.Data) != p.Size {
		return
	}
	if sent, ok := p.sentAt[uint16(echo.Seq)]; ok {
		delete(p.sentAt, uint16(echo.Seq))
		p.stats.add(now.Sub(sent))
	}
}

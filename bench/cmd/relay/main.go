// Command relay is what is left of a gateway without IKE, encryption,
// authentication, replay window and selectors: super-packets from a device to a
// socket and back, through this module's own edges (packages tun and natt),
// checksums made and verified, in datagrams as long as those of ESP with
// AES-GCM, the bytes moved once. How much faster it is than a gateway is what a
// gateway costs. It protects nothing.
//
//	relay [-peer ADDRESS] NETWORK...
//
// The networks are routed into its device. Without a peer the first one to send
// is taken for it.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"culvert/natt"
	"culvert/tun"
)

const (
	port   = 4500
	device = "relay0"
	mtu    = 1438 // what fits 1500 bytes outside

	headLen  = 16 // SPI, sequence number, IV
	icvLen   = 16
	arenaLen = 160 << 10
	maxRuns  = 64
	spi      = 1 << 16
)

// packetLen is the length of ESP around a packet, trailer of 2 bytes padded to 4.
func packetLen(inner int) int { return headLen + (inner+2+3)&^3 + icvLen }

func main() {
	peer := flag.String("peer", "", "the other relay's address")
	flag.Parse()
	if err := relay(*peer, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

func relay(peer string, networks []string) error {
	conn, err := natt.Listen(netip.AddrPortFrom(netip.Addr{}, port), natt.Options{NATT: true})
	if err != nil {
		return err
	}
	dev, err := openDevice(networks)
	if err != nil {
		return err
	}
	r := &ends{dev: dev, conn: conn}
	if peer != "" {
		addr, err := netip.ParseAddr(peer)
		if err != nil {
			return err
		}
		r.path.Store(&natt.Path{Remote: netip.AddrPortFrom(addr, port), Encap: true})
	}
	failed := make(chan error)
	go func() { failed <- r.out() }()
	go func() { failed <- r.in() }()
	return <-failed
}

func openDevice(networks []string) (tun.Device, error) {
	dev, err := tun.Open(device, mtu)
	if err != nil {
		return nil, err
	}
	if err := tun.SetUp(device, mtu); err != nil {
		return nil, err
	}
	for _, n := range networks {
		prefix, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, err
		}
		if err := tun.AddRoute(device, prefix, tun.RouteOptions{}); err != nil {
			return nil, err
		}
	}
	return dev, nil
}

// ends are the device and the socket, and where the peer is, once that is known.
type ends struct {
	dev  tun.Device
	conn natt.Conn
	path atomic.Pointer[natt.Path]
}

// out carries packets from the device to the socket.
func (r *ends) out() error {
	slab, o := make([]byte, tun.SlabLen), outgoing{conn: r.conn, arena: make([]byte, arenaLen)}
	for {
		s, err := r.dev.Read(slab)
		for err == nil {
			if path := r.path.Load(); path != nil {
				err = o.take(&s, path)
			}
			if err == nil {
				s, err = r.dev.TryRead(slab)
			}
		}
		if !errors.Is(err, tun.ErrWouldBlock) {
			return err
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
}

// outgoing are the datagrams that wait to be sent, end to end.
type outgoing struct {
	conn  natt.Conn
	split tun.Splitter
	arena []byte
	used  int
	runs  []natt.Run
	seq   uint32
}

// take copies the packets of s, each behind what stands for an ESP header.
func (o *outgoing) take(s *tun.Super, path *natt.Path) error {
	if o.split.Load(s) != nil {
		return nil
	}
	o.split.ClampMSS(mtu)
	size := packetLen(o.split.InnerLen(0))
	if o.used+o.split.Count()*size > len(o.arena) || len(o.runs) >= maxRuns {
		if err := o.flush(); err != nil {
			return err
		}
	}
	for i := range o.split.Count() {
		o.seq++
		n := packetLen(o.split.InnerLen(i))
		p := o.arena[o.used : o.used+n]
		binary.BigEndian.PutUint32(p, spi)
		binary.BigEndian.PutUint32(p[4:], o.seq)
		binary.BigEndian.PutUint64(p[8:], uint64(o.seq))
		head := headLen + o.split.Head(i, p[headLen:])
		end := head + copy(p[head:], o.split.Body(i))
		p[n-icvLen-2] = byte(n - icvLen - 2 - end) // pad length
		o.used += n
		o.extend(p, path)
	}
	return nil
}

// extend makes a datagram part of the last run, which a shorter one closes, or
// the first of another. All but the last of a super-packet are equally long.
func (o *outgoing) extend(p []byte, path *natt.Path) {
	if n := len(o.runs) - 1; n >= 0 {
		last := &o.runs[n]
		if len(last.Bytes)%last.SegmentSize == 0 && len(p) <= last.SegmentSize {
			last.Bytes = last.Bytes[:len(last.Bytes)+len(p)]
			return
		}
	}
	start := o.used - len(p)
	o.runs = append(o.runs, natt.Run{Bytes: o.arena[start:o.used], SegmentSize: len(p), Path: *path})
}

func (o *outgoing) flush() error {
	_, err := o.conn.Send(o.runs)
	o.runs, o.used = o.runs[:0], 0
	return err
}

// in carries packets from the socket to the device.
func (r *ends) in() error {
	runs, joined := make([]natt.Run, maxRuns), tun.NewCoalescer(r.dev)
	for {
		n, err := r.conn.Receive(runs)
		if err != nil {
			return err
		}
		for i := range runs[:n] {
			r.learn(&runs[i])
			for k := range runs[i].Segments() {
				join(joined, runs[i].Segment(k))
			}
		}
		if _, err := joined.Flush(); errors.Is(err, os.ErrClosed) {
			return err
		}
	}
}

// join hands the packet in a datagram on, as one more of a run if it can be.
func join(joined *tun.Coalescer, p []byte) {
	end := len(p) - icvLen - 2
	if end <= headLen || end-int(p[end]) < headLen {
		return
	}
	inner := p[headLen : end-int(p[end])]
	if joined.Continue(inner) {
		return
	}
	if h, err := tun.ParseHeader(inner); err == nil {
		inner = inner[:h.Len()]
		h.ClampMSS(inner, mtu)
		joined.AddParsed(inner, h)
	}
}

// learn takes the first to send for the peer.
func (r *ends) learn(run *natt.Run) {
	if r.path.Load() == nil {
		path := run.Path
		r.path.Store(&path)
	}
}

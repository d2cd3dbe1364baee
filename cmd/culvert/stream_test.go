//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// streamed is what became of a stream of numbered datagrams.
type streamed struct {
	sent, arrived, twice int
	missing              []int // the first numbers that did not arrive
}

func (s streamed) String() string {
	return fmt.Sprintf("%d sent, %d lost (from number %v), %d arrived twice", s.sent, s.sent-s.arrived, s.missing, s.twice)
}

const (
	streamEvery = 5 * time.Millisecond
	streamSize  = 200 // bytes of a datagram
	streamLate  = 3 * time.Second
)

// stream sends numbered UDP datagrams on a way until ctx is over, and waits for
// those that are late.
func stream(ctx context.Context, w route) (s streamed, err error) {
	in, err := listenUDP(w)
	if err != nil {
		return s, err
	}
	defer in.Close()
	var out net.Conn
	err = w.from.Do(func() error {
		out, err = new(net.Dialer).DialContext(context.WithoutCancel(ctx), "udp", in.LocalAddr().String())
		return err
	})
	if err != nil {
		return s, err
	}
	defer out.Close()
	received := make(chan []int)
	go func() { received <- counts(in) }()
	s.sent, err = sendNumbered(ctx, out)
	_ = in.SetReadDeadline(time.Now().Add(streamLate))
	seen := <-received
	for number := range s.sent {
		n := 0
		if number < len(seen) {
			n = seen[number]
		}
		switch {
		case n > 1:
			s.twice++
		case n == 0 && len(s.missing) < 5:
			s.missing = append(s.missing, number)
		}
		s.arrived += min(n, 1)
	}
	return s, err
}

// listenUDP has room for what arrives while this process gets no processor.
func listenUDP(w route) (*net.UDPConn, error) {
	var in *net.UDPConn
	err := w.to.Do(func() (err error) {
		in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.addr, 0)))
		return err
	})
	if err == nil {
		err = in.SetReadBuffer(1 << 20)
	}
	return in, err
}

// sendNumbered returns how many it has sent. A tick that comes late is not made
// up for.
func sendNumbered(ctx context.Context, out net.Conn) (sent int, err error) {
	ticker := time.NewTicker(streamEvery)
	defer ticker.Stop()
	packet := make([]byte, streamSize)
	for ctx.Err() == nil {
		binary.BigEndian.PutUint64(packet, uint64(sent))
		if _, err := out.Write(packet); err != nil {
			return sent, err
		}
		sent++
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return sent, nil
}

// counts reads until its deadline, and returns how often each number came.
func counts(in net.Conn) (seen []int) {
	packet := make([]byte, streamSize)
	for {
		n, err := in.Read(packet)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return seen
		}
		if err != nil || n != streamSize {
			continue
		}
		number := int(binary.BigEndian.Uint64(packet))
		for number >= len(seen) && number < 1<<20 {
			seen = append(seen, 0)
		}
		if number < len(seen) {
			seen[number]++
		}
	}
}

// streaming sends a stream each way until the returned function is called, which
// wants every datagram to have arrived once.
func (n *peerNet) streaming() (arrived func()) { return n.streamingBut(func() int { return 0 }) }

// streamingBut allows for so many that are lost.
func (n *peerNet) streamingBut(lost func() int) (arrived func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var missing atomic.Int64
	for _, w := range n.ways() {
		all.Go(func() {
			s, err := stream(ctx, w)
			n.t.Logf("UDP %s -> %s: %v", w.from.Name, w.to.Name, s)
			missing.Add(int64(s.sent - s.arrived))
			if err != nil || s.sent == 0 || s.twice > 0 {
				n.t.Errorf("UDP %s -> %s: %v: %v", w.from.Name, w.to.Name, s, err)
			}
		})
	}
	wait := sync.OnceFunc(func() {
		cancel()
		all.Wait()
		if got, most := int(missing.Load()), lost(); got > most {
			n.t.Errorf("%d datagrams are lost, want %d at most", got, most)
		}
	})
	n.t.Cleanup(wait)
	return wait
}

// under has the streams run for d.
func (n *peerNet) under(d time.Duration) {
	arrived := n.streaming()
	time.Sleep(d)
	arrived()
}

// TestStreamMisses: the count of what is lost is not always zero.
func TestStreamMisses(t *testing.T) {
	seen := func(numbers ...uint64) []int {
		in, out := net.Pipe()
		go func() {
			for _, n := range numbers {
				packet := make([]byte, streamSize)
				binary.BigEndian.PutUint64(packet, n)
				_, _ = out.Write(packet)
			}
			_ = in.SetReadDeadline(time.Now())
		}()
		return counts(in)
	}
	if got := fmt.Sprint(seen(0, 1, 3, 3)); got != "[1 1 0 2]" {
		t.Errorf("seen %s", got)
	}
}

package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"culvert/tun"
)

var (
	addrs = []netip.Addr{netip.MustParseAddr("10.103.0.1"), netip.MustParseAddr("fd00:103::1")}
	peers = []netip.Addr{netip.MustParseAddr("10.104.0.1"), netip.MustParseAddr("fd00:104::1")}
)

// wire carries packets from one stack to the other as a gateway would: taken
// apart, and put together again. It ends when either is closed.
func wire(t *testing.T, from, to *Stack, runs *int) {
	slab := make([]byte, tun.SlabLen)
	c := tun.NewCoalescer(to)
	var p tun.Splitter
	for {
		s, err := from.Read(slab)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err := errors.Join(err, p.Load(&s)); err != nil {
			t.Error(err)
			return
		}
		if p.Count() > 1 {
			*runs++
		}
		for i := range p.Count() {
			b := make([]byte, p.HeadLen(), p.InnerLen(i))
			p.Head(i, b)
			c.Add(append(b, p.Body(i)...))
		}
		if _, err := c.Flush(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}

func newPair(t *testing.T) (a, b *Stack, runs *int, wait func()) {
	t.Helper()
	a, errA := New(addrs, 1400)
	b, errB := New(peers, 1400)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	runs = new(int)
	go func() { wire(t, a, b, runs); done <- struct{}{} }()
	go func() { wire(t, b, a, new(int)); done <- struct{}{} }()
	return a, b, runs, sync.OnceFunc(func() {
		a.Close()
		b.Close()
		<-done
		<-done
	})
}

func TestPing(t *testing.T) {
	a, _, _, wait := newPair(t)
	defer wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, dst := range peers {
		if d, err := a.Ping(ctx, dst); err != nil || d <= 0 {
			t.Errorf("%v, %v", d, err)
		}
	}
	gone, cancelGone := context.WithCancel(ctx)
	cancelGone()
	if _, err := a.Ping(gone, netip.MustParseAddr("10.104.0.99")); !errors.Is(err, context.Canceled) {
		t.Errorf("ping of nobody: %v", err)
	}
}

func TestTCP(t *testing.T) {
	a, b, runs, wait := newPair(t)
	defer wait()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	sent := make([]byte, 4<<20)
	rand.Read(sent)
	for _, dst := range peers {
		l, err := b.ListenTCP(netip.AddrPortFrom(dst, 80))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := make(chan []byte, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				got <- nil
				return
			}
			defer c.Close()
			received, _ := io.ReadAll(c)
			got <- received
		}()
		c, err := a.DialTCP(ctx, netip.AddrPortFrom(dst, 80))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(c, bytes.NewReader(sent)); err != nil {
			t.Fatal(err)
		}
		c.(interface{ CloseWrite() error }).CloseWrite()
		select {
		case received := <-got:
			if !bytes.Equal(received, sent) {
				t.Errorf("%s: %d bytes arrived, want %d, or they differ", dst, len(received), len(sent))
			}
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		c.Close()
	}
	if wait(); *runs == 0 {
		t.Error("no runs of segments were given")
	}
}

func TestClose(t *testing.T) {
	s, err := New(addrs, 1400)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-s.Events(); e != tun.EventUp {
		t.Errorf("event %v", e)
	}
	failed := make(chan error)
	go func() {
		slab := make([]byte, tun.SlabLen)
		for {
			if _, err := s.Read(slab); err != nil {
				failed <- err
				return
			}
		}
	}()
	s.Close()
	s.Close()
	if err := <-failed; !errors.Is(err, os.ErrClosed) {
		t.Errorf("a reader got %v", err)
	}
	if err := s.Write(tun.Super{Packet: make([]byte, 40)}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if _, ok := <-s.Events(); ok {
		t.Error("events go on after Close")
	}
	if _, err := s.ListenTCP(netip.AddrPortFrom(peers[0], 80)); err == nil {
		t.Error("listening on an address that is not the host's")
	}
}

func TestAddresses(t *testing.T) {
	if s, err := New([]netip.Addr{addrs[0], addrs[0]}, 1400); err == nil {
		s.Close()
		t.Error("the same address twice was accepted")
	}
}

package tuntest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"culvert/tun"
)

// packet is an IPv4 UDP datagram without checksum.
func packet(payload byte) []byte {
	return []byte{
		0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 103, 0, 1, 10, 104, 0, 1,
		0, 7, 0, 9, 0, 9, 0, 0, payload,
	}
}

func TestDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{MTU: 1400, Queue: 2})
		slab := make([]byte, tun.SlabLen)
		if _, err := d.TryRead(slab); !errors.Is(err, tun.ErrWouldBlock) {
			t.Errorf("TryRead of nothing: %v", err)
		}
		read := make(chan []byte)
		go func() {
			s, err := d.Read(slab)
			if err != nil {
				t.Error(err)
			}
			read <- s.Packet
		}()
		synctest.Wait()
		if !d.InjectPacket(packet(1)) || !bytes.Equal(<-read, packet(1)) {
			t.Error("the packet injected is not the one read")
		}
		for i := range 3 {
			if err := d.Write(tun.Super{Packet: packet(byte(i))}); err != nil {
				t.Error(err)
			}
		}
		if b, err := d.Next(t.Context()); err != nil || !bytes.Equal(b, packet(0)) {
			t.Errorf("next: %x, %v", b, err)
		}
		if rest := d.Drain(); len(rest) != 1 || d.Dropped() != 1 {
			t.Errorf("%d more packets, %d dropped, want 1 and 1", len(rest), d.Dropped())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := d.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("next of nothing: %v", err)
		}
		d.SetMTU(1300)
		if e := <-d.Events(); e != tun.EventMTU || d.MTU() != 1300 {
			t.Errorf("event %v, MTU %d", e, d.MTU())
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{})
		failed := make(chan error)
		slab := make([]byte, tun.SlabLen)
		go func() { _, err := d.Read(slab); failed <- err }()
		go func() { _, err := d.Next(context.Background()); failed <- err }()
		synctest.Wait()
		d.Close()
		d.Close()
		for range 2 {
			if err := <-failed; !errors.Is(err, os.ErrClosed) {
				t.Errorf("a waiter got %v", err)
			}
		}
		_, tryErr := d.TryRead(slab)
		for _, err := range []error{tryErr, d.Write(tun.Super{Packet: packet(1)})} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if d.InjectPacket(packet(1)) {
			t.Error("injected into a closed device")
		}
		d.Emit(tun.EventUp)
		if _, ok := <-d.Events(); ok {
			t.Error("events go on after Close")
		}
	})
}

// TestRun: a run written through a Coalescer arrives as the packets it was made of.
func TestRun(t *testing.T) {
	d := New(Options{Offload: tun.Offload{TCP: true, UDP: true}})
	run := tun.Super{
		Packet:      append(packet(0)[:28], 1, 2, 3, 4, 5),
		SegmentSize: 2, ChecksumStart: 20, ChecksumOffset: 6,
	}
	run.Packet[3], run.Packet[25] = 33, 13
	d.Inject(run)
	slab := make([]byte, tun.SlabLen)
	s, err := d.Read(slab)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(s); err != nil {
		t.Fatal(err)
	}
	want := d.Drain()
	if len(want) != 3 {
		t.Fatalf("%d packets, want 3", len(want))
	}
	c := tun.NewCoalescer(d)
	for _, b := range want {
		c.Add(bytes.Clone(b))
	}
	if lost, err := c.Flush(); lost != 0 || err != nil || c.Writes() != 1 {
		t.Errorf("lost %d, %v, %d writes", lost, err, c.Writes())
	}
	for i, b := range d.Drain() {
		if !bytes.Equal(b, want[i]) {
			t.Errorf("packet %d: %x, want %x", i, b, want[i])
		}
	}
	if err := New(Options{}).Write(s); err == nil {
		t.Error("a device without offload took a run")
	}
}

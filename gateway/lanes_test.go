package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/espcrypto/sad"
	"culvert/ikev2"
	"culvert/natt"
	"culvert/natt/nattest"
	"culvert/tun"
)

// Who chooses the SPIs and who chooses the socket by them must mean the same.
func TestLaneOfSPI(t *testing.T) {
	for _, lanes := range []int{1, 2, 7, 64} {
		for range 1000 {
			if spi := rand.Uint32(); ikev2.Lane(spi, lanes) != natt.Lane(spi, lanes) {
				t.Fatalf("SPI %08x of %d lanes", spi, lanes)
			}
		}
	}
}

// sharedWire keeps what several lanes send, in its order.
type sharedWire struct {
	sync.Mutex
	fakeSocket
}

func (w *sharedWire) Send(runs []natt.Run) (int, error) {
	w.Lock()
	defer w.Unlock()
	return w.fakeSocket.Send(runs)
}

// TestLanesShareSAs has several lanes send to two peers by one SA each, and its
// packets leave in the order of their numbers: a peer's replay window may be
// short. Several others receive them, each any of them, and each is good once.
func TestLanesShareSAs(t *testing.T) {
	const lanes, each = 4, 100
	a, b := newEnd("A"), newEnd("B")
	lanC := prefixes("10.105.0.0/24")
	hostC := netip.MustParseAddrPort("10.105.0.7:5001")
	a.install(t, gcm128, spiAtA, spiAtB, lanA, lanB, wanA, wanB)
	b.install(t, gcm128, spiAtB, spiAtA, lanB, lanA, wanB, wanA)
	a.install(t, gcm128, spiAtA+1, spiAtB+1, lanA, lanC, wanA, wanB)
	b.install(t, gcm128, spiAtB+1, spiAtA+1, lanC, lanA, wanB, wanA)

	var w sharedWire
	var all sync.WaitGroup
	for lane := range lanes {
		dev := &fakeDevice{offload: tun.Offload{TCP: true}}
		for i := range each {
			to := hostB
			if (i+lane)%3 == 0 {
				to = hostC
			}
			dev.reads = append(dev.reads, bulk(hostA, to, uint32(i), noise(uint64(i), 4000), 1000))
		}
		o := newOutbound(dev, &w, &a.table, &a.counters, outboundOptions{Lane: lane, Shared: true})
		all.Go(func() {
			if err := o.run(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	a.wantCounts(t, nil)
	last := map[uint32]uint32{}
	for _, r := range w.sent {
		for i := range r.Segments() {
			spi, seq := binary.BigEndian.Uint32(r.Segment(i)), binary.BigEndian.Uint32(r.Segment(i)[4:])
			if seq != last[spi]+1 {
				t.Fatalf("SA %08x: number %d after %d", spi, seq, last[spi])
			}
			last[spi] = seq
		}
	}
	if last[spiAtB]+last[spiAtB+1] != lanes*each*4 || len(last) != 2 {
		t.Fatalf("sent by SPI: %v, want %d in all", last, lanes*each*4)
	}

	arriving := cross(w.sent)
	devices := make([]fakeDevice, lanes)
	for lane := range lanes {
		sock := &fakeSocket{}
		for i := lane; i < len(arriving); i += lanes {
			sock.arriving = append(sock.arriving, arriving[i])
		}
		in := newInbound(&devices[lane], sock, &b.table, &b.counters, inboundOptions{Shared: true})
		all.Go(func() {
			if err := in.run(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b.wantCounts(t, nil)
	got := 0
	for i := range devices {
		got += len(devices[i].written)
	}
	if got != lanes*each*4 {
		t.Errorf("%d packets arrive, want %d", got, lanes*each*4)
	}
}

// A lane sends by its own child SA, by the newest where it has none, and by the
// new one when that takes the place of its own.
func TestLanesOwnSA(t *testing.T) {
	a := newEnd("A")
	install := func(spi uint32, lane int) {
		c := &sad.Child{Peer: "peer", Name: "tunnel", InboundSPI: spi, OutboundSPI: spiAtB, Suite: gcm128, Local: lanA, Remote: lanB, Lane: lane}
		noError(t, a.table.AddOutbound(c, nil))
	}
	flow := sad.Flow{Src: hostA.Addr(), Dst: hostB.Addr(), Protocol: protUDP}
	want := func(spis ...uint32) {
		t.Helper()
		for lane, spi := range spis {
			if o := a.table.Load().MatchLane(&flow, lane); o == nil || o.InboundSPI != spi {
				t.Errorf("lane %d sends by %+v, want %08x", lane, o, spi)
			}
		}
	}
	install(0x10100001, 0)
	want(0x10100001, 0x10100001, 0x10100001)
	install(0x10200002, 1)
	want(0x10100001, 0x10200002, 0x10200002)
	install(0x10300003, 0)
	want(0x10300003, 0x10200002, 0x10300003)
	a.table.RemoveOutbound(0x10200002)
	want(0x10300003, 0x10300003, 0x10300003)
}

// Which of the child SAs for the same traffic each side sends by is its own to
// choose: one that only sends, beside one that only receives, is no trouble.
func TestExplainLanes(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne}, func(w *world) {
		// A sends by the newest, B's first lane by one of the first two.
		a, b := w.start(w.net.A, "a", textA), w.start(w.net.B, "b", "[gateway]\nlanes = 4\n"+textB)
		w.until("child SAs for all lanes", time.Second, func() bool { return len(a.peer().Children) == 4 && len(b.peer().Children) == 4 })
		for range 30 {
			b.device.InjectPacket(fromB(1, 100))
			a.device.InjectPacket(fromA(1, 100))
			time.Sleep(time.Second)
		}
		for _, s := range []*site{a, b} {
			s.explains(false, nil)
		}
	})
}

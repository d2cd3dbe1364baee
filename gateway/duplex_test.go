package gateway

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/espcrypto/sad"
	"culvert/natt"
	"culvert/tun"
	"culvert/tun/tuntest"
)

// TestDuplex runs the four loops of two gateways at once, each with a control
// goroutine that follows its peer, while 4 MB of TCP cross each way and a NAT
// gives B another port in the middle. The bubble sees to it that nothing is
// left running.
func TestDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const supers = 64
		wireA, wireB := newCable(wanA, wanB)
		a := newLive(t, wireA, spiAtA, spiAtB, lanA, lanB, wanA, wanB)
		b := newLive(t, wireB, spiAtB, spiAtA, lanB, lanA, wanB, wanA)

		var hosts sync.WaitGroup
		streams := [2][]byte{noise(1, supers*60000), noise(2, supers*60000)}
		talk := func(e *live, src, dst netip.AddrPort, stream []byte) {
			hosts.Go(func() {
				for i := range supers {
					at := i * 60000
					e.dev.Inject(bulk(src, dst, uint32(at), stream[at:at+60000], 1398))
					time.Sleep(time.Millisecond) // all else stops first: no queue overflows
					if i == supers/2 && e == b {
						wireB.rebind(netip.MustParseAddrPort("192.0.2.10:61000"))
					}
				}
			})
		}
		talk(a, hostA, hostB, streams[0])
		talk(b, hostB, hostA, streams[1])
		hosts.Wait()
		synctest.Wait()

		for i, e := range []*live{b, a} {
			if got := streamOf(t, e.dev.Drain(), len(streams[i])); !bytes.Equal(got, streams[i]) {
				t.Errorf("stream %d did not arrive whole", i)
			}
			e.wantCounts(t, nil)
		}
		if got := a.table.Load().Outbound(spiAtA).Path().Remote.Port(); got != 61000 {
			t.Errorf("A sends to port %d, B is at 61000", got)
		}
		if n := wireA.lost.Load(); n > 4 { // those of the moment of the change
			t.Errorf("%d runs went to B's old port", n)
		}
		a.close(t)
		b.close(t)
	})
}

// streamOf puts TCP payload in its place by sequence number.
func streamOf(t *testing.T, packets [][]byte, n int) []byte {
	t.Helper()
	stream := make([]byte, n)
	for _, p := range packets {
		seq := int(binary.BigEndian.Uint32(p[24:]))
		if seq+len(p)-40 > n {
			t.Fatalf("a packet at %d", seq)
		}
		copy(stream[seq:], p[40:])
	}
	return stream
}

// live is one gateway's data path as it runs, and a control that believes what
// it is told.
type live struct {
	*end
	dev   *tuntest.Device
	wire  *cable
	loops sync.WaitGroup
}

func newLive(t *testing.T, w *cable, in, out uint32, local, remote []sad.Selector, here, there netip.AddrPort) *live {
	e := &live{end: &end{notices: make(chan notice, 4)}, wire: w,
		dev: tuntest.New(tuntest.Options{Queue: 4096, Offload: tun.Offload{TCP: true, UDP: true}})}
	e.install(t, gcm128, in, out, local, remote, here, there)
	o := newOutbound(e.dev, w, &e.table, &e.counters, outboundOptions{Notices: e.notices})
	i := newInbound(e.dev, w, &e.table, &e.counters, inboundOptions{Notices: e.notices})
	for _, run := range []func() error{o.run, i.run} {
		e.loops.Go(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
	go func() {
		for n := range e.notices {
			if n.Kind == noticeMoved {
				e.table.MovePeer(n.InboundSPI, sad.Path(n.Path))
			}
		}
	}()
	return e
}

func (e *live) close(t *testing.T) {
	noError(t, e.dev.Close())
	noError(t, e.wire.Close())
	e.loops.Wait()
	close(e.notices)
}

// cable is a socket, and the link to the one at the other end.
type cable struct {
	natt.Conn
	peer   *cable
	in     chan natt.Run
	closed chan struct{}
	lost   atomic.Int64

	mu   sync.Mutex
	addr netip.AddrPort // as the peer sees it
}

func newCable(a, b netip.AddrPort) (*cable, *cable) {
	x := &cable{addr: a, in: make(chan natt.Run, 1024), closed: make(chan struct{})}
	y := &cable{addr: b, in: make(chan natt.Run, 1024), closed: make(chan struct{}), peer: x}
	x.peer = y
	return x, y
}

func (w *cable) address() netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addr
}

// rebind is what a NAT does that forgot: the old port leads nowhere.
func (w *cable) rebind(to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addr = to
}

func (w *cable) Send(runs []natt.Run) (int, error) {
	for _, r := range cross(runs) {
		if r.Path.Local != w.peer.address() {
			w.lost.Add(1)
		}
		r.Path = natt.Path{Local: w.peer.address(), Remote: w.address(), Encap: true}
		select {
		case w.peer.in <- r:
		case <-w.closed:
			return 0, net.ErrClosed
		}
	}
	return len(runs), nil
}

func (w *cable) Receive(runs []natt.Run) (int, error) {
	select {
	case runs[0] = <-w.in:
	case <-w.closed:
		return 0, net.ErrClosed
	}
	for n := 1; n < len(runs); n++ {
		select {
		case runs[n] = <-w.in:
		default:
			return n, nil
		}
	}
	return len(runs), nil
}

func (w *cable) Close() error {
	close(w.closed)
	return nil
}

package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"culvert/natt/nattest"
)

// flow is a stream of numbered packets from one site's host to the other's.
type flow struct {
	from, to *site
	packet   func(number uint64) []byte
	sent     uint64
	came     []int // how often each has arrived
}

// numbered makes packets of a payload whose first octets are a number.
func numbered(make func(seed uint64, n int) []byte) func(uint64) []byte {
	p := make(1, 200)
	return func(number uint64) []byte {
		binary.BigEndian.PutUint64(p[numberAt:], number)
		binary.BigEndian.PutUint16(p[numberAt-2:], 0) // no checksum (RFC 768)
		return p
	}
}

const numberAt = 20 + 8 // behind the headers of IPv4 and UDP

// step sends some packets and takes what has arrived.
func (f *flow) step(packets int) {
	for range packets {
		f.from.device.InjectPacket(f.packet(f.sent))
		f.sent++
	}
	for _, p := range f.to.device.Drain() {
		number := binary.BigEndian.Uint64(p[numberAt:])
		for uint64(len(f.came)) <= number {
			f.came = append(f.came, 0)
		}
		f.came[number]++
	}
}

// lost counts the packets that did not arrive once.
func (f *flow) lost() (lost int) {
	for number := range f.sent {
		if number >= uint64(len(f.came)) || f.came[number] != 1 {
			lost++
		}
	}
	return lost
}

// replaced counts the child SAs and the IKE SAs that a site has replaced.
func (s *site) replaced() (children, ikes int) {
	for _, r := range s.log.of("child_up") {
		if r.attrs["reason"] == "rekeyed" {
			children++
		}
	}
	return children, len(s.log.of("rekeyed"))
}

// TestRekeysUnderLoad replaces 1,000 child SAs and 100 IKE SAs, by either side
// and by both at once, while 4,000 packets a second go each way, each of which
// takes up to 10 ms longer than another: not one is lost.
func TestRekeysUnderLoad(t *testing.T) {
	const packets, pace = 4, 60 * time.Millisecond
	children, ikes := 1000, 100
	if testing.Short() {
		children, ikes = 100, 10
	}
	inWorld(t, nattest.Config{NAT: nattest.PortRestricted, Latency: time.Millisecond}, func(w *world) {
		a, b := w.pair(with(textA, "esp", `"aes128gcm16-x25519"`), with(textB, "esp", `"aes128gcm16-x25519"`))
		rng := rand.New(rand.NewPCG(1, 0))
		w.treat(func(nattest.Datagram) nattest.Verdict {
			w.seen = nil // they are too many
			return nattest.Verdict{Delay: time.Duration(rng.Int64N(int64(10 * time.Millisecond)))}
		})
		flows := []*flow{{from: a, to: b, packet: numbered(fromA)}, {from: b, to: a, packet: numbered(fromB)}}
		goOn := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
				for _, f := range flows {
					f.step(packets)
				}
			}
		}
		who := [][]*site{{a}, {b}, {a, b}}
		for i := 0; ; i++ {
			madeChildren, madeIKEs := a.replaced()
			if madeChildren >= children && madeIKEs >= ikes {
				break
			}
			if i > 2*children {
				w.Fatalf("%d child SAs and %d IKE SAs in %d rounds", madeChildren, madeIKEs, i)
			}
			for _, s := range who[i%len(who)] {
				_, err := s.Rekey("remote", "lan")
				noError(w, err)
			}
			if i%10 == 0 {
				for _, s := range who[i/10%len(who)] {
					_, err := s.RekeyIKE("remote")
					noError(w, err)
				}
			}
			goOn(pace)
		}
		w.settle()
		time.Sleep(time.Second)
		synctest.Wait()
		for _, f := range flows {
			f.step(0)
			c, i := f.from.replaced()
			w.Logf("%s: %d child SAs and %d IKE SAs replaced; %d packets sent, %d lost", f.from.name, c, i, f.sent, f.lost())
			if f.lost() > 0 {
				w.Errorf("%s has lost packets: %v", f.from.name, f.from.status().Drops)
			}
			if n := len(f.from.log.of("established")); n != 1 {
				w.Errorf("%s was connected %d times", f.from.name, n)
			}
		}
	})
}

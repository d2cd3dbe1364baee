package gateway

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"culvert/natt/nattest"
)

// shortNumbers gives both sides' tunnels sequence numbers of 32 bits.
func (w *world) shortNumbers() (a, b *site) {
	w.Helper()
	return w.pair(with(textA, "esp", eitherNoESN), with(textB, "esp", eitherNoESN))
}

// eitherNoESN is without extended sequence numbers, and with any key exchange or
// none, so that nothing is replaced early.
const eitherNoESN = `["aes128gcm16-noesn", "aes128gcm16-x25519-noesn"]`

// skipTo has the site's child SA use that sequence number next.
func (s *site) skipTo(next int) {
	s.w.Helper()
	synctest.Wait() // so that the data path is at rest
	s.ask(func(c *control) {
		sa := c.sending("remote", "lan")[0].out.SA
		noError(s.w, sa.Skip(next-1-int(sa.Stats().Sequence)))
	})
}

func (s *site) rekeys() int {
	n, _ := s.replaced()
	return n
}

// TestSequenceWearsOut: half of 2^32 numbers are enough; the child SA is replaced
// once, no later than the engine next hears of the traffic, and nothing is lost
// (RFC 4303 section 3.3.3). One with numbers of 64 bits is not.
func TestSequenceWearsOut(t *testing.T) {
	inWorld(t, nattest.Config{Latency: time.Millisecond}, func(w *world) {
		a, b := w.shortNumbers()
		b.skipTo(rekeySequence)
		if time.Sleep(2 * trafficInterval); b.rekeys() != 0 {
			w.Fatalf("replaced %d times before its time", b.rekeys())
		}
		w.crosses(b, a, fromB(1, 100))
		w.until("other child SA", 2*trafficInterval, func() bool { return a.rekeys() == 1 && b.rekeys() == 1 })
		w.crosses(b, a, fromB(2, 100))
		w.crosses(a, b, fromA(3, 100))
		if time.Sleep(10 * trafficInterval); a.rekeys() != 1 || b.rekeys() != 1 {
			w.Errorf("replaced %d and %d times", a.rekeys(), b.rekeys())
		}
	})
	inWorld(t, nattest.Config{}, func(w *world) {
		a, b := w.pair(with(textA, either...), with(textB, either...))
		for _, next := range []int{rekeySequence, math.MaxUint32 - 1} {
			b.skipTo(next)
			for seed := range uint64(4) {
				w.crosses(b, a, fromB(seed, 100))
			}
		}
		if time.Sleep(10 * trafficInterval); b.rekeys() != 0 {
			w.Errorf("replaced %d times", b.rekeys())
		}
	})
}

// TestSequenceExhausted: after the last number nothing is sent, which is said and
// counted, until there are other keys, which are asked for at once.
func TestSequenceExhausted(t *testing.T) {
	inWorld(t, nattest.Config{Latency: time.Millisecond}, func(w *world) {
		a, b := w.shortNumbers()
		w.crosses(b, a, fromB(1, 100))
		b.skipTo(math.MaxUint32 - 1)
		w.crosses(b, a, fromB(2, 100))
		w.crosses(b, a, fromB(3, 100))
		w.cut(a.host, true)
		if w.arrives(b, a, fromB(4, 100)) {
			w.Error("a number has come twice")
		}
		if n, said := b.status().Drops["sequence_exhausted"], len(b.log.of("sequence_exhausted")); n != 1 || said != 1 {
			w.Errorf("counted %d times, said %d times", n, said)
		}
		w.cut(a.host, false)
		w.until("other child SA", time.Second, func() bool { return b.rekeys() == 1 })
		w.crosses(b, a, fromB(5, 100))
	})
}

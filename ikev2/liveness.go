package ikev2

import (
	"time"

	"culvert/ikev2/wire"
)

// livenessTask is the empty INFORMATIONAL that only a living peer answers
// (RFC 7296 section 2.4). Its response, like any authenticated message, is
// noted where it is received.
type livenessTask struct{}

func (livenessTask) request(sa *ikeSA, req *draft) error {
	if sa.watchesNAT() {
		addNATDetection(req, sa.id(), sa.path, true)
	}
	return nil
}

func (livenessTask) response(sa *ikeSA, m *message) error {
	if sa.state == stateUp && sa.watchesNAT() && sa.seenOtherwise(m) {
		sa.startRoaming(&updateTask{})
	}
	return nil
}

func (sa *ikeSA) armDPD() {
	if d := sa.timing().DPD; d > 0 {
		sa.e.setTimer(&sa.timers, timerDPD, sa.heard.Add(d))
	}
}

// probe asks a peer that has been silent. A request that is already out asks
// the same.
func (sa *ikeSA) probe() {
	switch {
	case sa.state != stateUp:
		return
	case sa.e.now.Sub(sa.heard) < sa.timing().DPD:
		sa.armDPD()
		return
	}
	sa.ask()
	sa.e.setTimer(&sa.timers, timerDPD, sa.e.now.Add(sa.timing().DPD))
}

// ask wants any answer of the peer.
func (sa *ikeSA) ask() {
	if sa.active == nil {
		sa.start(wire.ExchangeInformational, livenessTask{})
	}
}

// measure takes the time that the answer to a request took. It counts where the
// peer had little to compute, and where it is known which of our datagrams it
// answered.
func (sa *ikeSA) measure(x *exchange) {
	if x.kind == wire.ExchangeInformational && x.tries == 1 && !x.detoured && sa.peer != nil {
		sa.peer.roundTrip = sa.e.now.Sub(x.sent)
	}
}

// RoundTrip is how long a peer took to answer the last INFORMATIONAL request of
// ours that was sent once; 0 when there was none.
func (e *Engine) RoundTrip(peer string) time.Duration {
	if p := e.byName[peer]; p != nil {
		return p.roundTrip
	}
	return 0
}

// keepaliveByte is a NAT keepalive's only content (RFC 3948 section 2.3).
const keepaliveByte = 0xFF

func (sa *ikeSA) armKeepalive() {
	if k := sa.timing().Keepalive; k > 0 && sa.nat.Local {
		sa.e.setTimer(&sa.timers, timerKeepalive, sa.sent.Add(k))
	}
}

// keepalive holds the mapping of our own NAT open when nothing else has been
// sent (RFC 3948 section 4).
func (sa *ikeSA) keepalive() {
	if sa.e.now.Sub(sa.sent) >= sa.timing().Keepalive {
		sa.send(sa.espPath(), []byte{keepaliveByte})
	}
	sa.armKeepalive()
}

// traffic notes what the data path saw of a child. A peer that sends on a new
// child has it, so that we may send too.
func (c *childSA) traffic(t Traffic, now time.Time) {
	if t.In {
		c.sa.heard = now
	}
	if t.Out {
		c.sa.sent = now
	}
	if t.In && c.state == childHeld {
		c.activate()
	}
	c.spend(t)
}

package iketest

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// Strangers that need no cookie can make a bounded number of half-open SAs,
// which are gone after half a minute; peers that are up notice nothing.
func TestHalfOpenFlood(t *testing.T) {
	p := connectedWith(t, func(c *ikev2.Config) { c.Limits = ikev2.Limits{CookieThreshold: -1, HalfOpenPerSource: -1} })
	flood := newPuppet(t, true, nil)
	flood.engine = p.engine
	flood.prepare()
	answers := 0
	for i := range 5000 {
		binary.BigEndian.PutUint32(flood.spii[:], uint32(i))
		p.engine.HandleDatagram(p.now, ikev2.Datagram{Path: flood.path, Payload: flood.initMessage(flood.initPayloads()...)})
		for o, ok := p.engine.Poll(); ok; o, ok = p.engine.Poll() {
			if _, answer := o.(ikev2.Transmit); answer {
				answers++
			}
		}
	}
	if answers != 4096 || p.engine.Drops()["ike_half_open_limit"] != 5000-4096 {
		t.Errorf("%d half-open SAs, %d dropped", answers, p.engine.Drops()["ike_half_open_limit"])
	}
	if len(p.send(p.request(wire.ExchangeInformational))) != 1 {
		t.Error("the peer that is up is not answered")
	}
	p.wait(31 * time.Second)
	flood.now = p.now
	if len(flood.send(flood.initMessage(flood.initPayloads()...))) != 1 {
		t.Error("nobody gets in after the flood")
	}
}

// Shutdown tells the peers that are up, drops strangers at once and takes
// nobody new, not even a peer that is quick to come back.
func TestShutdown(t *testing.T) {
	p := connected(t)
	stranger := newPuppet(t, true, nil)
	stranger.engine = p.engine
	stranger.random.next = 77
	stranger.hello()
	if err := p.engine.Command(p.now, ikev2.Shutdown{}); err != nil {
		t.Fatal(err)
	}
	sent := p.poll()
	if len(sent) != 1 || len(p.installed) > 0 {
		t.Fatalf("%d messages, %d child SAs left", len(sent), len(p.installed))
	}
	if _, ps := p.open(sent[0]); names(ps) != "D" || p.engine.Idle() {
		t.Errorf("says %s", names(ps))
	}
	p.deliver(p.path, p.seal(wire.ExchangeInformational, wire.FlagResponse, 0))
	if !p.engine.Idle() {
		t.Error("not idle when the Delete is answered")
	}
	if sent := stranger.send(stranger.initMessage(stranger.initPayloads()...)); len(sent) > 0 {
		t.Error("a new peer is taken")
	}
}

// A source of random bytes may fail at any read: what needed the bytes comes to
// nothing, the engine stays sound, and it connects when the source is back.
func TestRandomnessFails(t *testing.T) {
	for failing := range 30 {
		for _, side := range []string{"A", "B"} {
			n, a, b := Situation(Configs())
			h := map[string]*Host{"A": a, "B": b}[side]
			source := &flaky{Reader: Random(5), failing: failing}
			h.Engine = ikev2.New(h.cfg, source)
			n.Command(b, ikev2.Connect{Peer: "office", Path: ToA})
			n.Run(time.Minute)
			faultless(t, n)
			source.failing = -1
			n.Run(5 * time.Minute)
			faultless(t, n)
			if err := Agree(a, b); err != nil || len(a.In) != 1 {
				t.Fatalf("%s's read %d failed: %d child SAs, %v\n%s", side, failing, len(a.In), err, n.Transcript())
			}
		}
	}
}

// flaky fails from the failing-th read on, unless that is negative.
type flaky struct {
	io.Reader
	reads, failing int
}

func (f *flaky) Read(b []byte) (int, error) {
	if f.reads++; f.failing >= 0 && f.reads > f.failing {
		return 0, errors.New("no entropy")
	}
	return f.Reader.Read(b)
}

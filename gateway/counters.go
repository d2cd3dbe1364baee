package gateway

import (
	"sync"
	"sync/atomic"

	"culvert/espcrypto"
	"culvert/espcrypto/sad"
)

// counter is the index of one thing that the data path counts. The first ones
// are espcrypto's drops under their own numbers; 0 is no drop.
type counter int

// What does not go the usual way, by reason. What does is counted by its SA.
const (
	// Outbound.
	dropTUNRead counter = espcrypto.NumDrops + iota
	dropOutboundMalformed
	dropNoOutboundSA
	dropTooBig
	dropSequenceExhausted
	dropSegment
	packetsFragmented
	icmpSent
	icmpRateLimited

	// Inbound.
	keepalivesReceived
	dropInboxFull
	dropRunt
	dropReservedSPI
	dropUnknownSPI
	dropInboundMalformed
	dropSelector
	dropCongestion

	// Both.
	dropTUNWrite
	runsRefused
	dropNotice
	recordsLeftOut

	numCounters
)

var counterNames = [numCounters]string{
	dropTUNRead:           "tun_read_error",
	dropOutboundMalformed: "outbound_malformed",
	dropNoOutboundSA:      "no_outbound_sa",
	dropTooBig:            "too_big",
	dropSequenceExhausted: "sequence_exhausted",
	dropSegment:           "segment_refused",
	packetsFragmented:     "packets_fragmented",
	icmpSent:              "icmp_too_big_sent",
	icmpRateLimited:       "icmp_too_big_rate_limited",
	keepalivesReceived:    "keepalives_received",
	dropInboxFull:         "ike_inbox_full",
	dropRunt:              "runt",
	dropReservedSPI:       "reserved_spi",
	dropUnknownSPI:        "unknown_spi",
	dropInboundMalformed:  "inbound_malformed",
	dropSelector:          "selector_violation",
	dropCongestion:        "congestion_not_understood",
	dropTUNWrite:          "tun_write_error",
	dropNotice:            "notice_queue_full",
	recordsLeftOut:        "log_records_left_out",
}

func init() {
	for d := espcrypto.Drop(1); d < espcrypto.NumDrops; d++ {
		counterNames[d] = d.String()
	}
}

// lane is the counters of one loop. Each loop has its own, so that two cores
// do not fight for a cache line.
type lane [numCounters]atomic.Uint64

func (l *lane) add(c counter, n int) { l[c].Add(uint64(n)) }

// drop counts packets of a child's, for the loop and for the child's peer.
func (l *lane) drop(of *sad.Child, c counter, n int) {
	l.add(c, n)
	if int(c) < len(of.Drops) {
		of.Drops[c].Add(uint64(n))
	}
}

// named are the counts that are not zero; nil where all are.
func (l *lane) named() (counts map[string]uint64) {
	for i := range l {
		if n := l[i].Load(); n > 0 {
			if counts == nil {
				counts = map[string]uint64{}
			}
			counts[counterNames[i]] = n
		}
	}
	return counts
}

// Counters are the data path's counts since the start. The zero value is
// ready; all methods are safe for concurrent use.
type Counters struct {
	mu     sync.Mutex // guards lanes, not the counts in them
	lanes  []*lane
	shared lane // what happens outside the loops
}

// count adds one outside the loops.
func (c *Counters) count(n counter) { c.shared.add(n, 1) }

func (c *Counters) newLane() *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := new(lane)
	c.lanes = append(c.lanes, l)
	return l
}

// Snapshot gives every count by its name in snake_case, zeroes included.
func (c *Counters) Snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]uint64, numCounters)
	for i, name := range counterNames {
		if name == "" {
			continue
		}
		counts[name] = c.shared[i].Load()
		for _, l := range c.lanes {
			counts[name] += l[i].Load()
		}
	}
	return counts
}

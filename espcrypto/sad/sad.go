// Package sad is the security association database of the data path (RFC 4301
// section 4.4): it finds the inbound SA of an SPI and the outbound SA of a
// flow.
//
//	SPI of an ESP packet                     flow of an inner packet
//	 31          20 19                  0    destination ── longest prefix ─┐
//	┌──────────────┬─────────────────────┐                                  ▼
//	│ generation   │ index               │   source ─────── longest prefix ─┐
//	└──────────────┴──────┬──────────────┘                                  ▼
//	                      ▼                  full selector check, newest SA first
//	 slot[index].SPI == whole SPI ?          (RFC 4301 section 4.4.1.1)
//
// All of it hangs on one atomic pointer to an immutable snapshot. The control
// path, the only writer, publishes a new snapshot that shares all but a few
// nodes with the one before; the data path loads one and looks up with no
// lock and no allocation, however many peers there are.
package sad

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"culvert/espcrypto"
)

// Errors of the writer's methods; test with errors.Is.
var (
	ErrSPI      = errors.New("SPI below 256 is reserved (RFC 4303 section 2.1)")
	ErrOccupied = errors.New("another SA has this SPI's index")
	ErrSelector = errors.New("selector without addresses of one family in order")
)

// Path is where a child's ESP goes: same fields as natt.Path.
type Path struct {
	Local, Remote netip.AddrPort
	Encap         bool
}

// Child is what the two SAs of a child SA pair share. Its exported fields are
// frozen once a Table has seen it.
type Child struct {
	Peer, Name string
	// InboundSPI names the child; OutboundSPI is the peer's choice.
	InboundSPI, OutboundSPI uint32
	Suite                   espcrypto.Suite
	// Local and Remote are the negotiated selectors, seen from here.
	Local, Remote []Selector
	// Lane of the gateway's is the one that the child is for, where there are
	// several children with the same selectors (RFC 9611).
	Lane int
	// Drops counts what is dropped of the child's packets, by numbers of the
	// caller's. It may be shared by the children of a peer.
	Drops []atomic.Uint64

	path    atomic.Pointer[Path]
	pathMTU atomic.Int64
}

// Path is where the child's ESP goes now; the zero Path before the first Move.
func (c *Child) Path() Path {
	if p := c.path.Load(); p != nil {
		return *p
	}
	return Path{}
}

// PathMTU is the largest outer IP packet in bytes; 0 stands for 1500.
func (c *Child) PathMTU() int { return int(c.pathMTU.Load()) }

// SetPathMTU changes it, with the path.
func (c *Child) SetPathMTU(n int) { c.pathMTU.Store(int64(n)) }

// Move sends the child's ESP to another path from now on.
func (c *Child) Move(p Path) { c.path.Store(&p) }

// Usage is when an SA last carried an accepted packet. The data path writes
// it once a batch, anybody reads it.
type Usage struct{ last atomic.Int64 }

// Touch records now, in nanoseconds of a clock that is not set.
func (u *Usage) Touch(now int64) { u.last.Store(now) }

// LastNano is the argument of the last Touch; 0 before the first.
func (u *Usage) LastNano() int64 { return u.last.Load() }

// Inbound is one entry of the inbound half of the database.
type Inbound struct {
	*Child
	SA *espcrypto.Inbound
	Usage
	// Mutex is whose that opens, where there are several lanes: a packet may come
	// by another than the child's.
	sync.Mutex
	// Strayed is the path that control was last told of when it was not the
	// child's own. Only the inbound loop writes it, under the lock.
	Strayed Path
}

// Outbound is one entry of the outbound half.
type Outbound struct {
	*Child
	SA *espcrypto.Outbound
	// Reserved: there is no SA, and what would go through one goes nowhere. Trap:
	// such packets are to be told of.
	Reserved, Trap bool
	Usage
	// Mutex is whose that seals, where there are several lanes, until the packets
	// are sent: they are to leave in the order of their numbers.
	sync.Mutex
}

// Table holds the current snapshot. One goroutine, the control path, may call
// the methods that write; any number may load and read. The zero Table is
// empty and ready.
type Table struct{ current atomic.Pointer[Snapshot] }

// Snapshot is an immutable state of the database.
type Snapshot struct {
	inbound  *directory[Inbound]
	outbound *directory[Outbound] // by the inbound SPI of the child
	flows    *flows               // by remote, then by local prefix
}

var empty = &Snapshot{inbound: &directory[Inbound]{}, outbound: &directory[Outbound]{}, flows: &flows{}}

// Load gives the current snapshot. One load serves a whole batch.
func (t *Table) Load() *Snapshot {
	if s := t.current.Load(); s != nil {
		return s
	}
	return empty
}

// AddInbound makes the inbound SA of c known. It fails without a change when
// the index of the SPI is in use.
func (t *Table) AddInbound(c *Child, sa *espcrypto.Inbound) error {
	if err := check(c); err != nil {
		return err
	}
	next := *t.Load()
	if at := next.inbound.at(c.InboundSPI); at != nil {
		return fmt.Errorf("inbound SPI %08x: %w (%08x)", c.InboundSPI, ErrOccupied, at.InboundSPI)
	}
	next.inbound = next.inbound.with(c.InboundSPI, &Inbound{Child: c, SA: sa})
	t.current.Store(&next)
	return nil
}

// AddOutbound sends the flows of c's selectors through sa from now on, in
// preference to older SAs with the same selectors.
func (t *Table) AddOutbound(c *Child, sa *espcrypto.Outbound) error {
	if err := check(c); err != nil {
		return err
	}
	next := *t.Load()
	if at := next.outbound.at(c.InboundSPI); at != nil {
		return fmt.Errorf("outbound SA of child %08x: %w (%08x)", c.InboundSPI, ErrOccupied, at.InboundSPI)
	}
	o := &Outbound{Child: c, SA: sa}
	next.outbound = next.outbound.with(c.InboundSPI, o)
	next.flows = withFlows(next.flows, o)
	t.current.Store(&next)
	return nil
}

// Reserve holds the flows of c's selectors, of a policy, for an SA to come: while
// there is none, Match finds the reservation, and no SA of a larger network
// takes them. c needs no SPIs.
func (t *Table) Reserve(c *Child, trap bool) (*Outbound, error) {
	if err := checkSelectors(c); err != nil {
		return nil, err
	}
	next, o := *t.Load(), &Outbound{Child: c, Reserved: true, Trap: trap}
	next.flows = withFlows(next.flows, o)
	t.current.Store(&next)
	return o, nil
}

// Release ends a reservation.
func (t *Table) Release(o *Outbound) {
	next := *t.Load()
	next.flows = withoutFlows(next.flows, o)
	t.current.Store(&next)
}

// RemoveInbound forgets the inbound SA with this SPI and returns its entry, or
// nil if there was none.
func (t *Table) RemoveInbound(spi uint32) *Inbound {
	next := *t.Load()
	in := next.Inbound(spi)
	if in != nil {
		next.inbound = next.inbound.with(spi, nil)
		t.current.Store(&next)
	}
	return in
}

// RemoveOutbound forgets the outbound SA of the child with this inbound SPI
// and returns its entry, or nil if there was none.
func (t *Table) RemoveOutbound(inboundSPI uint32) *Outbound {
	next := *t.Load()
	o := next.Outbound(inboundSPI)
	if o != nil {
		next.outbound = next.outbound.with(inboundSPI, nil)
		next.flows = withoutFlows(next.flows, o)
		t.current.Store(&next)
	}
	return o
}

// MovePeer sends the ESP of the child with this inbound SPI to another path.
// It reports whether there is such a child.
func (t *Table) MovePeer(inboundSPI uint32, p Path) bool {
	s := t.Load()
	if in := s.Inbound(inboundSPI); in != nil {
		in.Move(p)
		return true
	}
	if o := s.Outbound(inboundSPI); o != nil {
		o.Move(p)
		return true
	}
	return false
}

// Inbound is the SA of an SPI of ours, or nil.
func (s *Snapshot) Inbound(spi uint32) *Inbound {
	if in := s.inbound.at(spi); in != nil && in.InboundSPI == spi {
		return in
	}
	return nil
}

// Outbound is the outbound SA of the child with this inbound SPI, or nil.
func (s *Snapshot) Outbound(inboundSPI uint32) *Outbound {
	if o := s.outbound.at(inboundSPI); o != nil && o.InboundSPI == inboundSPI {
		return o
	}
	return nil
}

// Match is what carries f, or nil: the entry with the most specific destination,
// then source, then the newest SA, whose selectors f is within. It may be a
// reservation, which carries nothing.
func (s *Snapshot) Match(f *Flow) *Outbound { return s.MatchLane(f, 0) }

// MatchLane is Match, but for SAs with the same selectors: there the lane's own
// comes before newer ones.
func (s *Snapshot) MatchLane(f *Flow, lane int) *Outbound { return matchFlow(s.flows, f, lane) }

func check(c *Child) error {
	if c.InboundSPI < 256 {
		return ErrSPI
	}
	return checkSelectors(c)
}

func checkSelectors(c *Child) error {
	for _, s := range slices.Concat(c.Local, c.Remote) {
		if !s.valid() {
			return fmt.Errorf("%w: %v", ErrSelector, s)
		}
	}
	return nil
}

// directory is a sparse array over the 20-bit index of an SPI whose copies
// share all pages but one.
type directory[T any] [1 << (indexBits - pageBits)]*page[T]

type page[T any] [1 << pageBits]*T

const (
	indexBits = 20
	pageBits  = 10
)

func (d *directory[T]) at(spi uint32) *T {
	spi &= 1<<indexBits - 1
	if p := d[spi>>pageBits]; p != nil {
		return p[spi%(1<<pageBits)]
	}
	return nil
}

func (d *directory[T]) with(spi uint32, v *T) *directory[T] {
	spi &= 1<<indexBits - 1
	next, p := *d, page[T]{}
	if old := d[spi>>pageBits]; old != nil {
		p = *old
	}
	p[spi%(1<<pageBits)] = v
	next[spi>>pageBits] = &p
	return &next
}

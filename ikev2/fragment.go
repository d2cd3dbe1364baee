package ikev2

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"time"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// Fragmentation is a peer's policy for IKE messages that are larger than a
// packet should be (RFC 7383).
type Fragmentation struct {
	// Mode: ModePrefer by default. Where both sides take fragments, a message is
	// sent in them from the first time on if it is larger than Size. ModeRequire is
	// the same: a message that is not larger never needs them.
	Mode Mode
	// Size bounds an IP packet with a fragment in it, in bytes. 0 means 1280; the
	// least is 576.
	Size int
}

const (
	packetSize = 1280
	// leastPacket passes everywhere (RFC 7383 section 2.5.1).
	leastPacket = 576
	// narrowTry is from which try on a message goes out in the smallest packets:
	// larger ones may be what is lost (RFC 7383 section 2.5.2).
	narrowTry = 3

	// maxFragments and maxAssembled bound the parts of one message and their
	// bytes; a peer that is not authenticated gets by with less.
	maxFragments          = 128
	maxAssembled          = 64 << 10
	maxAssembledStrangers = 16 << 10
	// assemblyTime is how long the first fragment waits for the last.
	assemblyTime = 30 * time.Second
)

func (f Fragmentation) packet() int { return max(cmp.Or(f.Size, packetSize), leastPacket) }

// fragmentationTask says that we take fragments, and hears whether the peer does
// (RFC 7383 section 2.3).
type fragmentationTask struct{}

func (fragmentationTask) request(sa *ikeSA, req *draft) error {
	if sa.peer.Fragmentation.Mode != ModeOff {
		req.notify(wire.NotifyFragmentationSupported, nil)
	}
	return nil
}

func (fragmentationTask) response(sa *ikeSA, m *message) error {
	sa.fragments = sa.peer.Fragmentation.Mode != ModeOff && wire.FindNotify(m.payloads, wire.NotifyFragmentationSupported) != nil
	return nil
}

// forStrangers is the policy for a peer that has not said yet which it is:
// fragments where any peer may use them, of the smallest size.
func forStrangers(peers []*peer) Fragmentation {
	f := Fragmentation{Mode: ModeOff}
	for _, p := range peers {
		if own := p.Fragmentation; own.Mode != ModeOff && (f.Mode == ModeOff || own.packet() < f.packet()) {
			f = own
		}
	}
	return f
}

func (sa *ikeSA) fragmentation() Fragmentation {
	if sa.peer == nil {
		return sa.e.strangers
	}
	return sa.peer.Fragmentation
}

func answerFragmentation(sa *ikeSA, req *message, resp *draft) error {
	if sa.e.strangers.Mode != ModeOff && wire.FindNotify(req.payloads, wire.NotifyFragmentationSupported) != nil {
		sa.fragments = true
		resp.notify(wire.NotifyFragmentationSupported, nil)
	}
	return nil
}

// parcel is a message of ours as it goes out, and again when it is
// retransmitted: one datagram, or fragments. What is inside a protected one is
// kept, for other fragments to be made of it under the same key: by then the SA
// may have the next one.
type parcel struct {
	header    wire.Header
	first     wire.PayloadType
	inner     []byte
	out       *keymat.Cipher
	datagrams [][]byte
	sent      int
}

func (m *parcel) longest() (n int) {
	for _, b := range m.datagrams {
		n = max(n, len(b))
	}
	return n
}

// splits says whether fragments of m may be sent: it is protected, the peer
// takes them, and our policy is not against it.
func (sa *ikeSA) splits(m *parcel) bool {
	return m.first != wire.PayloadNone && sa.fragments && sa.fragmentation().Mode != ModeOff
}

// room is how long a datagram on the SA's path may be.
func (sa *ikeSA) room() int {
	packet := sa.fragmentation().packet()
	if sa.narrow {
		packet = leastPacket
	}
	return packet - sa.path.overhead()
}

// overhead is the length of what goes before an IKE message: IP and UDP headers,
// non-ESP marker.
func (p Path) overhead() int {
	const ip4, ip6, udp, marker = 20, 40, 8, 4
	n := ip4 + udp
	if p.Remote.Addr().Is6() && !p.Remote.Addr().Is4In6() {
		n = ip6 + udp
	}
	if p.Encap {
		n += marker
	}
	return n
}

// seal makes the datagrams of a protected message.
func (sa *ikeSA) seal(m *parcel) error {
	bodyLen := m.out.BodyLen(len(m.inner))
	if room := sa.room(); wire.ProtectedHeadLen+bodyLen > room && sa.splits(m) {
		return sa.fragment(m, room)
	}
	whole, err := m.out.Seal(wire.AppendProtected(nil, m.header, m.first, bodyLen), m.inner, sa.e.rand)
	if err == nil {
		m.datagrams = [][]byte{whole}
	}
	return err
}

// fragment makes datagrams of at most room bytes. Each is sealed by itself (RFC
// 7383 section 2.5).
func (sa *ikeSA) fragment(m *parcel, room int) error {
	chunk := room - wire.FragmentHeadLen
	for m.out.BodyLen(chunk) > room-wire.FragmentHeadLen {
		chunk--
	}
	chunks := slices.Collect(slices.Chunk(m.inner, chunk))
	datagrams := make([][]byte, len(chunks))
	for i, c := range chunks {
		prefix := wire.AppendFragment(nil, m.header, m.first, uint16(i+1), uint16(len(chunks)), m.out.BodyLen(len(c)))
		b, err := m.out.Seal(prefix, c, sa.e.rand)
		if err != nil {
			return err
		}
		datagrams[i] = b
	}
	m.datagrams = datagrams
	return nil
}

// post sends a message, by the third time in packets that are small enough for
// any path. Where that needs random bytes that fail, it goes as it was.
func (sa *ikeSA) post(p Path, m *parcel) {
	m.sent++
	if sa.splits(m) {
		sa.narrow = sa.narrow || m.sent >= narrowTry && m.longest() > leastPacket-sa.path.overhead()
		if m.longest() > sa.room() && sa.seal(m) != nil {
			sa.e.drop(dropRandom)
		}
	}
	for _, b := range m.datagrams {
		sa.send(p, b)
	}
}

// repeats says whether a request is the one that was answered last. Of one in
// fragments, which may be other fragments now, only the first counts, so that
// each retransmission is answered once (RFC 7383 section 2.6.1).
func (sa *ikeSA) repeats(h wire.Header, d Datagram, digest [sha256.Size]byte) bool {
	if sa.answer == nil || h.NextPayload != wire.PayloadSKF {
		return sa.answer != nil && digest == sa.last
	}
	outer, err := wire.Parse(d.Payload)
	if err != nil || sa.lastIn == nil || !sa.fragments {
		return false
	}
	f, ok := wire.Find[*wire.EncryptedFragment](outer.Payloads)
	if !ok || f.Number != 1 {
		return false
	}
	_, err = sa.lastIn.Open(d.Payload, f.BodyOffset)
	return err == nil
}

// assembly is a message of the peer's of which some fragments have come. The
// zero value is none.
type assembly struct {
	exchange wire.ExchangeType
	id       uint32
	first    wire.PayloadType
	parts    [][]byte // by number, from 0; nil where it is missing
	missing  int
	size     int // of the parts in bytes
	longest  int // of their datagrams
}

// partial is the peer's request or response that is on its way.
func (sa *ikeSA) partial(h wire.Header) *assembly {
	if h.Flags&wire.FlagResponse != 0 {
		return &sa.partials[1]
	}
	return &sa.partials[0]
}

func (a *assembly) holds(h wire.Header) bool {
	return a.parts != nil && a.id == h.MessageID && a.exchange == h.Exchange
}

// reassemble takes a fragment once its integrity is known, and gives the
// message when none is missing any more (RFC 7383 section 2.6). A peer that
// divides the message anew, into more fragments, begins again; the old ones are
// late then.
func (sa *ikeSA) reassemble(h wire.Header, d Datagram, f *wire.EncryptedFragment) (first wire.PayloadType, inner []byte, ok bool) {
	a := sa.partial(h)
	same := a.holds(h) && int(f.Total) <= len(a.parts)
	switch {
	case same && (int(f.Total) < len(a.parts) || a.parts[f.Number-1] != nil):
		sa.e.drop(dropFragment)
		return 0, nil, false
	case f.Total > maxFragments:
		sa.e.drop(dropFragmentLimit)
		return 0, nil, false
	}
	part, err := sa.in.Open(d.Payload, f.BodyOffset)
	switch {
	case err != nil:
		sa.e.drop(dropIntegrity)
		return 0, nil, false
	case len(part) == 0:
		sa.e.drop(dropMalformed)
		return 0, nil, false
	case !same:
		sa.begin(a, h, f.Total)
	}
	a.put(f, part, len(d.Payload))
	switch {
	case a.size > sa.assembledLimit():
		sa.e.drop(dropFragmentLimit)
	case a.missing > 0:
		return 0, nil, false
	default:
		first, inner, ok = a.first, slices.Concat(a.parts...), true
		sa.narrow = sa.narrow || a.longest <= leastPacket-d.Path.overhead()
	}
	*a = assembly{}
	return first, inner, ok
}

func (a *assembly) put(f *wire.EncryptedFragment, part []byte, datagramLen int) {
	a.parts[f.Number-1] = part
	a.missing--
	a.size += len(part)
	a.longest = max(a.longest, datagramLen)
	if f.Number == 1 {
		a.first = f.First
	}
}

func (sa *ikeSA) begin(a *assembly, h wire.Header, total uint16) {
	sa.abandon(a)
	*a = assembly{exchange: h.Exchange, id: h.MessageID, parts: make([][]byte, total), missing: int(total)}
	sa.e.setTimer(&sa.timers, timerFragments, sa.e.now.Add(assemblyTime))
}

func (sa *ikeSA) assembledLimit() int {
	if sa.state == stateAuth {
		return maxAssembledStrangers
	}
	return maxAssembled
}

func (sa *ikeSA) abandon(a *assembly) {
	if a.parts != nil {
		sa.e.drop(dropFragmentIncomplete)
	}
	*a = assembly{}
}

func (sa *ikeSA) dropPartials() {
	for i := range sa.partials {
		sa.abandon(&sa.partials[i])
	}
}

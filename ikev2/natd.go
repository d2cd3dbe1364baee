package ikev2

import (
	"crypto/sha1"
	"net/netip"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// natdTask is NAT detection (RFC 7296 section 2.23): each side sends the hash
// of the addresses that it sees, and finds a NAT where the other's differs.
//
// culvert's ESP is inside UDP always, so the initiator's source hash is made
// not to match: the peer then encapsulates too, NAT or no NAT. What the
// address really is goes into a notify of a private type, for a culvert at the
// other end to tell a NAT from this.
type natdTask struct{}

// notifyTrueSource carries the true NAT_DETECTION_SOURCE_IP hash beside a
// forced one (a status type of the private range, RFC 7296 section 3.10.1).
const notifyTrueSource wire.NotifyType = 40961

func (natdTask) request(sa *ikeSA, req *draft) error {
	addNATDetection(req, sa.id(), sa.path, true)
	return nil
}

func (natdTask) response(sa *ikeSA, m *message) error {
	sa.nat = detectNAT(m.payloads, sa.id(), m.path)
	return nil
}

func answerNATDetection(sa *ikeSA, req *message, resp *draft) error {
	sa.nat = detectNAT(req.payloads, SAID{Initiator: sa.spii}, req.path)
	addNATDetection(resp, sa.id(), req.path, !sa.nat.Local && !sa.nat.Remote)
	return nil
}

func addNATDetection(d *draft, id SAID, p Path, force bool) {
	source := natHash(id, p.Local)
	if force {
		d.notify(notifyTrueSource, source)
		source = natHash(id, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	}
	d.notify(wire.NotifyNATDetectionSourceIP, source)
	d.notify(wire.NotifyNATDetectionDestinationIP, natHash(id, p.Remote))
}

func natHash(id SAID, a netip.AddrPort) []byte {
	h := keymat.NATDetection(id.Initiator, id.Responder, a)
	return h[:]
}

// detectNAT reads the peer's hashes for a message that came by p. A peer may
// send several source hashes; one that fits means that it is not behind a NAT.
func detectNAT(ps []wire.Payload, id SAID, p Path) NAT {
	sources, trueSources := hashes(ps, wire.NotifyNATDetectionSourceIP), hashes(ps, notifyTrueSource)
	destinations := hashes(ps, wire.NotifyNATDetectionDestinationIP)
	if len(sources) == 0 || len(destinations) == 0 {
		return NAT{}
	}
	if len(trueSources) > 0 {
		sources = trueSources
	}
	return NAT{
		Known:  true,
		Local:  !destinations[[sha1.Size]byte(natHash(id, p.Local))],
		Remote: !sources[[sha1.Size]byte(natHash(id, p.Remote))],
	}
}

func hashes(ps []wire.Payload, t wire.NotifyType) map[[sha1.Size]byte]bool {
	set := map[[sha1.Size]byte]bool{}
	for _, p := range ps {
		if n, ok := p.(*wire.Notify); ok && n.NotifyType == t && len(n.Data) == sha1.Size {
			set[[sha1.Size]byte(n.Data)] = true
		}
	}
	return set
}

package wire

import (
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// Limits on one SA payload, far above what any peer sends.
const (
	maxProposals  = 16
	maxTransforms = 64
)

// SA is a Security Association payload (RFC 7296 section 3.3): proposals, the
// most wanted first.
type SA struct{ Proposals []Proposal }

func (*SA) Type() PayloadType { return PayloadSA }

// Proposal is one proposal: for each transform type any number of
// alternatives. SPI is empty in IKE_SA_INIT, 8 bytes when an IKE SA is rekeyed,
// 4 bytes for AH and ESP.
type Proposal struct {
	Number     uint8
	Protocol   Protocol
	SPI        []byte
	Transforms []Transform
}

// String lists the transforms: "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519".
func (p Proposal) String() string {
	names := make([]string, len(p.Transforms))
	for i, t := range p.Transforms {
		names[i] = t.String()
	}
	return strings.Join(names, "/")
}

// The first octet of a proposal and of a transform says whether another one
// follows (RFC 7296 sections 3.3.1 and 3.3.2).
const (
	moreProposals  = 2
	moreTransforms = 3
)

// followed is what that octet must be, given what is left.
func followed(more uint8, rest int) uint8 {
	if rest == 0 {
		return 0
	}
	return more
}

func parseSA(s cryptobyte.String) (Payload, error) {
	var p SA
	for !s.Empty() {
		if len(p.Proposals) == maxProposals {
			return nil, malformed("SA payload: more than %d proposals", maxProposals)
		}
		last, _, body, ok := readBlock(&s)
		if !ok || last != followed(moreProposals, len(s)) {
			return nil, malformed("SA payload: proposal length does not fit")
		}
		proposal, err := parseProposal(body)
		if err != nil {
			return nil, err
		}
		p.Proposals = append(p.Proposals, proposal)
	}
	if len(p.Proposals) == 0 {
		return nil, malformed("SA payload: no proposal")
	}
	return &p, nil
}

func parseProposal(s cryptobyte.String) (Proposal, error) {
	var p Proposal
	var spiSize, count uint8
	if !s.ReadUint8(&p.Number) || !s.ReadUint8((*uint8)(&p.Protocol)) || !s.ReadUint8(&spiSize) ||
		!s.ReadUint8(&count) || !readBytes(&s, &p.SPI, int(spiSize)) {
		return p, malformed("SA payload: proposal too short")
	}
	if !p.spiFits() {
		return p, malformed("SA payload: %v SPI of %d bytes", p.Protocol, spiSize)
	}
	if count > maxTransforms {
		return p, malformed("SA payload: more than %d transforms", maxTransforms)
	}
	for range count {
		last, _, body, ok := readBlock(&s)
		if !ok || last != followed(moreTransforms, len(s)) {
			return p, malformed("SA payload: transform length does not fit")
		}
		t, err := parseTransform(body)
		if err != nil {
			return p, err
		}
		p.Transforms = append(p.Transforms, t)
	}
	if !s.Empty() {
		return p, malformed("SA payload: more transforms than proposal %d says", p.Number)
	}
	return p, nil
}

// spiFits: an unknown protocol's SPI is as long as it says; such a proposal is
// not for us to refuse, only not to choose.
func (p Proposal) spiFits() bool {
	switch p.Protocol {
	case ProtocolIKE:
		return len(p.SPI) == 0 || len(p.SPI) == len(SPI{})
	case ProtocolAH, ProtocolESP:
		return len(p.SPI) == 4
	}
	return true
}

func (p *SA) add(b *cryptobyte.Builder) {
	for i, proposal := range p.Proposals {
		rest := len(p.Proposals) - i - 1
		addBlock(b, followed(moreProposals, rest), 0, build(proposal.add))
	}
}

func (p Proposal) add(b *cryptobyte.Builder) {
	b.AddUint8(p.Number)
	b.AddUint8(uint8(p.Protocol))
	b.AddUint8(uint8(len(p.SPI)))
	b.AddUint8(uint8(len(p.Transforms)))
	b.AddBytes(p.SPI)
	for i, t := range p.Transforms {
		rest := len(p.Transforms) - i - 1
		addBlock(b, followed(moreTransforms, rest), 0, build(t.add))
	}
}

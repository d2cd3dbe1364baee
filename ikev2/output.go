package ikev2

import (
	"fmt"
	"net/netip"

	"culvert/ikev2/keymat"
	"culvert/ikev2/wire"
)

// Path is where a datagram came from or goes to. Encap marks the socket whose
// IKE messages carry the non-ESP marker (RFC 3948 section 2.2), which the
// engine never sees.
type Path struct {
	Local, Remote netip.AddrPort
	Encap         bool
}

// Datagram is one IKE message as it was received. The engine keeps nothing of
// Payload after the call.
type Datagram struct {
	Path    Path
	Payload []byte
}

// Command is an input that is neither time nor a datagram.
type Command interface{ command() }

// Connect brings a peer up: the engine tries, again and again with back-off,
// until Disconnect. A second Connect moves further tries to its Path.
type Connect struct {
	Peer string
	Path Path
	// Once has it tried once only, for what Acquire wants: not again when it
	// fails or the IKE SA ends, and not soon after it failed.
	Once bool
	// Anew has it tried at once, even where the peer is up: the new IKE SA takes
	// the place of that one when it is authenticated.
	Anew bool
}

// Disconnect takes a peer down, telling it so, and stops trying.
type Disconnect struct{ Peer string }

// Shutdown takes every peer down, for good; Idle says when the last one is
// gone.
type Shutdown struct{}

// Traffic says that authenticated ESP arrived, or ESP left, on the child with
// this inbound SPI since the last time. It counts as life of the peer (RFC
// 7296 section 2.4) and silences the keepalive (RFC 3948 section 4). Bytes and
// Packets are what the child has carried so far, in the direction that carried
// more.
type Traffic struct {
	SPI            uint32
	In, Out        bool
	Bytes, Packets uint64
}

// Moved says that an authentic ESP packet of the child with this inbound SPI
// came by another path than the child's (RFC 7296 section 2.23).
type Moved struct {
	SPI  uint32
	Path Path
}

// Rekey replaces the child with this inbound SPI before its time: few sequence
// numbers are left, or the operator wants it.
type Rekey struct{ SPI uint32 }

// RekeyIKE replaces a peer's IKE SA before its time.
type RekeyIKE struct{ Peer string }

// Measure asks a peer that is up for an answer, unless something else is being
// asked; RoundTrip has what comes of it.
type Measure struct{ Peer string }

// Reveal has the engine emit the IKEKeys of what there is, and of what comes, or
// no more of them. Config.KeyLog is what it begins with.
type Reveal struct{ On bool }

func (Measure) command()    {}
func (Reveal) command()     {}
func (Rekey) command()      {}
func (RekeyIKE) command()   {}
func (Moved) command()      {}
func (Connect) command()    {}
func (Disconnect) command() {}
func (Shutdown) command()   {}
func (Traffic) command()    {}

// Output is what the engine wants done, in the order in which Poll gives it.
// The order is part of the contract: a responder's InstallInbound comes before
// the Transmit of the answer that lets the peer send, an initiator's before
// its InstallOutbound; Remove comes after the Transmit that announces it. Where
// a child is replaced, InstallOutbound of the new one, which is the moment of
// switching, comes before RemoveOutbound of the old one, and RemoveInbound
// comes some seconds later, when no packet can be on its way any more.
type Output interface{ output() }

// Transmit sends one IKE message; or, one byte long, a NAT keepalive.
type Transmit struct {
	Path    Path
	Payload []byte
	// Whole: nobody on the way may fragment it.
	Whole bool
}

// ESPSuite is a child SA's algorithms by their IANA numbers. Integ is 0 for
// a cipher that has its own.
type ESPSuite struct {
	Encr, KeyBits, Integ uint16
	ESN                  bool
}

// String names the suite in the field's words: AES_GCM_16_128/ESN.
func (s ESPSuite) String() string { return s.proposal().String() }

func (s ESPSuite) proposal() Proposal {
	p := Proposal{encr(s.Encr, s.KeyBits)}
	if s.Integ != 0 {
		p = append(p, integ(s.Integ))
	}
	if s.ESN {
		return append(p, esn(wire.ESNYes))
	}
	return append(p, esn(wire.ESNNo))
}

// ChildSA is what both halves of a child SA share. Local and Remote are the
// negotiated selectors, seen from here.
type ChildSA struct {
	Peer, Child   string
	IKE           SAID
	Suite         ESPSuite
	Local, Remote []wire.Selector
	Path          Path
	// InboundSPI names the child on this side for as long as it lives.
	InboundSPI, OutboundSPI uint32
	// Lane of Config.Lanes is the one that receives on it: Lane(InboundSPI). Where
	// there are several for the same traffic, each is the lane's own.
	Lane int
}

// SAID names an IKE SA by its two SPIs.
type SAID struct{ Initiator, Responder wire.SPI }

// String is both SPIs in hexadecimal, as peers log them.
func (s SAID) String() string { return fmt.Sprintf("%x_i %x_r", s.Initiator[:], s.Responder[:]) }

// ESPKeys are one direction's keys; Encr ends in the salt where the cipher
// has one.
type ESPKeys struct{ Encr, Integ []byte }

// String and GoString keep keys out of logs.
func (ESPKeys) String() string   { return "(secret)" }
func (ESPKeys) GoString() string { return "(secret)" }

// InstallInbound makes the gateway accept ESP with the child's inbound SPI.
type InstallInbound struct {
	ChildSA
	Keys ESPKeys
}

// InstallOutbound makes the gateway send the child's traffic through it.
type InstallOutbound struct {
	ChildSA
	Keys ESPKeys
}

// RemoveInbound and RemoveOutbound undo the installs of the child with this
// inbound SPI. A child that was never of use has no outbound half.
type (
	RemoveInbound  struct{ InboundSPI uint32 }
	RemoveOutbound struct{ InboundSPI uint32 }
)

// MovePeer sends the child's ESP to another path from now on (RFC 7296
// section 2.23).
type MovePeer struct {
	InboundSPI uint32
	Path       Path
}

// AssignAddresses gives the gateway the addresses that a peer assigned to it
// (RFC 7296 section 2.19), each a whole prefix of one address, in place of those
// that it assigned before. It comes before the installs of the children that use
// them. The rest is what the peer says of
// the networks behind it: name servers, the domains they are for (RFC 8598; none
// means all), and prefixes.
type AssignAddresses struct {
	Peer    string
	Addrs   []netip.Prefix
	DNS     []netip.Addr
	Domains []string
	Subnets []netip.Prefix
}

// RemoveAddresses takes back what AssignAddresses gave, after the children that
// used it are gone.
type RemoveAddresses struct{ Peer string }

// IKEKeys are the secrets of an IKE SA, emitted only with Config.KeyLog or after Reveal.
type IKEKeys struct {
	ID    SAID
	Suite keymat.IKESuite
	Keys  keymat.IKEKeys
}

// String and GoString keep keys out of logs.
func (IKEKeys) String() string   { return "(secret)" }
func (IKEKeys) GoString() string { return "(secret)" }

func (Transmit) output()        {}
func (InstallInbound) output()  {}
func (InstallOutbound) output() {}
func (RemoveInbound) output()   {}
func (RemoveOutbound) output()  {}
func (MovePeer) output()        {}
func (AssignAddresses) output() {}
func (RemoveAddresses) output() {}
func (IKEKeys) output()         {}
func (Event) output()           {}

package keymat

import (
	"crypto/ecdh"
	"fmt"
	"io"
)

// IANA numbers of the key exchange methods (transform type 4) that NewKeyExchange knows.
const (
	groupMODP2048  = 14
	groupMODP3072  = 15
	groupMODP4096  = 16
	groupECP256    = 19
	groupECP384    = 20
	groupECP521    = 21
	groupX25519    = 31
	groupMLKEM512  = 35
	groupMLKEM768  = 36
	groupMLKEM1024 = 37
)

// A KeyExchange is one side's ephemeral key of one Diffie-Hellman group, or the initiator's of a KEM.
type KeyExchange interface {
	// Group is the IANA number of the method.
	Group() uint16
	// Public is the Key Exchange Data of our KE payload: PublicLen(Group()) bytes, leading zeros kept (RFC 7296 3.4).
	Public() []byte
	// Shared gives g^ir for the peer's Key Exchange Data, of the group's fixed length with leading zeros kept. It is ErrPeerKey when
	// that is not an acceptable element of the group, or has not the length of a ciphertext of the KEM.
	Shared(peer []byte) ([]byte, error)
}

// A group is what makes key exchanges of one method.
type group interface {
	generate(id uint16, rand io.Reader) (KeyExchange, error)
	respond(id uint16, peer []byte, rand io.Reader) (public, shared []byte, err error)
	publicLen() int
}

var groups = map[uint16]group{
	groupMODP2048: modp{modp2048, 40},
	groupMODP3072: modp{modp3072, 53},
	groupMODP4096: modp{modp4096, 60},
	groupECP256:   curve{ecdh.P256(), 32, 0xFF, uncompressed, 64},
	groupECP384:   curve{ecdh.P384(), 48, 0xFF, uncompressed, 96},
	groupECP521:   curve{ecdh.P521(), 66, 0x01, uncompressed, 132},
	groupX25519:   curve{ecdh.X25519(), 32, 0xFF, nil, 32},

	groupMLKEM512:  mlkemSmall,
	groupMLKEM768:  mlkem768,
	groupMLKEM1024: mlkem1024,
}

// NewKeyExchange makes an ephemeral key of the group with that IANA number: 14, 15, 16, 19, 20, 21 or 31; or, for the initiator alone, of
// ML-KEM: 35, 36 or 37. What it reads from rand is all that it depends on.
func NewKeyExchange(group uint16, rand io.Reader) (KeyExchange, error) {
	g, ok := groups[group]
	if !ok {
		return nil, fmt.Errorf("%w: key exchange method %d", ErrUnsupported, group)
	}
	return g.generate(group, rand)
}

// Respond is the responder's whole part in a key exchange that the initiator has begun with peer, its Key Exchange Data: public is ours, shared the
// secret. It is ErrPeerKey when peer is not acceptable.
func Respond(group uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	g, ok := groups[group]
	if !ok {
		return nil, nil, fmt.Errorf("%w: key exchange method %d", ErrUnsupported, group)
	}
	return g.respond(group, peer, rand)
}

// respondDH is Respond for a group in which both sides do the same.
func respondDH(g group, id uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	own, err := g.generate(id, rand)
	if err != nil {
		return nil, nil, err
	}
	if shared, err = own.Shared(peer); err != nil {
		return nil, nil, err
	}
	return own.Public(), shared, nil
}

// GroupSupported says whether NewKeyExchange knows the group with that IANA number.
func GroupSupported(group uint16) bool { return groups[group] != nil }

// IsKEM says that the key exchange method with that IANA number is one whose responder can only answer: it is for additional key exchanges (RFC
// 9370), which come one after the other, not for IKE_SA_INIT.
func IsKEM(method uint16) bool { _, is := groups[method].(kem); return is }

// PublicLen is the length in bytes of the initiator's Key Exchange Data, 0 for a group that is not supported.
func PublicLen(group uint16) int {
	if g, ok := groups[group]; ok {
		return g.publicLen()
	}
	return 0
}

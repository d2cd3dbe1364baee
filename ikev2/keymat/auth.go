package keymat

import (
	"crypto/sha1"
	"encoding/binary"
	"net/netip"
)

// pskPad is what a pre-shared key signs with in place of itself (RFC 7296 2.15).
const pskPad = "Key Pad for IKEv2"

// PSKAuth is the Authentication Data of a pre-shared key (RFC 7296 2.15):
//
//	prf( prf(psk, "Key Pad for IKEv2"), initMessage | peerNonce | prf(skp, idBody) | intAuth )
//
// initMessage is the final IKE_SA_INIT message of the side that authenticates, from the header's first byte; peerNonce is the other side's nonce
// data; skp is SK_pi for the initiator and SK_pr for the responder; idBody is the body of its ID payload exactly as sent; intAuth stands for the
// IKE_INTERMEDIATE exchanges, nil where there were none (RFC 9242 3.3.1). To verify, make the peer's and compare with hmac.Equal.
func PSKAuth(prf PRF, psk, initMessage, peerNonce, skp, idBody, intAuth []byte) []byte {
	key := prf.Sum(psk, []byte(pskPad))
	defer clear(key)
	return prf.Sum(key, initMessage, peerNonce, prf.Sum(skp, idBody), intAuth)
}

// ResumeAuth is the Authentication Data of a side of a resumed IKE SA (RFC 5723 5.1): what PSKAuth signs, under SK_px itself.
func ResumeAuth(prf PRF, initMessage, peerNonce, skp, idBody []byte) []byte {
	return prf.Sum(skp, initMessage, peerNonce, prf.Sum(skp, idBody))
}

// NATDetection is the content of a NAT_DETECTION_SOURCE_IP or _DESTINATION_IP notify (RFC 7296 2.23): SHA-1 of both SPIs in the order of
// the header, the address (4 or 16 bytes) and the port. SHA-1 hides here and authenticates nothing.
func NATDetection(spii, spir [8]byte, a netip.AddrPort) [20]byte {
	b := append(spii[:], spir[:]...)
	b = append(b, a.Addr().Unmap().AsSlice()...)
	return sha1.Sum(binary.BigEndian.AppendUint16(b, a.Port()))
}

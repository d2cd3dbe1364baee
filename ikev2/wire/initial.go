package wire

import "golang.org/x/crypto/cryptobyte"

// Initial is what a cookie is about in a peer's first request (RFC 7296 section
// 2.6). Both are parts of the datagram.
type Initial struct {
	Nonce  []byte // 16 to 256 bytes
	Cookie []byte // that the request returns; nil if none
}

// ScanInitial reads that much of an unprotected request and no more, without
// allocating, for a responder that is flooded. It is false where the chain of
// payloads is broken or holds no nonce; whether the rest makes sense is for
// Parse.
func ScanInitial(datagram []byte) (found Initial, ok bool) {
	if len(datagram) < HeaderLen {
		return found, false
	}
	next, rest := datagram[16], cryptobyte.String(datagram[HeaderLen:])
	for n := 0; next != uint8(PayloadNone); n++ {
		t := PayloadType(next)
		var body cryptobyte.String
		if next, _, body, ok = readBlock(&rest); !ok || n == maxPayloads {
			return found, false
		}
		switch t {
		case PayloadNonce:
			found.Nonce = body
		case PayloadNotify:
			if c := cookieOf(body); c != nil {
				found.Cookie = c
			}
		}
	}
	return found, rest.Empty() && len(found.Nonce) >= minNonce && len(found.Nonce) <= maxNonce
}

func cookieOf(s cryptobyte.String) []byte {
	var spiLen uint8
	var kind uint16
	if !s.Skip(1) || !s.ReadUint8(&spiLen) || !s.ReadUint16(&kind) || NotifyType(kind) != NotifyCookie || !s.Skip(int(spiLen)) {
		return nil
	}
	return s
}

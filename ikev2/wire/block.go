package wire

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// blockHeadLen is what a block's length counts beside its body.
const blockHeadLen = 4

// readBlock reads the shape that payloads, proposals, transforms and traffic
// selectors share:
//
//	first (1) | second (1) | length of all (2) | body
func readBlock(s *cryptobyte.String) (first, second uint8, body cryptobyte.String, ok bool) {
	var n uint16
	ok = s.ReadUint8(&first) && s.ReadUint8(&second) && s.ReadUint16(&n) &&
		n >= blockHeadLen && readBytes(s, (*[]byte)(&body), int(n)-blockHeadLen)
	return first, second, body, ok
}

// readBytes reads n bytes, without capacity for what follows them: appending to
// a field of a parsed message must not write into the datagram.
func readBytes(s *cryptobyte.String, out *[]byte, n int) bool {
	ok := s.ReadBytes(out, n)
	*out = slices.Clip(*out)
	return ok
}

// addBlock writes what readBlock reads.
func addBlock(b *cryptobyte.Builder, first, second uint8, body []byte) {
	b.AddUint8(first)
	b.AddUint8(second)
	b.AddUint16(uint16(blockHeadLen + len(body)))
	b.AddBytes(body)
}

// build returns what f writes.
func build(f func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic() // only a length-prefixed child can fail; there is none here
}

func addReserved(b *cryptobyte.Builder, n int) {
	b.AddBytes(make([]byte, n))
}

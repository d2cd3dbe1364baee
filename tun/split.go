package tun

// Splitter takes a Super apart into the packets it stands for, without moving
// the payload: Head makes the i-th packet's headers, Body points at its
// payload inside the slab.
//
//	for range: s, err := dev.Read(slab); err = sp.Load(s)
//	           for i := range sp.Count() {
//	               n := sp.Head(i, dst)        // dst[:n], n == sp.HeadLen()
//	               body := sp.Body(i)          // n + len(body) == sp.InnerLen(i)
//	           }
//
// A packet that is no run is the case Count() == 1, HeadLen() == 0: the whole
// packet is Body(0). Its checksum is completed in place by Load, so that the
// packet's own bytes may be looked at and changed (ClampMSS) after Load.
//
// The zero value is ready. It allocates nothing and refers to the slab until
// the next Load.
type Splitter struct {
	packet []byte
}

// Load validates s, trusting nothing that the device said about it, and makes
// it the Super to split. After an error the Splitter is empty (Count() == 0).
func (p *Splitter) Load(s Super) error { p.packet = nil; return ErrVersion }

// Count is the number of packets.
func (p *Splitter) Count() int { return 0 }

// HeadLen is the number of header bytes that Head writes, the same for every i.
func (p *Splitter) HeadLen() int { return 0 }

// InnerLen is the length in bytes of the i-th packet, head and body. All but
// the last are equally long.
func (p *Splitter) InnerLen(i int) int { return 0 }

// Head writes the IP and transport header of the i-th packet to dst, checksums
// final, and returns HeadLen().
func (p *Splitter) Head(i int, dst []byte) int { return 0 }

// Body is the rest of the i-th packet, inside the slab.
func (p *Splitter) Body(i int) []byte { return nil }

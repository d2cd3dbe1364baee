package ikev2

import (
	"encoding/binary"
	"errors"
)

// spiTable hands out inbound ESP SPIs: an index in the low 20 bits, so that a
// receiver finds the SA with one array load, and a random generation that is
// never zero in the high 12, so that a late packet does not find the index's
// next owner and no SPI is one of the reserved 1-255 (RFC 4303 section 2.1). Of
// several lanes the generation names the one that is to receive: Lane.
type spiTable struct {
	slots []*childSA
	free  []uint32
}

const (
	spiIndexBits = 20
	spiIndexMask = 1<<spiIndexBits - 1
)

var errNoSPI = errors.New("no inbound SPI is free")

func (t *spiTable) alloc(e *Engine, c *childSA) (uint32, error) {
	b, err := e.random(2)
	if err != nil {
		return 0, err
	}
	generation := e.generation(uint32(binary.BigEndian.Uint16(b))%(1<<(32-spiIndexBits)-1)+1, c.lane)
	c.lane = int(generation) % e.lanes()
	index := uint32(len(t.slots))
	full := index > spiIndexMask
	switch {
	case len(t.free) > 1024 || full && len(t.free) > 0:
		index, t.free = t.free[0], t.free[1:]
		t.slots[index] = c
	case full:
		return 0, errNoSPI
	default:
		t.slots = append(t.slots, c)
	}
	return generation<<spiIndexBits | index, nil
}

// Lane is which of so many lanes is to receive what has one of our inbound SPIs.
func Lane(spi uint32, lanes int) int { return int(spi>>spiIndexBits) % lanes }

// generation is the next one to g that names the lane.
func (e *Engine) generation(g uint32, lane int) uint32 {
	n := uint32(e.lanes())
	if lane == anyLane || n == 1 {
		return g
	}
	g += uint32(lane) - g%n
	switch {
	case g == 0:
		g += n
	case g >= 1<<(32-spiIndexBits):
		g -= n
	}
	return g
}

func (t *spiTable) get(spi uint32) *childSA {
	i := spi & spiIndexMask
	if int(i) < len(t.slots) && t.slots[i] != nil && t.slots[i].in == spi {
		return t.slots[i]
	}
	return nil
}

func (t *spiTable) release(spi uint32) {
	if t.get(spi) == nil {
		return
	}
	i := spi & spiIndexMask
	t.slots[i] = nil
	t.free = append(t.free, i)
}

// used counts the SPIs that are handed out.
func (t *spiTable) used() int { return len(t.slots) - len(t.free) }

package ikev2

import (
	"math/rand/v2"
	"testing"
)

func TestSPITable(t *testing.T) {
	e := New(Config{}, rand.NewChaCha8([32]byte{1}))
	var table spiTable
	alloc := func() uint32 {
		c := &childSA{}
		spi, err := table.alloc(e, c)
		if err != nil {
			t.Fatal(err)
		}
		c.in = spi
		if table.get(spi) != c || spi <= spiIndexMask {
			t.Fatalf("SPI %08x finds %v", spi, table.get(spi))
		}
		return spi
	}
	last := map[uint32]int{}
	for i := range 5000 {
		spi := alloc()
		if before, ok := last[spi&spiIndexMask]; ok && i-before <= 1024 {
			t.Fatalf("index of %08x comes again after %d others", spi, i-before)
		}
		last[spi&spiIndexMask] = i
		table.release(spi)
		table.release(spi)
		if table.get(spi) != nil || table.used() != 0 {
			t.Fatalf("SPI %08x lives on, %d used", spi, table.used())
		}
	}
	if len(table.slots) > 1100 {
		t.Errorf("%d slots for one SPI at a time", len(table.slots))
	}
	table = spiTable{slots: make([]*childSA, spiIndexMask+1)}
	if spi, err := table.alloc(e, &childSA{}); err == nil {
		t.Errorf("a full table gives %08x", spi)
	}
}

package lab

import "sync"

// Capture is a running capture of an interface of a host.
type Capture struct {
	host   *Host
	socket packetSocket
	file   *pcapng
	done   chan struct{}
	once   sync.Once

	stats CaptureStats
	err   error // of the writer; both to be read after done
}

// CaptureStats is what a capture saw.
type CaptureStats struct {
	Packets int // written
	Dropped int // lost because they came faster than they were written
}

func (c *Capture) halt() error {
	_, err := c.Stop()
	return err
}

package tun

// Coalescer writes packets to a Device, joining neighbours of one TCP or UDP
// flow into runs where the device takes them.
//
// Add keeps references, no copies: a packet's bytes must stay untouched from
// Add until the next Flush, and the Coalescer may patch the headers of packets
// given to it. A packet that cannot be part of a run is written at once (after
// what came before it in its flow). The order within a flow is kept.
//
// Usage in a receive loop: Add for each packet of a batch, then Flush, before
// the batch's buffers are used again. One goroutine owns a Coalescer.
type Coalescer struct {
	dev Device
}

// NewCoalescer makes a Coalescer that writes to dev. With a device that takes
// no runs it writes every packet as it comes.
func NewCoalescer(dev Device) *Coalescer { return &Coalescer{dev: dev} }

// Add takes one whole IP packet, exactly as long as its header says (see
// InnerLen). Errors of writes are kept for Flush.
func (c *Coalescer) Add(packet []byte) {}

// Flush writes all that is open. It returns how many packets were lost in
// writes since the last Flush, and the first error among those writes; a lost
// packet is no reason to stop (os.ErrClosed is).
func (c *Coalescer) Flush() (lost int, err error) { return 0, nil }

// Writes is the number of Device.Write calls so far, to see what coalescing
// saves.
func (c *Coalescer) Writes() uint64 { return 0 }

package gateway

import (
	"culvert/espcrypto/sad"
	"culvert/natt"
	"culvert/tun"
)

// Loops is the data path by itself, on a device, a socket and a database of
// the caller's, with no control path behind it: what there is to measure.
type Loops struct {
	out      *outbound
	in       *inbound
	counters Counters
}

// NewLoops connects the device, the socket and the database. IKE messages and
// keepalives that the socket delivers are dropped.
func NewLoops(dev tun.Device, conn natt.Conn, table *sad.Table) *Loops {
	l := &Loops{}
	l.out = newOutbound(dev, conn, table, &l.counters, outboundOptions{})
	l.in = newInbound(dev, conn, table, &l.counters, inboundOptions{IKE: func(natt.Path, []byte) {}})
	return l
}

// Outbound carries packets from the device to the socket until one of them
// says that it is closed (os.ErrClosed, net.ErrClosed); nil then. It may be
// called again.
func (l *Loops) Outbound() error { return l.out.run() }

// Inbound is Outbound from the socket to the device.
func (l *Loops) Inbound() error { return l.in.run() }

// Counts is what did not go the usual way so far, by name.
func (l *Loops) Counts() map[string]uint64 { return l.counters.Snapshot() }

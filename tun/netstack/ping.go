package netstack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// pinger is one echo under way. Its identifier is the endpoint's own, so that
// every answer it gets is an answer to it.
type pinger struct {
	ep      tcpip.Endpoint
	queue   waiter.Queue
	request []byte
}

func (s *Stack) dialPing(dst netip.Addr) (*pinger, error) {
	payload := []byte("culvert: is anybody there?")
	p := &pinger{request: append([]byte{byte(header.ICMPv4Echo), 0, 0, 0, 0, 0, 0, 1}, payload...)}
	protocol := icmp.ProtocolNumber4
	if dst.Is6() {
		protocol = icmp.ProtocolNumber6
		p.request[0] = byte(header.ICMPv6EchoRequest)
	}
	ep, err := s.stack.NewEndpoint(protocol, network(dst), &p.queue)
	if err != nil {
		return nil, errors.New(err.String())
	}
	if err := ep.Connect(endpoint(netip.AddrPortFrom(dst, 0))); err != nil {
		ep.Close()
		return nil, errors.New(err.String())
	}
	p.ep = ep
	return p, nil
}

func (p *pinger) exchange(ctx context.Context) error {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	p.queue.EventRegister(&entry)
	defer p.queue.EventUnregister(&entry)
	if _, err := p.ep.Write(bytes.NewReader(p.request), tcpip.WriteOptions{}); err != nil {
		return errors.New(err.String())
	}
	for {
		_, err := p.ep.Read(io.Discard, tcpip.ReadOptions{})
		if err == nil {
			return nil
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			return errors.New(err.String())
		}
		select {
		case <-readable:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

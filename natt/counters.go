package natt

import (
	"errors"
	"sync/atomic"
	"syscall"
)

type counter int

const (
	receiveError         counter = iota // the socket reported an error that passes
	receiveTruncated                    // a datagram, or what the kernel says of it, did not fit
	segmentationRefused                 // a run that the kernel would only take as single datagrams
	segmentationDisabled                // the device cannot segment: offload is off from then on
	sendUnreachable                     // no route, or no such address family here
	sendDenied                          // a firewall of our own
	sendWouldBlock                      // the socket's buffer is full
	sendNoBuffer                        // the kernel's or the device's is
	sendTooBig                          // more than the interface's MTU, with don't-fragment
	sendBadAddress                      // Path.Local is not of this machine, or Path.Remote is no address
	sendError                           // anything else
	counterCount
)

var counterNames = [counterCount]string{
	"receive_error", "receive_truncated", "segmentation_refused", "segmentation_disabled", "send_unreachable", "send_denied",
	"send_would_block", "send_no_buffer", "send_too_big", "send_bad_address", "send_error",
}

type counters [counterCount]atomic.Uint64

func (c *counters) count(n counter) { c[n].Add(1) }

// Counters implements Conn.
func (c *counters) Counters() map[string]uint64 {
	m := make(map[string]uint64, counterCount)
	for i := range c {
		m[counterNames[i]] = c[i].Load()
	}
	return m
}

var sendErrors = []struct {
	err     error
	counter counter
}{
	{syscall.ENETUNREACH, sendUnreachable},
	{syscall.EHOSTUNREACH, sendUnreachable},
	{syscall.ENETDOWN, sendUnreachable},
	{syscall.EAFNOSUPPORT, sendUnreachable},
	{syscall.EPERM, sendDenied},
	{syscall.EACCES, sendDenied},
	{syscall.EAGAIN, sendWouldBlock},
	{syscall.ENOBUFS, sendNoBuffer},
	{syscall.ENOMEM, sendNoBuffer},
	{syscall.EMSGSIZE, sendTooBig},
	{syscall.EADDRNOTAVAIL, sendBadAddress},
	{syscall.EINVAL, sendBadAddress},
}

// sendCounter names what became of a datagram that the kernel refused with err.
func sendCounter(err error) counter {
	for _, e := range sendErrors {
		if errors.Is(err, e.err) {
			return e.counter
		}
	}
	return sendError
}

// fatal tells whether a socket error is for good: the descriptor is not what it was.
func fatal(err error) bool {
	return errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, syscall.EFAULT)
}

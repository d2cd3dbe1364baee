//go:build !linux

package tun

import "fmt"

// OpenQueues is Open where a device has one queue; more are an error.
func OpenQueues(name string, mtu, queues int) ([]Device, error) {
	if queues > 1 {
		return nil, tooManyQueues(queues)
	}
	return one(Open(name, mtu))
}

// OpenPreparedQueues is OpenPrepared where a device has one queue; more are an
// error.
func OpenPreparedQueues(name string, queues int) ([]Device, error) {
	if queues > 1 {
		return nil, tooManyQueues(queues)
	}
	return one(OpenPrepared(name))
}

func tooManyQueues(n int) error {
	return fmt.Errorf("a device with %d queues needs Linux: leave lanes out", n)
}

// Package wireguard does the work of package pipeline through wireguard-go's
// own packages: its segmentation and coalescing (tun), its joining and
// splitting of datagrams (conn), its table of networks (device), its replay
// filter, and one call of an AEAD a packet.
//
// All of it runs in one goroutine on buffers that stay where they are: the
// queues between wireguard-go's goroutines, its buffer pools, timers and
// allocations are left out, which is to its advantage.
package wireguard

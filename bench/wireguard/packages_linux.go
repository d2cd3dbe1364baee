package wireguard

import (
	"net"
	"unsafe"

	"golang.org/x/net/ipv6"
	"golang.zx2c4.com/wireguard/conn"
	_ "golang.zx2c4.com/wireguard/tun" // what the names below are of
)

// The steps that wireguard-go's packages keep to themselves, by the linker's
// names, so that what is measured is their code and no likeness of it.

// handleVirtioRead takes what the device gave apart into one buffer a packet.
//
//go:linkname handleVirtioRead golang.zx2c4.com/wireguard/tun.handleVirtioRead
func handleVirtioRead(in []byte, bufs [][]byte, sizes []int, offset int) (int, error)

// handleGRO joins packets into the first of their buffers.
//
//go:linkname handleGRO golang.zx2c4.com/wireguard/tun.handleGRO
func handleGRO(bufs [][]byte, offset int, tcp, udp unsafe.Pointer, canUDPGRO bool, toWrite *[]int) error

//go:linkname newTCPGROTable golang.zx2c4.com/wireguard/tun.newTCPGROTable
func newTCPGROTable() unsafe.Pointer

//go:linkname newUDPGROTable golang.zx2c4.com/wireguard/tun.newUDPGROTable
func newUDPGROTable() unsafe.Pointer

//go:linkname resetTCP golang.zx2c4.com/wireguard/tun.(*tcpGROTable).reset
func resetTCP(unsafe.Pointer)

//go:linkname resetUDP golang.zx2c4.com/wireguard/tun.(*udpGROTable).reset
func resetUDP(unsafe.Pointer)

// coalesceMessages joins datagrams into the buffer of the first.
//
//go:linkname coalesceMessages golang.zx2c4.com/wireguard/conn.coalesceMessages
func coalesceMessages(addr *net.UDPAddr, ep *conn.StdNetEndpoint, bufs [][]byte, msgs []ipv6.Message, setGSO func(*[]byte, uint16)) int

// splitCoalescedMessages takes joined datagrams apart into one buffer each.
//
//go:linkname splitCoalescedMessages golang.zx2c4.com/wireguard/conn.splitCoalescedMessages
func splitCoalescedMessages(msgs []ipv6.Message, firstMsgAt int, getGSO func([]byte) (int, error)) (int, error)

//go:linkname setGSOSize golang.zx2c4.com/wireguard/conn.setGSOSize
func setGSOSize(control *[]byte, gsoSize uint16)

//go:linkname getGSOSize golang.zx2c4.com/wireguard/conn.getGSOSize
func getGSOSize(control []byte) (int, error)

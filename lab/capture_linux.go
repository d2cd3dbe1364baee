package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"culvert/pcapng"
)

// Capture is a running capture of an interface of a host.
type Capture struct {
	host   *Host
	socket packetSocket
	w      io.Writer
	block  []byte // the last one, whose room the next one takes
	done   chan struct{}
	once   sync.Once

	stats CaptureStats
	err   error // of the writer; both to be read after done
}

// packetSocket is an AF_PACKET socket. The file is the same descriptor, known to
// the runtime's poller, and owns it.
type packetSocket struct {
	fd   int
	file *os.File
}

// Capture writes what passes an interface, both ways, to w as pcapng. Everything
// from its return to the call of Stop, which must follow before w is read, is in
// it. Runs of segments appear whole, as the kernel hands them on, and checksums
// that the kernel leaves to the interface are unfinished.
func (h *Host) Capture(iface string, w io.Writer) (*Capture, error) {
	c := &Capture{host: h, w: w, done: make(chan struct{})}
	if _, err := w.Write(pcapng.AppendInterface(pcapng.AppendSection(nil), pcapng.Ethernet, iface)); err != nil {
		return nil, fmt.Errorf("lab: capture: %w", err)
	}
	if err := h.Do(func() error { return c.socket.open(iface) }); err != nil {
		return nil, fmt.Errorf("lab: capture %s on %s: %w", iface, h.Name, err)
	}
	if err := h.lab.adopt(c); err != nil {
		c.socket.file.Close()
		return nil, err
	}
	go c.run()
	return c, nil
}

func (s *packetSocket) open(iface string) error {
	nic, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	// Protocol 0 receives nothing until the bind names the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: nic.Index}); err != nil {
		unix.Close(fd)
		return err
	}
	s.fd, s.file = fd, os.NewFile(uintptr(fd), "packet socket")
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (c *Capture) run() {
	defer close(c.done)
	buf := make([]byte, 1<<17)
	for c.err == nil {
		n, err := c.socket.file.Read(buf)
		if err != nil {
			break // Stop's deadline
		}
		c.write(buf[:n])
	}
	for c.err == nil { // what had arrived by then
		n, _, err := unix.Recvfrom(c.socket.fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			break
		}
		c.write(buf[:n])
	}
}

func (c *Capture) write(frame []byte) {
	p := pcapng.Packet{Time: time.Now().UnixNano()}
	c.block = p.Append(c.block[:0], frame)
	_, c.err = c.w.Write(c.block)
	c.stats.Packets++
}

// Stop ends the capture, and may be called again. The error is the writer's.
func (c *Capture) Stop() (CaptureStats, error) {
	c.once.Do(func() {
		c.socket.file.SetReadDeadline(time.Unix(1, 0))
		<-c.done
		if s, err := unix.GetsockoptTpacketStats(c.socket.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			c.stats.Dropped = int(s.Drops)
		}
		c.socket.file.Close()
		c.host.lab.disown(c)
	})
	return c.stats, c.err
}

func (c *Capture) halt() error {
	_, err := c.Stop()
	return err
}

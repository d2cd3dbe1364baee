package tun

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"culvert/patience"
)

const devicePath = "/dev/net/tun"

// Open makes a TUN device of the given name and MTU (in bytes) in the network
// namespace of the calling thread. The device is down until SetUp. On macOS,
// where devices are called utunN, any other name takes the next free one; ask
// Device.Name. Missing rights come back as an error that says what to do and
// wraps fs.ErrPermission or fs.ErrNotExist.
func Open(name string, mtu int) (Device, error) {
	if _, err := os.Stat(devicePath); err != nil {
		return nil, openError(name, err)
	}
	wg, err := create(name, mtu, 0)
	if err != nil {
		return nil, openError(name, err)
	}
	return adopt(wg)
}

// OpenPrepared opens a persistent TUN device that is there already and changes
// nothing about it. Its owner needs no rights for that: see ip-tuntap(8), with
// user and vnet_hdr. Errors are those of Open.
func OpenPrepared(name string) (Device, error) {
	if _, err := net.InterfaceByName(name); err != nil { // opening would make one
		return nil, fmt.Errorf("open TUN device %s: %w: make it beforehand: ip tuntap add dev %s mode tun user UID vnet_hdr", name, err, name)
	}
	return openUnmonitored(name, 0)
}

// OpenQueues makes a TUN device as Open does, with so many queues, 1 or more: the
// kernel keeps a flow in one of them, that in which its answers come if there is
// one. The first stands for the device, the others say nothing of its changes.
func OpenQueues(name string, mtu, queues int) ([]Device, error) {
	if queues <= 1 {
		return one(Open(name, mtu))
	}
	first, err := create(name, mtu, unix.IFF_MULTI_QUEUE)
	if err != nil {
		return nil, openError(name, err)
	}
	d, err := adopt(first)
	if err != nil {
		return nil, err
	}
	return moreQueues(d, queues)
}

// OpenPreparedQueues is OpenPrepared for a device that was made with several
// queues (ip-tuntap(8): multi_queue).
func OpenPreparedQueues(name string, queues int) ([]Device, error) {
	if queues <= 1 {
		return one(OpenPrepared(name))
	}
	if _, err := net.InterfaceByName(name); err != nil {
		return one(OpenPrepared(name)) // which says what is wrong
	}
	d, err := openUnmonitored(name, unix.IFF_MULTI_QUEUE)
	if errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("%w; several lanes need one made with: ip tuntap add dev %s mode tun user UID vnet_hdr multi_queue", err, name)
	}
	if err != nil {
		return nil, err
	}
	return moreQueues(d, queues)
}

func moreQueues(first Device, queues int) ([]Device, error) {
	all := []Device{first}
	for len(all) < queues {
		d, err := openUnmonitored(first.Name(), unix.IFF_MULTI_QUEUE)
		if err != nil {
			for _, d := range all {
				_ = d.Close()
			}
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// create makes a device, which the wireguard package watches from then on. Its file
// is not marked non-blocking yet, so that Go's poller is not told of it.
func create(name string, mtu int, flags uint16) (tunnel, error) {
	f, err := openFile(name, flags)
	if err != nil {
		return nil, err
	}
	return wgtun.CreateTUNFromFile(f, mtu)
}

func openUnmonitored(name string, flags uint16) (Device, error) {
	f, err := openFile(name, flags)
	if err != nil {
		return nil, openError(name, err)
	}
	return adopt(&unmonitored{file: f, name: name, events: make(chan wgtun.Event)})
}

// unmonitored is a tunnel of whose changes nothing is told.
type unmonitored struct {
	file   *os.File
	name   string
	events chan wgtun.Event
}

func (u *unmonitored) Name() (string, error)      { return u.name, nil }
func (u *unmonitored) File() *os.File             { return u.file }
func (u *unmonitored) Events() <-chan wgtun.Event { return u.events }

func (u *unmonitored) Close() error {
	close(u.events)
	return u.file.Close()
}

func openFile(name string, flags uint16) (*os.File, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), devicePath), nil
}

// openError adds what to do about it.
func openError(name string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EBUSY):
		hint = ": another process has a device of this name; give this gateway another, such as device = \"culvert1\""
	case errors.Is(err, unix.EINVAL):
		hint = ": a device of this name but another kind exists, or the name is longer than 15 bytes"
	}
	return fmt.Errorf("open TUN device %s: %w%s", name, err, hint)
}

func adopt(wg tunnel) (Device, error) {
	// A socket remembers the network namespace that it was made in, and who
	// asks for the MTU later may be in another.
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		discard(wg)
		return nil, err
	}
	release := func() { unix.Close(sock) }
	door, prefix, offload, err := prepare(wg.File())
	if err != nil {
		discard(wg)
		release()
		return nil, fmt.Errorf("adopt TUN device: %w", err)
	}
	return newFileDevice(wg, door, prefix, offload, func() (int, error) { return linkMTU(sock, wg) }, release)
}

func linkMTU(sock int, wg tunnel) (int, error) {
	name, err := wg.Name()
	if err != nil {
		return 0, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(sock, unix.SIOCGIFMTU, ifr); err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

// prepare finds out whether the file has a virtio header, switches on the runs
// that the kernel knows, and makes a door of it.
func prepare(f *os.File) (door *patience.Door, prefix int, offload Offload, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, 0, Offload{}, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		if prefix, offload, err = negotiate(int(fd)); err != nil {
			return
		}
		if err = unix.SetNonblock(int(fd), true); err != nil {
			return
		}
		door, err = patience.NewDoor(int(fd))
	})
	return door, prefix, offload, errors.Join(controlErr, err)
}

func negotiate(fd int) (int, Offload, error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return 0, Offload{}, err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return 0, Offload{}, err
	}
	flags := ifr.Uint16()
	if flags&unix.IFF_TUN == 0 {
		return 0, Offload{}, errors.New("not a TUN device")
	}
	if flags&unix.IFF_VNET_HDR == 0 {
		return 0, Offload{}, nil
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, virtioLen); err != nil {
		return 0, Offload{}, err
	}
	offload, err := chooseOffload(func(flags int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags) })
	return virtioLen, offload, err
}

// chooseOffload switches on the runs that the kernel knows: UDP's since Linux
// 6.2.
func chooseOffload(set func(flags int) error) (Offload, error) {
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if set(tcp|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return Offload{TCP: true, UDP: true}, nil
	}
	if err := set(tcp); err != nil {
		return Offload{}, err
	}
	return Offload{TCP: true}, nil
}

func decodePrefix(b []byte, prefix int) (Super, error) {
	if prefix == 0 {
		return Super{Packet: b}, nil
	}
	return decodeVirtio(b)
}

// readFile and gather.write bypass the scheduler's bookkeeping of system
// calls, which is allowed because the descriptor never blocks.
func readFile(fd int, b []byte) (int, error) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, errAgain
		default:
			return 0, e
		}
	}
}

// errAgain is an error value made once: an Errno put into an interface may
// allocate.
var errAgain error = unix.EAGAIN

// gather is one writev: header, packet, and the pieces behind it.
type gather struct {
	virtio [virtioLen]byte
	iov    [1 + maxRunPackets]unix.Iovec // header, first packet, payloads of the others
	n      int
}

func (g *gather) load(s Super, prefix int) error {
	g.n = 0
	if len(s.Packet) == 0 || len(s.Rest) >= maxRunPackets {
		return ErrTruncated
	}
	if prefix > 0 {
		if err := encodeVirtio(&g.virtio, s); err != nil {
			return err
		}
		g.add(g.virtio[:])
	}
	g.add(s.Packet)
	for _, b := range s.Rest {
		if len(b) > 0 {
			g.add(b)
		}
	}
	return nil
}

func (g *gather) add(b []byte) {
	g.iov[g.n].Base = &b[0]
	g.iov[g.n].SetLen(len(b))
	g.n++
}

func (g *gather) write(fd int) error {
	for {
		_, _, e := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&g.iov[0])), uintptr(g.n))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// isGone: the interface was deleted while its file is open.
func isGone(err error) bool { return errors.Is(err, unix.EBADFD) }

package tun

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestChooseOffload: a kernel without UDP runs is asked for TCP's alone, and one
// that refuses those too is no device for us.
func TestChooseOffload(t *testing.T) {
	const tcp, udp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	for _, c := range []struct {
		knows   int
		offload Offload
		err     error
	}{
		{tcp | udp, Offload{TCP: true, UDP: true}, nil},
		{tcp, Offload{TCP: true}, nil},
		{unix.TUN_F_CSUM, Offload{}, unix.EINVAL},
	} {
		set := 0
		offload, err := chooseOffload(func(flags int) error {
			if flags&^c.knows != 0 {
				return unix.EINVAL
			}
			set = flags
			return nil
		})
		if offload != c.offload || err != c.err {
			t.Errorf("kernel with %#x: %v, %v; want %v, %v", c.knows, offload, err, c.offload, c.err)
		}
		if got := (Offload{TCP: set&tcp == tcp, UDP: set&udp == udp}); got != offload {
			t.Errorf("kernel with %#x: %v switched on, %v said", c.knows, got, offload)
		}
	}
}

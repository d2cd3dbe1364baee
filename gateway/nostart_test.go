package gateway

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"culvert/config"
)

// TestNoStart: what the system refuses a gateway, at its own doors, is said with
// what to do and with the line that asks for it.
func TestNoStart(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	for _, c := range []struct {
		name, local string
		port        int
		want        []string
	}{
		{"port taken", "127.0.0.1", port, []string{fmt.Sprintf("UDP port %d of 127.0.0.1 is taken", port), "line 3 of a.toml (`ike_port`)", "ss -lunp", "address already in use"}},
		{"address of the NAT", "192.0.2.77", port, []string{"no interface of this machine has that address", "line 2 of a.toml (`local`)", "the public address is the NAT's"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := noStartConfig(t, fmt.Sprintf("[gateway]\nlocal = %q\nike_port = %d\n", c.local, c.port))
			g, err := New(cfg, Options{})
			if g != nil || err == nil {
				t.Fatalf("it starts: %v", err)
			}
			wantWords(t, err, c.want...)
		})
	}
	t.Run("device", func(t *testing.T) {
		cfg := noStartConfig(t, "")
		_, missing := os.Stat("/dev/net/no-tun-at-all")
		wantWords(t, noDevice(cfg, fmt.Errorf("open: %w", missing)), "TUN device culvert0", "modprobe tun")
		denied := noDevice(cfg, os.NewSyscallError("ioctl", syscall.EPERM))
		wantWords(t, denied, "CAP_NET_ADMIN", "operation not permitted")
		if !errors.Is(denied, syscall.EPERM) {
			t.Error("it hides what the system said")
		}
		if other := errors.New("something else"); noDevice(cfg, other) != other {
			t.Error("it changes an error that it does not know")
		}
	})
}

func noStartConfig(t *testing.T, head string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("a.toml", []byte(head+textA), config.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

package bench

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"debug/buildinfo"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"culvert/lab"
)

const (
	wireGuardModule = "golang.zx2c4.com/wireguard"
	wireGuardDevice = "wg0"
	wireGuardPort   = 51820
	wireGuardMTU    = 1420 // as wg-quick sets it for a path of 1500 bytes
)

// WireGuardInstalled is the path of an installed wireguard-go.
func WireGuardInstalled() (string, error) {
	path, err := exec.LookPath("wireguard-go")
	if err != nil {
		return "", errors.New("no wireguard-go here: apt-get install --no-install-recommends wireguard-go")
	}
	return path, nil
}

// WireGuard runs wireguard-go, the program as its authors wrote it, on both
// gateways, set up through its control socket.
func WireGuard(binary string) System {
	return System{Name: "wireguard-go", Version: programVersion(binary), Start: func(ctx context.Context, s *lab.SiteToSite) (func() string, error) {
		keyA, errA := ecdh.X25519().GenerateKey(rand.Reader)
		keyB, errB := ecdh.X25519().GenerateKey(rand.Reader)
		if err := errors.Join(errA, errB); err != nil {
			return nil, err
		}
		log := new(lab.Log)
		a := wireGuard{binary, s.GatewayA, keyA, keyB.PublicKey(), netip.AddrPort{}, lab.LANB}
		b := wireGuard{binary, s.GatewayB, keyB, keyA.PublicKey(), netip.AddrPortFrom(lab.GatewayAAddr, wireGuardPort), lab.LANA}
		for _, end := range []wireGuard{a, b} {
			if err := end.start(ctx, log); err != nil {
				return nil, fmt.Errorf("wireguard-go on %s: %w\n%s", end.host.Name, err, log)
			}
		}
		return log.String, nil
	}}
}

// programVersion is that of the module which a Go program is of, "" where it
// does not say.
func programVersion(binary string) string {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return ""
	}
	return info.Main.Version
}

// wireGuard is one gateway.
type wireGuard struct {
	binary string
	host   *lab.Host
	key    *ecdh.PrivateKey
	peer   *ecdh.PublicKey
	at     netip.AddrPort // of the peer; none of one that is behind a NAT
	remote netip.Prefix
}

func (w *wireGuard) start(ctx context.Context, log *lab.Log) error {
	const run = "/var/run" // where the program makes its control socket
	dir, err := filepath.EvalSymlinks(run)
	if err != nil {
		return err
	}
	p := w.host.Command(ctx, w.binary, "-f", wireGuardDevice)
	p.Env = []string{"LOG_LEVEL=error"}
	p.Mounts = []lab.Mount{{Target: dir}}
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		return err
	}
	socket := fmt.Sprintf("/proc/%d/root%s/wireguard/%s.sock", p.Pid(), dir, wireGuardDevice)
	if err := w.configure(ctx, socket); err != nil {
		return err
	}
	return w.host.Attach(wireGuardDevice, wireGuardMTU, w.remote)
}

// controlTime bounds the wait for the control socket and its answer.
const controlTime = 10 * time.Second

func (w *wireGuard) configure(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := fmt.Fprintf(conn, "set=1\n%s\n", w.settings()); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && answer != "errno=0\n" {
		err = fmt.Errorf("the settings are refused: %s", answer)
	}
	return err
}

// settings are the lines of https://www.wireguard.com/xplatform/.
func (w *wireGuard) settings() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%x\nlisten_port=%d\n", w.key.Bytes(), wireGuardPort)
	fmt.Fprintf(&b, "public_key=%x\nallowed_ip=%v\n", w.peer.Bytes(), w.remote)
	if w.at.IsValid() {
		fmt.Fprintf(&b, "endpoint=%v\npersistent_keepalive_interval=25\n", w.at)
	}
	return b.String()
}

// dialUnix connects to a socket that is about to be there.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

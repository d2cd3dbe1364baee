package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"culvert/config"
	"culvert/gateway"
	"culvert/natt"
	"culvert/tun"
)

// The two ends' UDP ports: IKE, and IKE with ESP.
const (
	gatewayIKEPort, gatewayNATTPort = 1500, 14500
	clientIKEPort, clientNATTPort   = 5500, 54500
)

var gatewayAddr = netip.MustParseAddr("127.0.0.1")

// Starter makes the command of a process that calls Serve.
type Starter func(ctx context.Context, peers int) *exec.Cmd

// usage is what the gateway's process has used so far.
type usage struct {
	CPU      time.Duration `json:"cpu"`
	Heap     int64         `json:"heap"`     // bytes that are alive
	Resident int64         `json:"resident"` // bytes
}

// Serve is the gateway's process: it runs until ctx ends, and answers each line
// of questions with its usage. The first answer comes when the gateway runs.
func Serve(ctx context.Context, peers int, questions io.Reader, answers io.Writer) error {
	cfg, err := config.Parse("load.toml", gatewayConfig(peers), config.Lookups{})
	if err != nil {
		return err
	}
	doors, err := loopback(gatewayIKEPort, gatewayNATTPort)
	if err != nil {
		return err
	}
	g, err := gateway.New(cfg, gateway.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Doors: doors})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	for lines := bufio.NewScanner(questions); lines.Scan(); {
		u, err := ownUsage()
		if err == nil {
			err = json.NewEncoder(answers).Encode(u)
		}
		if err != nil {
			return err
		}
	}
	return <-ended
}

func loopback(ikePort, nattPort uint16) (d *gateway.Doors, err error) {
	d = &gateway.Doors{
		Device:    newSilence(),
		LocalAddr: func(netip.Addr) (netip.Addr, error) { return gatewayAddr, nil },
		AddRoute:  func(netip.Prefix, tun.RouteOptions) error { return nil },
		DelRoute:  func(netip.Prefix) error { return nil },
	}
	any4 := netip.IPv4Unspecified()
	if d.IKE, err = natt.Listen(netip.AddrPortFrom(any4, ikePort), natt.Options{}); err != nil {
		return nil, err
	}
	d.NATT, err = natt.Listen(netip.AddrPortFrom(any4, nattPort), natt.Options{NATT: true})
	return d, err
}

func gatewayConfig(peers int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "[gateway]\nike_port = %d\nnatt_port = %d\n", gatewayIKEPort, gatewayNATTPort)
	for i := range peers {
		fmt.Fprintf(&b, "[peer.%s]\nremote = \"any\"\nlocal_id = \"@gateway\"\nremote_id = \"@%[1]s\"\npsk = \"%s\"\ninitiate = false\n", clientName(i), clientKey(i))
		fmt.Fprintf(&b, "[peer.%s.tunnel.t]\nlocal = \"192.168.0.0/16\"\nremote = \"%v/32\"\n", clientName(i), clientInner(i))
	}
	return []byte(b.String())
}

func ownUsage() (u usage, err error) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, err
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	u.Heap = int64(m.HeapAlloc + m.StackInuse)
	u.Resident, err = residentMemory()
	return u, err
}

func residentMemory() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // not Linux
	}
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// served is a running gateway process.
type served struct {
	cmd     *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Reader
}

func startGateway(ctx context.Context, start Starter, peers int) (*served, error) {
	s := &served{cmd: start(ctx, peers)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.ask, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.answers = bufio.NewReader(out)
	return s, s.cmd.Start()
}

func (s *served) usage() (u usage, err error) {
	if _, err = fmt.Fprintln(s.ask, "usage"); err != nil {
		return u, fmt.Errorf("the gateway's process: %w", err)
	}
	line, err := s.answers.ReadBytes('\n')
	if err != nil {
		return u, fmt.Errorf("the gateway's process has ended: %w", err)
	}
	return u, json.Unmarshal(line, &u)
}

func (s *served) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

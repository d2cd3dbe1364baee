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
	"path/filepath"
	"runtime"
	"runtime/pprof"
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
type Starter func(context.Context, Served) *exec.Cmd

// Served says what gateway Serve is.
type Served struct {
	Peers int
	// PostQuantum is what the gateway's peers are configured with: off or prefer.
	PostQuantum string
	// TicketKey is the file of the key that outlives the gateway; empty: none, so
	// that a new gateway knows nothing of what the old one promised.
	TicketKey string
	// Profile is a folder for cpu.pprof, of the handshakes, and heap.pprof, of
	// the idle tunnels. Empty: neither is written.
	Profile string
}

// usage is what the gateway's process has used so far.
type usage struct {
	CPU      time.Duration `json:"cpu"`      // when it was asked
	After    time.Duration `json:"after"`    // with what the answer took: collecting garbage
	Heap     int64         `json:"heap"`     // bytes that are alive
	Resident int64         `json:"resident"` // bytes

	// Parse, Reload and Status are times, of the answer to "operate".
	Parse  time.Duration `json:"parse"`
	Reload time.Duration `json:"reload"`
	Status time.Duration `json:"status"`
}

// Serve is the gateway's process: it runs until ctx ends, and answers each line
// of questions with its usage. The first answer comes when the gateway runs.
func Serve(ctx context.Context, s Served, questions io.Reader, answers io.Writer) error {
	cfg, err := config.Parse("load.toml", gatewayConfig(s), config.Lookups{})
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
	for up := false; !up; _, up = g.Status() {
		time.Sleep(time.Millisecond)
	}
	p := profile{folder: s.Profile}
	for lines := bufio.NewScanner(questions); lines.Scan(); {
		u, err := ownUsage()
		if err == nil {
			err = p.next()
		}
		if err == nil && lines.Text() == "operate" {
			err = u.operate(g, s)
		}
		if err == nil {
			err = json.NewEncoder(answers).Encode(u)
		}
		if err != nil {
			return err
		}
	}
	return <-ended
}

// operate has the gateway do what an operator does with all its peers at once.
func (u *usage) operate(g *gateway.Gateway, s Served) error {
	begun := time.Now()
	cfg, err := config.Parse("load.toml", gatewayConfig(s), config.Lookups{})
	if err != nil {
		return err
	}
	u.Parse, begun = time.Since(begun), time.Now()
	r, err := g.Reload(cfg)
	u.Reload, begun = time.Since(begun), time.Now()
	if err == nil && len(r.Unchanged) != s.Peers {
		err = fmt.Errorf("the same configuration again: %v", r)
	}
	_, _ = g.Status()
	u.Status = time.Since(begun)
	return err
}

// profile writes the profiles of the time between the first two questions.
type profile struct {
	folder string
	cpu    *os.File
	done   bool
}

func (p *profile) next() (err error) {
	switch {
	case p.folder == "" || p.done:
		return nil
	case p.cpu == nil:
		if p.cpu, err = os.Create(filepath.Join(p.folder, "cpu.pprof")); err != nil {
			return err
		}
		return pprof.StartCPUProfile(p.cpu)
	}
	p.done = true
	pprof.StopCPUProfile()
	heap, err := os.Create(filepath.Join(p.folder, "heap.pprof"))
	if err != nil {
		return err
	}
	return errors.Join(p.cpu.Close(), pprof.Lookup("heap").WriteTo(heap, 0), heap.Close())
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

func gatewayConfig(s Served) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "[gateway]\nike_port = %d\nnatt_port = %d\n", gatewayIKEPort, gatewayNATTPort)
	if s.TicketKey != "" {
		fmt.Fprintf(&b, "resumption_key_file = %q\n", s.TicketKey)
	}
	for i := range s.Peers {
		fmt.Fprintf(&b, "[peer.%s]\nremote = \"any\"\nlocal_id = \"@gateway\"\nremote_id = \"@%[1]s\"\npsk = \"%s\"\ninitiate = false\npost_quantum = %q\n",
			clientName(i), clientKey(i), s.PostQuantum)
		fmt.Fprintf(&b, "[peer.%s.tunnel.t]\nlocal = \"192.168.0.0/16\"\nremote = \"%v/32\"\n", clientName(i), clientInner(i))
	}
	return []byte(b.String())
}

func ownUsage() (u usage, err error) {
	if u.CPU, err = processorTime(); err != nil {
		return u, err
	}
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap = int64(m.HeapAlloc + m.StackInuse)
	if u.Resident, err = residentMemory(); err != nil {
		return u, err
	}
	u.After, err = processorTime()
	return u, err
}

func processorTime() (time.Duration, error) {
	var r syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), err
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

func startGateway(ctx context.Context, start Starter, what Served) (*served, error) {
	s := &served{cmd: start(ctx, what)}
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

func (s *served) usage() (usage, error) { return s.answer("usage") }

func (s *served) answer(question string) (u usage, err error) {
	if _, err = fmt.Fprintln(s.ask, question); err != nil {
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

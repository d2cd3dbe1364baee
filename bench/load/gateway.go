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

// asGateway is the variable of the environment that makes a process the gateway's:
// its served, in JSON.
const asGateway = "CULVERT_LOAD_GATEWAY"

// served says what the gateway's process is.
type served struct {
	Peers       int
	PostQuantum string
	// TicketKey is the file of the key that outlives the gateway; empty: none.
	TicketKey string
	// Profile is a folder for the gateway's profiles; empty: none.
	Profile string
}

// ServeIfAsked makes this process the gateway if Run started it for that, and
// does not return then. A program that calls Run calls it first.
func ServeIfAsked() {
	asked, ok := os.LookupEnv(asGateway)
	if !ok {
		return
	}
	var s served
	err := json.Unmarshal([]byte(asked), &s)
	if err == nil {
		err = s.serve(context.Background(), os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the gateway's process:", err)
		os.Exit(1)
	}
	os.Exit(0)
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

// serve is the gateway's process: it answers each line of questions with its usage,
// the first when the gateway runs, and ends with them.
func (s served) serve(ctx context.Context, questions io.Reader, answers io.Writer) error {
	cfg, err := config.Parse("load.toml", s.config(), config.Lookups{})
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
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	p := profile{folder: s.Profile, method: s.PostQuantum}
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
	return nil
}

// operate has the gateway do what an operator does with all its peers at once.
func (u *usage) operate(g *gateway.Gateway, s served) error {
	begun := time.Now()
	cfg, err := config.Parse("load.toml", s.config(), config.Lookups{})
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
	folder, method string
	stop           func() error
	done           bool
}

func (p *profile) next() (err error) {
	switch {
	case p.folder == "" || p.done:
		return nil
	case p.stop == nil:
		p.stop, err = profileProcessor(p.folder, p.method+"-gateway.pprof")
		return err
	}
	p.done = true
	heap, err := os.Create(filepath.Join(p.folder, p.method+"-heap.pprof"))
	if err != nil {
		return err
	}
	return errors.Join(p.stop(), pprof.Lookup("heap").WriteTo(heap, 0), heap.Close())
}

// profileProcessor writes what this process spends its time on, until stop.
// Without a folder it does nothing.
func profileProcessor(folder, name string) (stop func() error, err error) {
	if folder == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	stop = func() error { pprof.StopCPUProfile(); return f.Close() }
	return stop, pprof.StartCPUProfile(f)
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

func (s served) config() []byte {
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

// process is a running gateway process.
type process struct {
	cmd     *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Reader
}

// start runs this program once more, as the gateway.
func (s served) start(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self)}
	p.cmd.Env = append(os.Environ(), asGateway+"="+string(asked))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.ask, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	p.answers = bufio.NewReader(out)
	return p, p.cmd.Start()
}

func (p *process) usage() (usage, error) { return p.answer("usage") }

func (p *process) answer(question string) (u usage, err error) {
	if _, err = fmt.Fprintln(p.ask, question); err != nil {
		return u, fmt.Errorf("the gateway's process: %w", err)
	}
	line, err := p.answers.ReadBytes('\n')
	if err != nil {
		return u, fmt.Errorf("the gateway's process has ended: %w", err)
	}
	return u, json.Unmarshal(line, &u)
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

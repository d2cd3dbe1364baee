// Package load measures one gateway with very many peers: how many handshakes
// a second it makes, how much memory an idle tunnel takes, and how long all
// peers need to come back after it was killed.
//
//	load generator (Run)                      the gateway (ServeIfAsked)
//	one IKE engine, N configured peers        a process of its own: package gateway
//	127.1.x.y:5500 and :54500   <-loopback->  127.0.0.1:1500 and :14500
//
// Each client has an address, an identity and a key of its own. The gateway is
// what `culvert up` runs, with UDP sockets of the system and a device without a
// kernel, so that no rights are needed; it formats its log, and throws it away.
package load

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Options say how many peers, how they come, and what is measured.
type Options struct {
	Peers  int // up to MaxPeers
	Window int // handshakes under way at once
	// PostQuantum is what the gateway's peers are configured with: "off" leaves
	// X25519 alone, "prefer" adds ML-KEM-768.
	PostQuantum string
	// Restarts are measured one after the other, each with all tunnels up.
	Restarts []Restart
	// DPD is the silence after which a client asks whether the gateway lives; 0:
	// the default, 30 s.
	DPD time.Duration
	// Traffic is how often each client sends an ESP packet while it waits for a
	// killed gateway; 0: never, its tunnel is idle.
	Traffic time.Duration
	// Profile is a folder for the profiles METHOD-gateway.pprof, of the handshakes,
	// METHOD-clients.pprof, of the clients meanwhile, and METHOD-heap.pprof, of the
	// gateway's idle tunnels; METHOD is PostQuantum. Empty: none is written.
	Profile  string
	Progress func(string) // told of every step; may be nil
}

// Restart says what a gateway that was killed has kept: the key of its tickets
// and tokens (resumption_key_file), or nothing.
type Restart string

// The restarts.
const (
	WithTickets Restart = "tickets"
	Forgetful   Restart = "none"
)

// MaxPeers is what the clients' addresses allow.
const MaxPeers = 1 << 16

// Result is what Run measures.
type Result struct {
	Peers       int    `json:"peers"`
	PostQuantum string `json:"post_quantum"`
	// Establish is the time from the first IKE_SA_INIT until every tunnel was
	// up, CPU what the gateway's process used of the processors in it. Median and
	// Slow (the 99th of 100) are of one tunnel's time, as its client sees it.
	Establish time.Duration `json:"establish_ns"`
	CPU       time.Duration `json:"gateway_cpu_ns"`
	Median    time.Duration `json:"median_ns"`
	Slow      time.Duration `json:"p99_ns"`
	// Heap is the gateway's live heap in bytes that the tunnels added, Resident
	// what its resident memory grew by.
	Heap     int64 `json:"heap_bytes"`
	Resident int64 `json:"resident_bytes"`
	// Configured is the gateway's live heap before any tunnel was up: what it
	// keeps of all peers' configuration.
	Configured int64 `json:"configured_bytes"`
	// Parse, Reload and Status are the times of reading the configuration, taking
	// it over when nothing has changed, and saying how all peers are.
	Parse    time.Duration `json:"parse_ns"`
	Reload   time.Duration `json:"reload_ns"`
	Status   time.Duration `json:"status_ns"`
	Restarts []Return      `json:"restarts"`
}

// Return is how all peers came back to a gateway that was killed. Time begins
// when the new one runs and ends when every tunnel is up; Half is when half of
// them are. CPU is the new gateway's. Resumed of the peers had a ticket.
type Return struct {
	Kept    Restart       `json:"kept"`
	Time    time.Duration `json:"time_ns"`
	Half    time.Duration `json:"half_ns"`
	CPU     time.Duration `json:"gateway_cpu_ns"`
	Resumed int           `json:"resumed"`
}

// PerSecond is the number of full handshakes a second, and per second of the
// gateway's processor time: one core's worth.
func (r Result) PerSecond() (wall, core float64) {
	return float64(r.Peers) / r.Establish.Seconds(), float64(r.Peers) / r.CPU.Seconds()
}

// HeapPerTunnel is in bytes: an established IKE SA with one child SA.
func (r Result) HeapPerTunnel() int64 { return r.Heap / int64(r.Peers) }

// ConfiguredPerPeer is in bytes.
func (r Result) ConfiguredPerPeer() int64 { return r.Configured / int64(r.Peers) }

// ResidentPerTunnel is in bytes.
func (r Result) ResidentPerTunnel() int64 { return r.Resident / int64(r.Peers) }

// Run measures once. The gateway is this program once more, which is why it has
// to call ServeIfAsked first.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Peers < 1 || o.Peers > MaxPeers {
		return Result{}, fmt.Errorf("%d peers: 1 to %d are possible", o.Peers, MaxPeers)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	folder, err := os.MkdirTemp("", "culvert-load-")
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	m := measurement{
		Options: o,
		served:  served{Peers: o.Peers, PostQuantum: o.PostQuantum, TicketKey: filepath.Join(folder, "tickets.key"), Profile: o.Profile},
		result:  Result{Peers: o.Peers, PostQuantum: o.PostQuantum},
	}
	defer m.close()
	err = m.measure(ctx)
	return m.result, err
}

// measurement is a run under way.
type measurement struct {
	Options
	served  served
	gateway *process
	before  usage // of the gateway, when it began to run
	clients *clients
	result  Result
}

func (m *measurement) close() {
	if m.gateway != nil {
		m.gateway.kill()
	}
	if m.clients != nil {
		m.clients.close()
	}
}

func (m *measurement) say(format string, args ...any) { m.Progress(fmt.Sprintf(format, args...)) }

func (m *measurement) measure(ctx context.Context) (err error) {
	if err = m.start(ctx); err != nil {
		return err
	}
	if m.clients, err = newClients(m.Options); err != nil {
		return err
	}
	if err = m.establish(ctx); err != nil {
		return err
	}
	if err = m.operate(); err != nil {
		return err
	}
	for _, kept := range m.Options.Restarts {
		if err = m.restart(ctx, kept); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) start(ctx context.Context) (err error) {
	m.say("starting a gateway with %d peers, post_quantum = %q", m.Peers, m.PostQuantum)
	if m.gateway, err = m.served.start(ctx); err == nil {
		m.before, err = m.gateway.usage()
	}
	return err
}

func (m *measurement) establish(ctx context.Context) (err error) {
	r := &m.result
	stop, err := profileProcessor(m.Profile, m.PostQuantum+"-clients.pprof")
	if err != nil {
		return err
	}
	if r.Establish, err = m.clients.connect(ctx); err != nil {
		return err
	}
	if err = stop(); err != nil {
		return err
	}
	after, err := m.gateway.usage()
	if err != nil {
		return err
	}
	r.CPU, r.Heap, r.Resident = after.CPU-m.before.After, after.Heap-m.before.Heap, after.Resident-m.before.Resident
	r.Configured = m.before.Heap
	r.Median, r.Slow = m.clients.percentile(50), m.clients.percentile(99)
	m.say("%d tunnels in %v", m.Peers, r.Establish.Round(time.Millisecond))
	return nil
}

func (m *measurement) operate() error {
	u, err := m.gateway.answer("operate")
	m.result.Parse, m.result.Reload, m.result.Status = u.Parse, u.Reload, u.Status
	return err
}

func (m *measurement) restart(ctx context.Context, kept Restart) (err error) {
	m.say("killing the gateway; what it has kept: %s", kept)
	m.gateway.kill()
	if kept == Forgetful {
		if err = os.Remove(m.served.TicketKey); err != nil {
			return err
		}
	}
	m.served.Profile = "" // of the first gateway
	if err = m.start(ctx); err != nil {
		return err
	}
	r := Return{Kept: kept}
	if r.Time, r.Half, err = m.clients.reconnect(ctx); err != nil {
		return err
	}
	after, err := m.gateway.usage()
	r.CPU, r.Resumed = after.CPU-m.before.After, m.clients.resumed
	m.say("all are back after %v, %d of them with a ticket", r.Time.Round(time.Millisecond), r.Resumed)
	m.result.Restarts = append(m.result.Restarts, r)
	return err
}

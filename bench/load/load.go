// Package load measures one gateway with very many peers: how many handshakes
// a second it makes, how much memory an idle tunnel takes, and how long all
// peers need to come back after it was killed.
//
//	load generator (Clients)                  the gateway (Serve)
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
	"time"
)

// Options say how many peers, and how they come.
type Options struct {
	Served
	Window int           // handshakes under way at once
	DPD    time.Duration // the clients' silence before they ask; 0: the engine's default
	// Rounds is how often everything is measured from the start.
	Rounds   int
	Progress func(string) // told of every step; may be nil
}

// MaxPeers is what the clients' addresses allow.
const MaxPeers = 1 << 16

// Result is one round.
type Result struct {
	Peers int `json:"peers"`
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
	// Parse, Reload and Status are the times of reading the configuration, taking
	// it over when nothing has changed, and saying how all peers are.
	Parse  time.Duration `json:"parse_ns"`
	Reload time.Duration `json:"reload_ns"`
	Status time.Duration `json:"status_ns"`
	// Return is the time from when a new gateway runs, after the first was
	// killed, until every tunnel was up again; ReturnCPU is as CPU. Resumed is
	// how many came back with a ticket.
	Return    time.Duration `json:"return_ns"`
	ReturnCPU time.Duration `json:"return_cpu_ns"`
	Resumed   int           `json:"resumed"`
}

// PerSecond is the number of full handshakes a second, and per second of the
// gateway's processor time: one core's worth.
func (r Result) PerSecond() (wall, core float64) {
	return float64(r.Peers) / r.Establish.Seconds(), float64(r.Peers) / r.CPU.Seconds()
}

// HeapPerTunnel is in bytes: an established IKE SA with one child SA.
func (r Result) HeapPerTunnel() int64 { return r.Heap / int64(r.Peers) }

// ResidentPerTunnel is in bytes.
func (r Result) ResidentPerTunnel() int64 { return r.Resident / int64(r.Peers) }

// Run measures. The gateway is a process started by start, which is Serve with
// these arguments.
func Run(ctx context.Context, o Options, start Starter) ([]Result, error) {
	if o.Peers < 1 || o.Peers > MaxPeers {
		return nil, fmt.Errorf("%d peers: 1 to %d are possible", o.Peers, MaxPeers)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var all []Result
	for range max(o.Rounds, 1) {
		r, err := round(ctx, o, start)
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

func round(ctx context.Context, o Options, start Starter) (r Result, err error) {
	r.Peers = o.Peers
	o.Progress(fmt.Sprintf("starting a gateway with %d peers", o.Peers))
	g, err := startGateway(ctx, start, o.Served)
	if err != nil {
		return r, err
	}
	defer func() { g.kill() }()
	before, err := g.usage()
	if err != nil {
		return r, err
	}
	clients, err := newClients(o)
	if err != nil {
		return r, err
	}
	defer clients.close()
	if r.Establish, err = clients.connect(ctx); err != nil {
		return r, err
	}
	after, err := g.usage()
	if err != nil {
		return r, err
	}
	r.CPU, r.Heap, r.Resident = after.CPU-before.After, after.Heap-before.Heap, after.Resident-before.Resident
	r.Median, r.Slow = clients.percentile(50), clients.percentile(99)
	operated, err := g.answer("operate")
	if err != nil {
		return r, err
	}
	r.Parse, r.Reload, r.Status = operated.Parse, operated.Reload, operated.Status
	o.Progress(fmt.Sprintf("%d peers: configuration read in %v, taken over in %v, status in %v", o.Peers, r.Parse, r.Reload, r.Status))
	o.Progress(fmt.Sprintf("%d tunnels in %v; killing the gateway", o.Peers, r.Establish.Round(time.Millisecond)))
	g.kill()
	o.Profile = "" // of the first gateway
	if g, err = startGateway(ctx, start, o.Served); err != nil {
		return r, err
	}
	if before, err = g.usage(); err != nil {
		return r, err
	}
	if r.Return, err = clients.reconnect(ctx); err != nil {
		return r, err
	}
	after, err = g.usage()
	r.ReturnCPU, r.Resumed = after.CPU-before.After, clients.resumed
	o.Progress(fmt.Sprintf("all back after %v, %d of them with a ticket", r.Return.Round(time.Millisecond), r.Resumed))
	return r, err
}

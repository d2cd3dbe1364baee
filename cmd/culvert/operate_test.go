package main

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"culvert/api"
	"culvert/config"
	"culvert/gateway"
	"culvert/lab"
	"culvert/natt/nattest"
)

// gateways are the script's own two, in memory, with what `culvert up` puts
// around them: a control socket beside each file.
func gateways(ts *testscript.TestScript, _ bool, files []string) {
	network, err := nattest.New(nattest.Config{NAT: nattest.OneToOne})
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	ts.Defer(func() {
		stop()
		all.Wait()
		ts.Check(network.Close())
	})
	for i, file := range files {
		host, lan := network.A, lab.HostAAddr
		if i > 0 {
			host, lan = network.B, lab.HostBAddr
		}
		d, control := inMemory(ts, host, lan, ts.MkAbs(file))
		all.Go(func() { _ = control.Serve() })
		all.Go(func() {
			defer func() { _ = control.Close() }()
			if err := d.Run(ctx); err != nil {
				ts.Logf("%s: %v", file, err)
			}
		})
	}
	connected(ts, false, files)
}

func inMemory(ts *testscript.TestScript, host *nattest.Host, lan netip.Addr, file string) (*daemon, *api.Server) {
	cfg, err := config.Load(file)
	ts.Check(err)
	doors, _, err := memoryDoors(host, lan)
	ts.Check(err)
	log := slog.New(slog.DiscardHandler)
	g, err := gateway.New(cfg, gateway.Options{Log: log, Doors: doors})
	ts.Check(err)
	control, err := api.Listen(file + ".sock")
	ts.Check(err)
	d := &daemon{Gateway: g, log: log, file: file}
	d.answer(control)
	return d, control
}

// connected waits until the gateways of these files are up with their first
// peer.
func connected(ts *testscript.TestScript, _ bool, files []string) {
	await(ts, files, "connected", func(p gateway.PeerStatus) bool { return len(p.Children) > 0 })
}

// turnedAway waits until their first peer has said no.
func turnedAway(ts *testscript.TestScript, _ bool, files []string) {
	await(ts, files, "refused", func(p gateway.PeerStatus) bool { return strings.Contains(p.Problem, "refused") })
}

func await(ts *testscript.TestScript, files []string, what string, reached func(gateway.PeerStatus) bool) {
	for _, file := range files {
		ok := false
		for end := time.Now().Add(scriptTime); !ok && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			var s gateway.Status
			ok = api.Get(context.Background(), ts.MkAbs(file)+".sock", "/v1/status", &s) == nil && reached(s.Peers[0])
		}
		if !ok {
			ts.Fatalf("the gateway of %s is not %s after %v", file, what, scriptTime)
		}
	}
}

// scriptTime bounds a script's waits.
const scriptTime = 30 * time.Second

// TestOneLine: a log has a diagnostic in one line.
func TestOneLine(t *testing.T) {
	d := config.Diagnostic{Pos: config.Pos{File: "x.toml", Line: 3, Column: 1}, Message: "wrong", Hint: "one\ntwo"}
	if got := oneLine(d); got != "x.toml:3:1: error: wrong; one two" || strings.Contains(got, "\n") {
		t.Errorf("%q", got)
	}
}

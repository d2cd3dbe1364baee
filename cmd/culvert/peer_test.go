//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/api"
	"culvert/gateway"
	"culvert/lab"
)

// peerNet is the situation with nothing running on its gateways yet.
type peerNet struct {
	*lab.SiteToSite
	t   *testing.T
	dir string
}

// newPeerNet skips with a reason where there can be no namespaces.
func newPeerNet(t *testing.T) *peerNet {
	t.Helper()
	if r := lab.CheckRights(); r.Kind != lab.Direct || r.Device != nil {
		t.Skipf("needs root and /dev/net/tun: %s %v", r.Reason, r.Device)
	}
	net, err := lab.Situation("culvert-test-", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := net.Close(); err != nil {
			t.Errorf("closing the lab: %v", err)
		}
	})
	return &peerNet{SiteToSite: net, t: t, dir: t.TempDir()}
}

// culvertProcess is a running `culvert up`.
type culvertProcess struct {
	*lab.Process
	t      *testing.T
	socket string
	log    logBuffer
}

// culvert starts the command on a host with a configuration in any form.
func (n *peerNet) culvert(h *lab.Host, name, text string, args ...string) *culvertProcess {
	n.t.Helper()
	file := filepath.Join(n.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	p := &culvertProcess{t: n.t, socket: filepath.Join(n.dir, name+".sock")}
	p.Process = h.Command(context.Background(), os.Args[0], append([]string{"up", file, "--log", "json", "--socket", p.socket}, args...)...)
	p.Env = []string{asCulvert + "=1"}
	p.Stderr = &p.log
	if err := p.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = p.Stop()
		if n.t.Failed() {
			n.t.Logf("log of %s:\n%s", name, p.log.String())
		}
	})
	return p
}

// logBuffer collects a gateway's JSON log.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// records are the log's records so far, latest last, that have these values.
func (b *logBuffer) records(match map[string]string) (found []map[string]any) {
	for line := range strings.Lines(b.String()) {
		r := map[string]any{}
		if json.Unmarshal([]byte(line), &r) != nil {
			continue
		}
		all := true
		for k, v := range match {
			all = all && fmt.Sprint(r[k]) == v
		}
		if all {
			found = append(found, r)
		}
	}
	return found
}

// waitTime bounds every wait for something that has to happen.
const waitTime = 30 * time.Second

// eventually polls until done, and fails the test when it is not in time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(waitTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("in %v there was no %s", waitTime, what)
}

// wait returns the first log record with these keys and values ("event",
// "child_up", ...).
func (p *culvertProcess) wait(keyValues ...string) map[string]any {
	p.t.Helper()
	match := map[string]string{}
	for i := 0; i < len(keyValues); i += 2 {
		match[keyValues[i]] = keyValues[i+1]
	}
	eventually(p.t, fmt.Sprintf("log record %v", keyValues), func() bool { return len(p.log.records(match)) > 0 })
	return p.log.records(match)[0]
}

func (p *culvertProcess) status() gateway.Status {
	p.t.Helper()
	var s gateway.Status
	if err := api.Get(context.Background(), p.socket, "/v1/status", &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// reaches pings and moves TCP, both ways, and wants all of it to arrive.
func (n *peerNet) reaches() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTime)
	defer cancel()
	for _, way := range []struct {
		from, to *lab.Host
		dst      func() (stats lab.PingStats, err error)
	}{
		{n.HostB, n.HostA, func() (lab.PingStats, error) {
			return n.HostB.Ping(ctx, lab.HostAAddr, lab.PingOptions{Count: 5, Interval: 10 * time.Millisecond})
		}},
		{n.HostA, n.HostB, func() (lab.PingStats, error) {
			return n.HostA.Ping(ctx, lab.HostBAddr, lab.PingOptions{Count: 5, Interval: 10 * time.Millisecond, Size: 1300})
		}},
	} {
		stats, err := way.dst()
		if err != nil || stats.Lost() > 0 {
			n.t.Fatalf("ping %s -> %s: %+v, %v", way.from.Name, way.to.Name, stats, err)
		}
	}
	if _, err := lab.TCP(ctx, n.HostA, n.HostB, lab.HostBAddr, lab.TCPOptions{Duration: time.Second}); err != nil {
		n.t.Fatal(err)
	}
	if _, err := lab.TCP(ctx, n.HostB, n.HostA, lab.HostAAddr, lab.TCPOptions{Duration: time.Second}); err != nil {
		n.t.Fatal(err)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"culvert/examples"
	"culvert/lab"
)

const demoPicture = `    hosta --------- gateway A ------------- NAT ------------ gateway B --------- hostb
    10.103.0.10     203.0.113.1   192.0.2.10 <-> 172.16.0.1   any        10.104.0.10
                    is 203.0.113.1                            is @foo
`

// labStage is the demo in namespaces: each gateway a process of this program.
type labStage struct {
	net      *lab.SiteToSite
	dir      string
	gateways []*lab.Process
	sockets  []string
}

const demoPrefix = "culvert-demo-"

func newLabStage() (*labStage, error) {
	if _, err := lab.Sweep(demoPrefix); err != nil { // what a killed demo left
		return nil, err
	}
	net, err := lab.Situation(demoPrefix, 1500)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", demoPrefix)
	if err != nil {
		_ = net.Close()
		return nil, err
	}
	return &labStage{net: net, dir: dir}, nil
}

func (s *labStage) describe() string {
	return "a network out of namespaces on this machine:\n\n" + demoPicture
}

func (s *labStage) host(side demoSide) *lab.Host {
	if side.name == "A" {
		return s.net.GatewayA
	}
	return s.net.GatewayB
}

func (s *labStage) start(ctx context.Context, side demoSide, show *demoShow) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, side.file)
	text, err := examples.Files.ReadFile(side.file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	socket := filepath.Join(s.dir, side.name+".sock")
	p := s.host(side).Command(context.WithoutCancel(ctx), self, "up", side.file, "--log", "json", "--socket", socket)
	p.Dir = s.dir
	r, w := io.Pipe()
	p.Stderr = w
	show.step("gateway", fmt.Sprintf("gateway %s: culvert up %s", side.name, side.file))
	if err := p.Start(); err != nil {
		return err
	}
	go follow(r, side.name, show)
	go func() {
		err := p.Wait()
		_ = w.Close()
		if err != nil {
			show.ended(side.name, err)
		}
	}()
	s.gateways, s.sockets = append(s.gateways, p), append(s.sockets, socket)
	return nil
}

// follow shows a gateway's log, and as it is what is not a record of it.
func follow(r io.Reader, side string, show *demoShow) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		attrs := map[string]any{}
		if json.Unmarshal(lines.Bytes(), &attrs) != nil {
			attrs = map[string]any{"msg": lines.Text()}
		}
		show.event(side, attrs)
	}
}

func (s *labStage) ping(ctx context.Context, count int) (lab.PingStats, error) {
	return s.net.HostB.Ping(ctx, lab.HostAAddr, lab.PingOptions{Count: count})
}

func (s *labStage) tcp(ctx context.Context, d time.Duration, progress func(lab.Throughput)) (lab.Throughput, error) {
	return lab.TCP(ctx, s.net.HostA, s.net.HostB, lab.HostBAddr, lab.TCPOptions{Duration: d, Progress: progress})
}

func (s *labStage) enter() []string {
	var lines []string
	for _, h := range []*lab.Host{s.net.HostA, s.net.GatewayA, s.net.NAT, s.net.GatewayB, s.net.HostB} {
		lines = append(lines, fmt.Sprintf("enter %-6s %s", h.Name+":", h.Enter()))
	}
	for i, socket := range s.sockets {
		lines = append(lines, fmt.Sprintf("status of gateway %s: culvert status --socket %s", demoSides[i].name, socket))
	}
	return lines
}

func (s *labStage) stopGateways() error {
	var errs []error
	for i, p := range s.gateways {
		if err := p.Stop(); err != nil {
			errs = append(errs, fmt.Errorf("gateway %s: %w", demoSides[i].name, err))
		}
	}
	s.gateways = nil
	return errors.Join(errs...)
}

func (s *labStage) Close() error {
	return errors.Join(s.stopGateways(), s.net.Close(), os.RemoveAll(s.dir))
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"culvert/api"
	"culvert/config"
	"culvert/gateway"
	"culvert/lab"
	"culvert/natt/nattest"
)

// memoryDaemon is a gateway that is not run.
func memoryDaemon(t *testing.T) *daemon {
	t.Helper()
	network, err := nattest.New(nattest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = network.Close() })
	cfg, err := config.Parse("x.toml", []byte("[peer.office]\nremote = \"any\"\nlocal_id = \"@a\"\nremote_id = \"@b\"\npsk = \"vermilion-aqueduct-7421\"\n[peer.office.tunnel.lan]\nlocal = \"10.1.0.0/24\"\nremote = \"10.2.0.0/24\"\n"), config.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	doors, _, err := memoryDoors(network.A, lab.HostAAddr)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(cfg, gateway.Options{Doors: doors})
	if err != nil {
		t.Fatal(err)
	}
	return &daemon{Gateway: g, log: g.Log()}
}

// slowReader takes what is written when it is told to, and notes that it has
// all.
type slowReader struct {
	take         chan bool
	all          chan bool
	read, missed uint64
	want         uint64
}

func (s *slowReader) Write(b []byte) (int, error) {
	<-s.take
	for line := range strings.Lines(string(b)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return 0, err
		}
		if e.Event == "missed" {
			s.missed += e.Count
			continue
		}
		if s.read++; e.Number != s.read+s.missed {
			return 0, fmt.Errorf("event %d after %d, of which %d are missed", e.Number, s.read+s.missed-1, s.missed)
		}
	}
	if s.read+s.missed == s.want {
		close(s.all)
	}
	return len(b), nil
}

// TestSlowReader: whoever does not read holds nobody up, and hears how much it
// has missed, once it reads again.
func TestSlowReader(t *testing.T) {
	d := memoryDaemon(t)
	d.Log().Info("before", "event", "x")
	const flood = 1000
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &slowReader{take: make(chan bool), all: make(chan bool), want: 1 + flood}
	ended := make(chan error, 1)
	go func() { ended <- d.events(r, w) }()
	w.take <- true // it follows from now on
	for i := range flood {
		d.Log().Info(fmt.Sprint(i), "event", "x")
	}
	close(w.take)
	select {
	case <-w.all:
	case err := <-ended:
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if w.missed == 0 {
		t.Errorf("%d read, none missed", w.read)
	}
}

func TestAskedEvents(t *testing.T) {
	for query, good := range map[string]bool{
		"": true, "follow=false": true, "follow=maybe": false, "since=10m": true, "since=2026-01-02T15:04:05Z": true,
		"since=yesterday": false, "after=17": true, "after=-1": false,
	} {
		r, err := http.NewRequest(http.MethodGet, "/v1/events?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = askedEvents(r.URL.Query())
		var e *api.Error
		if good != (err == nil) || !good && (!errors.As(err, &e) || e.Status != http.StatusBadRequest) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// TestEventsFollow: the command shows what was and what comes, and tells when the
// gateway has ended.
func TestEventsFollow(t *testing.T) {
	d := memoryDaemon(t)
	socket := filepath.Join(t.TempDir(), "s.sock")
	s, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	d.answer(s)
	go func() { _ = s.Serve() }()
	d.Log().Info("before", "event", "x", "peer", "office")
	in, out := io.Pipe()
	cmd := eventsCommand()
	cmd.SetArgs([]string{"--socket", socket, "office"})
	cmd.SetOut(out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	ended := make(chan error, 1)
	go func() { ended <- cmd.Execute(); out.Close() }()
	lines := bufio.NewReader(in)
	for _, want := range []string{"before", "now", "later"} {
		line, err := lines.ReadString('\n')
		var e event
		if err != nil || json.Unmarshal([]byte(line), &e) != nil || e.Message != want || e.Peer != "office" {
			t.Fatalf("%q, %v", line, err)
		}
		d.Log().Info("of another", "event", "x", "peer", "lab")
		d.Log().Warn(map[string]string{"before": "now", "now": "later"}[want], "event", "x", "peer", "office")
	}
	_ = s.Close()
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("it says nothing of the gateway's end")
	}
}

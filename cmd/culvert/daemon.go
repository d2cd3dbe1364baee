package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"culvert/api"
	"culvert/config"
	"culvert/gateway"
)

// daemon is a running gateway as signals and the control socket reach it.
type daemon struct {
	*gateway.Gateway
	log       *slog.Logger
	file      string
	manager   *manager
	reloading sync.Mutex // one after the other
}

// done is the answer to a command that only begins something.
type done struct {
	Done string `json:"done"`
}

// reloaded is the answer to a reload.
type reloaded struct {
	gateway.Reloaded
	File     string              `json:"file"`
	Warnings []config.Diagnostic `json:"warnings,omitempty"`
}

// answer is what the control socket does; api/openapi.yaml describes it.
func (d *daemon) answer(s *api.Server) {
	s.ShowPage()
	d.show(s, d.Status, d.History)
	s.Handle("GET /v1/explain", d.explain)
	s.Handle("GET /v1/peers/{peer}/explain", d.explain)
	s.Handle("GET /v1/metrics", metrics(d.Status))
	s.Stream("GET /v1/capture", "application/x-pcapng", d.capture)
	s.Handle("GET /v1/openapi.yaml", func(*http.Request) (any, error) {
		return api.Text{Type: "application/yaml", Body: api.OpenAPI}, nil
	})
	s.Handle("POST /v1/reload", func(*http.Request) (any, error) { return d.reload() })
	s.Handle("POST /v1/drain", func(r *http.Request) (any, error) {
		var to struct{ To string }
		if err := api.Body(r, &to); err != nil {
			return nil, err
		}
		return begun(drained(to.To), d.Drain(to.To))
	})
	peer := func(verb string, f func(r *http.Request, peer string) (string, error)) {
		s.Handle("POST /v1/peers/{peer}/"+verb, func(r *http.Request) (any, error) { return begun(f(r, r.PathValue("peer"))) })
	}
	peer("connect", func(_ *http.Request, peer string) (string, error) { return d.Connect(peer) })
	peer("disconnect", func(_ *http.Request, peer string) (string, error) { return d.Disconnect(peer) })
	peer("rekey", func(_ *http.Request, peer string) (string, error) { return d.RekeyIKE(peer) })
	tunnel := func(verb string, f func(peer, tunnel string) (string, error)) {
		peer("tunnels/{tunnel}/"+verb, func(r *http.Request, peer string) (string, error) { return f(peer, r.PathValue("tunnel")) })
	}
	tunnel("connect", d.ConnectTunnel)
	tunnel("disconnect", d.DisconnectTunnel)
	tunnel("rekey", d.Rekey)
	peer("tunnels/rekey", func(_ *http.Request, peer string) (string, error) { return d.Rekey(peer, "") })
}

// show is what the status page asks for.
func (d *daemon) show(s *api.Server, status func() (gateway.Status, bool), history func() (gateway.History, bool)) {
	s.Stream("GET /v1/events", "application/jsonl", d.events)
	s.Handle("GET /v1/status", func(*http.Request) (any, error) { return running(status()) })
	s.Handle("GET /v1/history", func(*http.Request) (any, error) { return running(history()) })
}

// open answers at the doors that are for others than the owner: nil is none.
func (d *daemon) open(public, page *api.Server) {
	status := recent(d.Status)
	public.Handle("GET /metrics", metrics(status))
	d.show(page, status, recent(d.History))
}

// recentTime is how old an answer to strangers may be.
const recentTime = time.Second

// recent asks at most once in a recentTime, and gives that answer to all who ask
// meanwhile: however many they are and however often they ask, the goroutine that
// does IKE has no more to do for them.
func recent[T any](ask func() (T, bool)) func() (T, bool) {
	var mu sync.Mutex
	var last T
	var at time.Time
	return func() (T, bool) {
		mu.Lock()
		defer mu.Unlock()
		if !at.IsZero() && time.Since(at) < recentTime {
			return last, true
		}
		answer, ok := ask()
		if ok {
			last, at = answer, time.Now()
		}
		return answer, ok
	}
}

func running[T any](answer T, ok bool) (any, error) {
	if !ok {
		return nil, crossing(gateway.ErrNotRunning)
	}
	return answer, nil
}

func (d *daemon) explain(r *http.Request) (any, error) {
	x, err := d.Explain(r.PathValue("peer"))
	if err != nil {
		return nil, crossing(err)
	}
	return x, nil
}

// metrics are the status as Prometheus reads it.
func metrics(of func() (gateway.Status, bool)) func(*http.Request) (any, error) {
	return func(*http.Request) (any, error) {
		status, ok := of()
		if !ok {
			return nil, crossing(gateway.ErrNotRunning)
		}
		var b bytes.Buffer
		err := status.WriteMetrics(&b)
		return api.Text{Type: "text/plain; version=0.0.4; charset=utf-8", Body: b.Bytes()}, err
	}
}

func drained(to string) string {
	if to == "" {
		return "draining: no new peers are taken until the gateway ends"
	}
	return fmt.Sprintf("draining: peers that follow are sent to %s, and no new ones are taken until the gateway ends", to)
}

func begun(text string, err error) (any, error) {
	if err != nil {
		return nil, crossing(err)
	}
	return done{text}, nil
}

// crossing is an error as it goes over the control socket.
func crossing(err error) error {
	var refused *gateway.Refused
	var wrong *config.Error
	switch {
	case errors.Is(err, gateway.ErrNotRunning):
		return &api.Error{Status: http.StatusServiceUnavailable, Message: err.Error()}
	case errors.As(err, &refused) && refused.Unknown:
		return &api.Error{Status: http.StatusNotFound, Message: err.Error()}
	case errors.As(err, &refused):
		return &api.Error{Status: http.StatusConflict, Message: err.Error()}
	case errors.As(err, &wrong):
		return &api.Error{Status: http.StatusUnprocessableEntity, Message: err.Error(), Diagnostics: wrong.Diagnostics}
	}
	return &api.Error{Status: http.StatusUnprocessableEntity, Message: err.Error()}
}

// reload reads the file again and gives it to the gateway. What is wrong is in
// the log and in the error, and has changed nothing.
func (d *daemon) reload() (any, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	defer d.manager.reloading()()
	cfg, err := config.Load(d.file)
	var r gateway.Reloaded
	if err == nil {
		r, err = d.Reload(cfg)
	}
	if err != nil {
		d.refuse(err)
		return nil, crossing(err)
	}
	warn(d.log, cfg)
	return reloaded{r, cfg.File, cfg.Warnings}, nil
}

func (d *daemon) refuse(err error) {
	var wrong *config.Error
	if !errors.As(err, &wrong) {
		d.log.Error(fmt.Sprintf("nothing is reloaded: %v", err), "event", "reload_failed", "file", d.file)
		return
	}
	for _, x := range wrong.Diagnostics {
		d.log.Error("nothing is reloaded: "+oneLine(x), "event", "reload_failed", "file", d.file, "line", x.Line, "column", x.Column)
	}
}

// reloadOnHangup reloads with every SIGHUP until stop.
func (d *daemon) reloadOnHangup() (stop func()) {
	hangups, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	var loop sync.WaitGroup
	loop.Go(func() {
		for {
			select {
			case <-hangups:
				_, _ = d.reload() // the log has what came of it
			case <-ended:
				return
			}
		}
	})
	return func() { signal.Stop(hangups); close(ended); loop.Wait() }
}

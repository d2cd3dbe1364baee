package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

func forwardPage(t *testing.T, socket string) (url string) {
	t.Helper()
	s, url, err := ForwardPage(netip.MustParseAddrPort("127.0.0.1:0"), socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve() }()
	t.Cleanup(func() { _ = s.Close() })
	return url
}

// TestForwardPage: whoever knows the URL gets the page and what it asks for, and
// whoever does not gets nothing out of the gateway.
func TestForwardPage(t *testing.T) {
	var asked atomic.Int64
	socket := serve(t, func() (any, bool) { asked.Add(1); return running() }, (*Server).ShowPage, func(s *Server) {
		s.Handle("GET /v1/events", func(r *http.Request) (any, error) { return answer{r.URL.RawQuery}, nil })
		for _, pattern := range []string{"GET /v1/capture", "GET /v1/metrics", "POST /v1/reload"} {
			s.Handle(pattern, func(*http.Request) (any, error) { asked.Add(1); return answer{"secret"}, nil })
		}
	})
	url := forwardPage(t, socket)
	if other := forwardPage(t, socket); other[strings.LastIndex(other[:len(other)-1], "/"):] == url[strings.LastIndex(url[:len(url)-1], "/"):] {
		t.Error("the same address twice")
	}
	ask := askBy(t, http.DefaultClient)
	root := url[:strings.Index(url[len("http://"):], "/")+len("http://")]
	host := root[len("http://"):]
	for path, part := range pageParts {
		code, headers, body := ask("GET", url+path[1:], host)
		if code != 200 || headers.Get("Content-Type") != part.Type || body != string(part.Body) || len(headers.Values("Content-Security-Policy")) != 1 {
			t.Errorf("%s: %d, %v, %d bytes", path, code, headers, len(body))
		}
	}
	for path, want := range map[string]string{"v1/status": `{"Text":"fine"}`, "v1/events?follow=false&after=7": `{"Text":"follow=false\u0026after=7"}`} {
		if code, headers, body := ask("GET", url+path, host); code != 200 || headers.Get("Content-Type") != "application/json" || strings.TrimSpace(body) != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	asked.Store(0)
	for _, c := range []struct {
		method, url, host string
		want              int
	}{
		{"GET", root + "/", host, 404},
		{"GET", root + "/v1/status", host, 404},
		{"GET", root + "/x/v1/status", host, 404},
		{"GET", strings.TrimSuffix(url, "/") + "x/v1/status", host, 404},
		{"GET", strings.ToLower(url) + "v1/status", host, 404},
		{"GET", url + "v1/capture?keys=true", host, 404},
		{"GET", url + "v1/metrics", host, 404},
		{"GET", url + "v1/status/../metrics", host, 404},
		{"GET", url + "v1%2fmetrics", host, 404},
		{"POST", url + "v1/reload", host, 405},
		{"POST", url + "v1/status", host, 405},
		{"GET", url + "v1/status", "evil.example", 421},
	} {
		if code, _, body := ask(c.method, c.url, c.host); code != c.want || strings.Contains(body, "secret") {
			t.Errorf("%s %s of %s: %d %s, want %d", c.method, c.url, c.host, code, body, c.want)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the gateway was asked %d times", n)
	}
}

// TestForwardPageWithoutGateway: it needs one to begin with, and stays while that
// is restarted.
func TestForwardPageWithoutGateway(t *testing.T) {
	socket := tempDir(t) + "/s.sock"
	if _, _, err := ForwardPage(netip.MustParseAddrPort("127.0.0.1:0"), socket); err == nil || !strings.Contains(err.Error(), "no culvert is running") {
		t.Fatal(err)
	}
	run := func() *Server {
		s, err := Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		s.ShowPage()
		handleStatus(s, running)
		go func() { _ = s.Serve() }()
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	first := run()
	url, ask := forwardPage(t, socket), askBy(t, http.DefaultClient)
	_ = first.Close()
	if code, _, body := ask("GET", url+"v1/status", "localhost"); code != http.StatusBadGateway || !strings.Contains(body, "no culvert is running") {
		t.Errorf("without it: %d %s", code, body)
	}
	run()
	if code, _, body := ask("GET", url+"v1/status", "localhost"); code != http.StatusOK {
		t.Errorf("with the next one: %d %s", code, body)
	}
}

// TestForwardPageUnread: browsers that do not read what they ask for hold up
// themselves.
func TestForwardPageUnread(t *testing.T) {
	var answering atomic.Int64
	socket := serve(t, running, (*Server).ShowPage, func(s *Server) {
		s.Handle("GET /v1/history", func(*http.Request) (any, error) {
			answering.Add(1)
			return answer{strings.Repeat("x", 8<<20)}, nil
		})
	})
	url := forwardPage(t, socket)
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	for range maxStrangers {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "GET /%sv1/history HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // it has begun
			t.Fatal(err)
		}
	}
	if answering.Load() != maxStrangers {
		t.Errorf("%d were answered", answering.Load())
	}
	wantAnswer(t, socket)
}

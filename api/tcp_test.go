package api

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// TestTCP: whoever can reach it gets what is handled there, and no more; a
// crowd that holds all its connections holds up nobody for good.
func TestTCP(t *testing.T) {
	s, err := ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("GET /metrics", func(*http.Request) (any, error) {
		return Text{"text/plain; version=0.0.4; charset=utf-8", []byte("culvert_x 1\n")}, nil
	})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	get := func(path string) (int, string, string) {
		t.Helper()
		resp, err := (&http.Client{Timeout: 4 * clientTime}).Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(body)
	}
	if code, kind, body := get("/metrics"); code != 200 || kind != "text/plain; version=0.0.4; charset=utf-8" || body != "culvert_x 1\n" {
		t.Errorf("%d %s %q", code, kind, body)
	}
	for _, path := range []string{"/", "/v1/status", "/v1/metrics", "/debug/pprof/"} {
		if code, _, _ := get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	for range 2 * maxStrangers {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if code, _, _ := get("/metrics"); code != 200 {
		t.Errorf("in a crowd: %d", code)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
}

// TestNoServer: the nil Server is none.
func TestNoServer(t *testing.T) {
	var s *Server
	s.Handle("GET /metrics", nil)
	if err := s.Serve(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

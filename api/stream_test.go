package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestStream: what is written arrives as it is written; the client's end and the
// server's are the end of it; only so many run at once, and the rest of the door
// stays open.
func TestStream(t *testing.T) {
	next, ended := make(chan string), make(chan error)
	socket := serve(t, running, func(s *Server) {
		s.Stream("GET /v1/lines", "application/jsonl", func(r *http.Request, w io.Writer) error {
			if r.URL.Query().Has("not") {
				return &Error{Status: http.StatusBadRequest, Message: "not this one"}
			}
			_, _ = w.Write(nil)
			for {
				select {
				case line := <-next:
					if _, err := fmt.Fprintln(w, line); err != nil {
						ended <- err
						return err
					}
				case <-r.Context().Done():
					ended <- r.Context().Err()
					return nil
				}
			}
		})
	})
	open := func(ctx context.Context) io.ReadCloser {
		t.Helper()
		in, err := Open(ctx, socket, "/v1/lines")
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	wantError(t, socket, "/v1/lines?not", "not this one")
	ctx, cancel := context.WithCancel(t.Context())
	in := open(ctx)
	lines := bufio.NewReader(in)
	for _, want := range []string{"one", "two"} {
		next <- want
		if got, err := lines.ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	cancel() // the client goes
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = in.Close()

	var all []io.ReadCloser
	for range maxStreams {
		all = append(all, open(t.Context()))
	}
	wantError(t, socket, "/v1/lines", "follow the gateway already")
	wantAnswer(t, socket)
	for _, in := range all {
		_ = in.Close()
		<-ended
	}
	in = open(t.Context())
	_ = in.Close()
	<-ended
}

// TestStreamOfServerThatEnds: Close ends its streams.
func TestStreamOfServerThatEnds(t *testing.T) {
	socket := tempDir(t) + "/s.sock"
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Stream("GET /v1/lines", "text/plain", func(r *http.Request, w io.Writer) error {
		_, _ = w.Write([]byte("one\n"))
		<-r.Context().Done()
		return nil
	})
	go func() { _ = s.Serve() }()
	in, err := Open(t.Context(), socket, "/v1/lines")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	lines := bufio.NewReader(in)
	if got, err := lines.ReadString('\n'); got != "one\n" {
		t.Fatal(got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got, err := lines.ReadString('\n'); err == nil {
		t.Errorf("%q after the end", got)
	}
}

// TestCrowdOfOwners: connections without an end hold up new ones for a while,
// and the gateway for none.
func TestCrowdOfOwners(t *testing.T) {
	socket := serve(t, running)
	var crowd []net.Conn
	for range maxOwners + 10 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		crowd = append(crowd, c)
	}
	for _, c := range crowd[:20] {
		_ = c.Close()
	}
	wantAnswer(t, socket)
	if resp := raw(t, socket, "POST /v1/status HTTP/1.1\r\nHost: culvert\r\nContent-Length: 9999999\r\n\r\n"+strings.Repeat("x", 1000)); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a body without an end: %s", resp.Status)
	}
	wantAnswer(t, socket)
}

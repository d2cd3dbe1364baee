// Package api is the operator's door: HTTP and JSON over a unix socket that
// only its owner may open.
//
//	GET /v1/status     what the gateway is doing, as gateway.Status
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// DefaultSocket is where a gateway listens unless told otherwise: under
// /run/culvert for root, in the user's runtime directory for others.
func DefaultSocket() string {
	if os.Geteuid() == 0 {
		return "/run/culvert/culvert.sock"
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("culvert-%d", os.Geteuid()))
	}
	return filepath.Join(dir, "culvert.sock")
}

// Server answers on one socket.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
	http     *http.Server
}

// A slow or hostile client holds one connection for no longer than this, and
// can send no more than that.
const (
	clientTime   = 5 * time.Second
	maxRequest   = 4 << 10
	maxSocketLen = 107 // of sun_path, on Linux; a byte less elsewhere
)

// Listen opens the socket with mode 0600, in place of one that a crashed
// gateway has left behind. One that answers is another gateway's, and stays.
func Listen(path string) (*Server, error) {
	if len(path) > maxSocketLen {
		return nil, fmt.Errorf("control socket %s: the path is longer than the %d bytes that a socket's may have", path, maxSocketLen)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, fmt.Errorf("control socket %s: %w", path, err)
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	return &Server{listener: l, mux: mux, http: &http.Server{
		Handler: mux, ReadTimeout: clientTime, WriteTimeout: clientTime, IdleTimeout: clientTime, MaxHeaderBytes: maxRequest,
	}}, nil
}

// removeStale removes a socket on which nobody listens. Whatever else is there
// stays: a busy gateway's socket may refuse to answer at once, and other files
// are not ours.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file there that is no socket; remove it, or give another --socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("another culvert answers there; stop it, or give this one another --socket")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return err
}

// Serve answers until Close, and returns at once after it. status is called for
// each request, from several goroutines at once; false says that the gateway
// is not running. Serve may be called once.
func (s *Server) Serve(status func() (any, bool)) error {
	s.mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		v, ok := status()
		if !ok {
			http.Error(w, "it is starting or stopping", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	})
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Close stops answering and removes the socket.
func (s *Server) Close() error {
	err := s.http.Close()
	_ = s.listener.Close()
	return err
}

// Get asks the gateway at a socket and decodes its answer into v. The error
// says in plain words why there is none.
func Get(ctx context.Context, socket, path string, v any) error {
	client := http.Client{Timeout: clientTime, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://culvert"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return askError(socket, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRequest))
		return fmt.Errorf("the gateway at %s: %s", socket, strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("the gateway at %s gave an answer that makes no sense: %w", socket, err)
	}
	return nil
}

// askError says why a socket gives no answer.
func askError(socket string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no culvert is running at %s (start one with `culvert up FILE`, or name its socket with --socket)", socket)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s belongs to another user: only who runs the gateway may ask it", socket)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the gateway at %s does not answer within %v", socket, clientTime)
	}
	return fmt.Errorf("the gateway at %s: %w", socket, err)
}

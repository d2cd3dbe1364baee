// Package api is the operator's door: HTTP and JSON over a unix socket that
// only its owner may open.
//
//	GET  /                                          the status page, and its files beside it
//	GET  /v1/status                                 what the gateway is doing, as gateway.Status
//	GET  /v1/history                                its last minutes, as gateway.History
//	GET  /v1/events                                 what has happened and happens, a line of JSON each
//	GET  /v1/capture                                packets outside and inside of ESP, as pcapng
//	GET  /v1/openapi.yaml                           all of this, for machines
//	GET  /v1/explain                                what is wrong, as gateway.Explanation
//	GET  /v1/peers/{peer}/explain                   the same of one peer, and of the gateway itself
//	GET  /v1/metrics                                the same in numbers, in the text format of Prometheus
//	POST /v1/reload                                 read the configuration again; gateway.Reloaded
//	POST /v1/drain                                  {"to": HOST}: take no new peers, send them there
//	POST /v1/peers/{peer}/connect                   keep it connected
//	POST /v1/peers/{peer}/disconnect                take it down, and leave it down
//	POST /v1/peers/{peer}/rekey                     new keys for its IKE SA
//	POST /v1/peers/{peer}/tunnels/rekey             new keys for all its child SAs
//	POST /v1/peers/{peer}/tunnels/{tunnel}/connect  keep one tunnel up
//	POST /v1/peers/{peer}/tunnels/{tunnel}/disconnect  take it down, and leave it down
//	POST /v1/peers/{peer}/tunnels/{tunnel}/rekey    new keys for its child SAs
//
// Names are escaped as in any URL. An answer is {"done": "what was begun"} unless
// it says otherwise. One that is no success has {"error": "why"}: status 404 where
// there is no such peer or tunnel, 409 where it is not the moment, 422 with
// {"diagnostics": [...]} where a configuration cannot be used, 503 where the
// gateway is starting or stopping.
package api

import (
	"bytes"
	"context"
	_ "embed" // for OpenAPI
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const rootSocket = "/run/culvert/culvert.sock"

// DefaultSocket is where a gateway listens unless told otherwise: under
// /run/culvert for root, in the user's runtime directory for others.
func DefaultSocket() string {
	if os.Geteuid() == 0 {
		return rootSocket
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("culvert-%d", os.Geteuid()))
	}
	return filepath.Join(dir, "culvert.sock")
}

// Server answers on one socket. The nil Server is on none, and does nothing.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
	http     *http.Server
	patterns []string
	streams  chan struct{} // has a place for each that may run
}

// A slow or hostile client holds one connection for no longer than this, or
// where it changes something than that, and can send no more than maxRequest.
const (
	clientTime   = 5 * time.Second
	changeTime   = 30 * time.Second
	streamTime   = time.Minute // of one write to a stream
	maxRequest   = 4 << 10
	maxOwners    = 64 // connections of a socket that is its owner's
	maxStreams   = 8
	maxSocketLen = 107 // of sun_path, on Linux; a byte less elsewhere
)

// Error is an answer that is no success.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Message string `json:"error"`
	// Diagnostics are what is wrong with a configuration, piece by piece; nil
	// otherwise.
	Diagnostics any `json:"diagnostics,omitempty"`
}

// Error is the message alone.
func (e *Error) Error() string { return e.Message }

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
	s := newServer(atMost(maxOwners, l), func(h http.Handler) http.Handler { return ownersOnly(noOtherSites(h)) })
	s.http.ConnContext = withUser
	return s, nil
}

// ListenTCP opens an address of this machine to whoever can reach it: what is
// handled there is for everybody.
func ListenTCP(addr netip.AddrPort) (*Server, error) {
	return listenTCP(addr, func(h http.Handler) http.Handler { return h })
}

func listenTCP(addr netip.AddrPort, guard func(http.Handler) http.Handler) (*Server, error) {
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return newServer(atMost(maxStrangers, l), guard), nil
}

func newServer(l net.Listener, guard func(http.Handler) http.Handler) *Server {
	mux := http.NewServeMux()
	return &Server{listener: l, mux: mux, streams: make(chan struct{}, maxStreams), http: &http.Server{
		Handler: guard(mux), ReadTimeout: clientTime, WriteTimeout: clientTime, IdleTimeout: clientTime, MaxHeaderBytes: maxRequest,
	}}
}

// maxStrangers bounds the connections of an address that is open to everybody;
// more wait until one ends, which clientTime sees to.
const maxStrangers = 16

type limited struct {
	net.Listener
	free chan struct{}
}

func atMost(n int, l net.Listener) net.Listener {
	return &limited{Listener: l, free: make(chan struct{}, n)}
}

func (l *limited) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.free <- struct{}{}
	return &held{Conn: c, free: sync.OnceFunc(func() { <-l.free })}, nil
}

// held gives its place back when it is closed.
type held struct {
	net.Conn
	free func()
}

func (h *held) Close() error {
	defer h.free()
	return h.Conn.Close()
}

// user is the key of a connection's context for who is at its other end.
type user struct{}

func withUser(ctx context.Context, c net.Conn) context.Context {
	uid, err := peerUID(c.(*held).Conn)
	return context.WithValue(ctx, user{}, err == nil && (uid == 0 || uid == os.Geteuid()))
}

// ownersOnly asks the system who is at the other end, for a socket's mode can be
// changed, and not every system heeds it.
func ownersOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allowed, _ := r.Context().Value(user{}).(bool); !allowed {
			refuse(w, &Error{Status: http.StatusForbidden, Message: "only who runs the gateway may ask it"})
			return
		}
		next.ServeHTTP(w, r)
	})
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

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Handle answers requests that match a pattern of net/http with what f returns,
// as JSON unless it is a Text. An error that is not an *Error has status 500. f is called from several
// goroutines at once. All is to be handled before Serve.
func (s *Server) Handle(pattern string, f func(*http.Request) (any, error)) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(changeTime))
		}
		v, err := f(r)
		if err != nil {
			refuse(w, err)
			return
		}
		writeAnswer(w, v)
	})
}

func (s *Server) handle(pattern string, h http.HandlerFunc) {
	if s == nil {
		return
	}
	s.patterns = append(s.patterns, pattern)
	s.mux.HandleFunc(pattern, h)
}

// Patterns are what is handled.
func (s *Server) Patterns() []string { return s.patterns }

// Stream answers requests that match a pattern with what f writes, as it is
// written, until f returns or the client goes or does not read for streamTime;
// then writes fail and the request's context ends. An error before the first
// write is an answer as Handle's.
func (s *Server) Stream(pattern, contentType string, f func(*http.Request, io.Writer) error) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.streams <- struct{}{}:
			defer func() { <-s.streams }()
		default:
			refuse(w, &Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf("%d readers follow the gateway already, and more would hold it up", maxStreams)})
			return
		}
		out := &stream{w: w, to: http.NewResponseController(w), contentType: contentType}
		_ = out.to.SetReadDeadline(time.Time{}) // the request is here, the client's end is heard of
		if err := f(r, out); err != nil && !out.begun {
			refuse(w, err)
		}
	})
}

// stream sends on what it gets at once.
type stream struct {
	w           http.ResponseWriter
	to          *http.ResponseController
	contentType string
	begun       bool
}

func (s *stream) Write(b []byte) (n int, err error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", s.contentType)
	}
	if err := s.to.SetWriteDeadline(time.Now().Add(streamTime)); err != nil {
		return 0, err
	}
	if n, err = s.w.Write(b); err == nil {
		err = s.to.Flush()
	}
	return n, err
}

// Text is an answer that is no JSON.
type Text struct {
	Type string // as in Content-Type
	Body []byte
}

// OpenAPI is the description of what the control socket answers, as Text.
//
//go:embed openapi.yaml
var OpenAPI []byte

func writeAnswer(w http.ResponseWriter, v any) {
	if text, ok := v.(Text); ok {
		w.Header().Set("Content-Type", text.Type)
		_, _ = w.Write(text.Body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Status: http.StatusInternalServerError, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e)
}

// Body decodes a request's JSON into v; a request without a body leaves v as it
// is.
func Body(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return &Error{Status: http.StatusBadRequest, Message: "the request makes no sense: " + err.Error()}
	}
	return nil
}

// Serve answers until Close, and returns at once after it. It may be called once.
func (s *Server) Serve() error {
	if s == nil {
		return nil
	}
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Close stops answering and removes the socket.
func (s *Server) Close() error {
	if s == nil {
		return nil
	}
	err := s.http.Close()
	_ = s.listener.Close()
	return err
}

// Get asks the gateway at a socket and decodes its answer into v. The error says
// in plain words why there is none; an *Error inside it is the gateway's own.
func Get(ctx context.Context, socket, path string, v any) error {
	return ask(ctx, socket, http.MethodGet, path, clientTime, nil, v)
}

// Post has the gateway at a socket change something. body is sent as JSON unless
// it is nil; errors are those of Get.
func Post(ctx context.Context, socket, path string, body, v any) error {
	return ask(ctx, socket, http.MethodPost, path, changeTime, body, v)
}

// Open begins to read a stream of the gateway at a socket. It ends with ctx, and
// is to be closed; errors are those of Get.
func Open(ctx context.Context, socket, path string) (io.ReadCloser, error) {
	client := newClient(socket, 0)
	resp, err := send(ctx, client, socket, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return &reading{resp.Body, client}, nil
}

// reading takes its connection with it when it is closed.
type reading struct {
	io.ReadCloser
	client *http.Client
}

func (r *reading) Close() error {
	defer r.client.CloseIdleConnections()
	return r.ReadCloser.Close()
}

func newClient(socket string, limit time.Duration) *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

func ask(ctx context.Context, socket, method, path string, limit time.Duration, body, v any) error {
	client := newClient(socket, limit)
	defer client.CloseIdleConnections()
	resp, err := send(ctx, client, socket, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("the gateway at %s gave an answer that makes no sense: %w", socket, err)
	}
	return nil
}

// send gives the answer of a success.
func send(ctx context.Context, client *http.Client, socket, method, path string, body any) (*http.Response, error) {
	var sent io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://culvert"+path, sent)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, askError(socket, client.Timeout, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		return nil, fmt.Errorf("the gateway at %s: %w", socket, errorOf(resp))
	}
	return resp, nil
}

// maxError bounds what a gateway says of a failure: a hundred diagnostics with
// their hints.
const maxError = 1 << 20

// errorOf is an *Error, of a gateway or of whatever else answers there.
func errorOf(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
	e := &Error{Status: resp.StatusCode}
	if json.Unmarshal(text, e) != nil || e.Message == "" {
		e.Message = strings.TrimSpace(string(text))
	}
	return e
}

// mayExist: it is there, or not for us to know.
func mayExist(file string) bool {
	_, err := os.Stat(file)
	return err == nil || errors.Is(err, os.ErrPermission)
}

// askError says why a socket gives no answer.
func askError(socket string, limit time.Duration, err error) error {
	gone := errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
	switch {
	case gone && socket != rootSocket && socket == DefaultSocket() && mayExist(rootSocket):
		return fmt.Errorf("no culvert of this user is running, and another user's may be at %s: ask that one with sudo, or name a socket with --socket", rootSocket)
	case gone:
		return fmt.Errorf("no culvert is running at %s (start one with `culvert up FILE`, or name its socket with --socket)", socket)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s belongs to another user: only who runs the gateway may ask it", socket)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the gateway at %s does not answer within %v", socket, limit)
	}
	return fmt.Errorf("the gateway at %s: %w", socket, err)
}

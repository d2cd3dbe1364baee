package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tempDir is short, unlike t.TempDir: a socket's path has a limit.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

type answer struct{ Text string }

// serve runs a server at a socket of its own until the test ends.
func serve(t *testing.T, status func() (any, bool), more ...func(*Server)) (socket string) {
	t.Helper()
	socket = filepath.Join(tempDir(t), "dir", "culvert.sock")
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	handleStatus(s, status)
	for _, handle := range more {
		handle(s)
	}
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return socket
}

func handleStatus(s *Server, status func() (any, bool)) {
	s.Handle("GET /v1/status", func(*http.Request) (any, error) {
		if v, ok := status(); ok {
			return v, nil
		}
		return nil, &Error{Status: http.StatusServiceUnavailable, Message: "it is starting or stopping"}
	})
}

func running() (any, bool) { return answer{"fine"}, true }

func wantAnswer(t *testing.T, socket string) {
	t.Helper()
	var a answer
	if err := Get(t.Context(), socket, "/v1/status", &a); err != nil || a.Text != "fine" {
		t.Errorf("answered %+v, %v", a, err)
	}
}

// wantError: Get fails, and says it in these words.
func wantError(t *testing.T, socket, path string, words ...string) {
	t.Helper()
	err := Get(t.Context(), socket, path, new(answer))
	if err == nil {
		t.Fatalf("%s answered", socket)
	}
	for _, word := range append(words, socket) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestOwnerOnly(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	socket := serve(t, running)
	for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	wantAnswer(t, socket)
}

func TestDefaultSocket(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	want := "/run/user/7/culvert.sock"
	if os.Geteuid() == 0 {
		want = "/run/culvert/culvert.sock"
	}
	if got := DefaultSocket(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if got := DefaultSocket(); !filepath.IsAbs(got) || len(got) > maxSocketLen || filepath.Dir(got) == filepath.Clean(os.TempDir()) {
		t.Errorf("%s", got)
	}
}

// TestStaleSocket: a crashed gateway's socket is in nobody's way.
func TestStaleSocket(t *testing.T) {
	socket := filepath.Join(tempDir(t), "culvert.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, socket, "/v1/status", "no culvert is running", "culvert up FILE")
	s, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	handleStatus(s, running)
	go func() { _ = s.Serve() }()
	wantAnswer(t, socket)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestTakenSocket: what is somebody else's stays as it is.
func TestTakenSocket(t *testing.T) {
	t.Run("by a gateway", func(t *testing.T) {
		socket := serve(t, running)
		if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "another culvert answers there") {
			t.Errorf("Listen: %v", err)
		}
		wantAnswer(t, socket)
	})
	t.Run("by a gateway that is too busy to answer", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("only Linux tells a full queue from no listener; run this there")
		}
		socket := filepath.Join(tempDir(t), "culvert.sock")
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket}), syscall.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		first, err := net.Dial("unix", socket) // fills its queue
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		if _, err := Listen(socket); err == nil {
			t.Error("Listen took it")
		}
		if info, err := os.Lstat(socket); err != nil || info.Mode().Type() != os.ModeSocket {
			t.Errorf("the socket is gone: %v", err)
		}
	})
	t.Run("by a file", func(t *testing.T) {
		file := filepath.Join(tempDir(t), "site.toml")
		if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("Listen: %v", err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
			t.Errorf("the file: %q, %v", text, err)
		}
	})
}

func TestListenErrors(t *testing.T) {
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, strings.Repeat("x", maxSocketLen)): "longer than",
		filepath.Join(dir, "file", "culvert.sock"):            "not a directory",
	} {
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "control socket") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// TestCloseBeforeServe: a gateway that fails at once closes its server before
// that has begun, or just then.
func TestCloseBeforeServe(t *testing.T) {
	for range 50 {
		s, err := Listen(filepath.Join(tempDir(t), "culvert.sock"))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- s.Serve() }()
		_ = s.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrors(t *testing.T) {
	var up atomic.Bool
	socket := serve(t, func() (any, bool) { return answer{"fine"}, up.Load() })
	wantError(t, socket, "/v1/status", "starting or stopping")
	up.Store(true)
	wantAnswer(t, socket)
	up.Store(false)
	wantError(t, socket, "/v1/status", "starting or stopping")
	wantError(t, socket, "/v2/nothing", "404")
	wantError(t, filepath.Join(tempDir(t), "none.sock"), "/v1/status", "no culvert is running", "--socket")

	if resp := raw(t, socket, "POST /v1/status HTTP/1.1\r\nHost: culvert\r\nContent-Length: 0\r\n\r\n"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
	if resp := raw(t, socket, "GET /v1/status HTTP/1.1\r\nHost: culvert\r\n\r\n"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status of a gateway that has stopped: %s", resp.Status)
	}
}

// TestAskError has the errors that root, or a test in a hurry, cannot get.
func TestAskError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}, "belongs to another user"},
		{fmt.Errorf("awaiting headers: %w", context.DeadlineExceeded), "does not answer within 5s"},
	} {
		if got := askError("/run/x.sock", clientTime, c.err).Error(); !strings.Contains(got, c.want) || !strings.Contains(got, "/run/x.sock") {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}

// TestNonsenseAnswer: somebody else's server at that path.
func TestNonsenseAnswer(t *testing.T) {
	socket := filepath.Join(tempDir(t), "culvert.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, text := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{\"T", "SSH-2.0-OpenSSH\r\n"} {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}()
	wantError(t, socket, "/v1/status", "makes no sense")
	wantError(t, socket, "/v1/status", "malformed HTTP")
}

// TestCancelled: who asks may give up.
func TestCancelled(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	socket := serve(t, func() (any, bool) { asked <- struct{}{}; <-release; return answer{}, true })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if err := Get(ctx, socket, "/v1/status", new(answer)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(release)
}

func raw(t *testing.T, socket, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestBadClients: clients that say nothing, little, nonsense or too much hold
// up nobody, and those that never end are thrown out.
func TestBadClients(t *testing.T) {
	socket := serve(t, running)
	var conns []net.Conn
	for i := range 50 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, []string{"", "GET /v1/st", "GET /v1/status HTTP/1.1\r\nHost: culvert\r\nX: ", "\x00\xff\x16\x03\x01"}[i%4])
		conns = append(conns, conn)
	}
	wantAnswer(t, socket)

	if resp := raw(t, socket, "GET /v1/status HTTP/1.1\r\nHost: culvert\r\nX: "+strings.Repeat("y", 64<<10)+"\r\n\r\n"); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 kB of header: %s", resp.Status)
	}
	if resp := raw(t, socket, "\x16\x03\x01 nonsense\r\n\r\n"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("nonsense: %s", resp.Status)
	}
	body := fmt.Sprintf("GET /v1/status HTTP/1.1\r\nHost: culvert\r\nContent-Length: %d\r\n\r\n", 1<<40)
	if resp := raw(t, socket, body); resp.StatusCode != http.StatusOK {
		t.Errorf("a body that never comes: %s", resp.Status)
	}
	wantAnswer(t, socket)

	if testing.Short() {
		return
	}
	for i, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("client %d is still there", i)
		}
	}
	wantAnswer(t, socket)
}

// TestPost: what is sent arrives, and a failure comes back as it was meant.
func TestPost(t *testing.T) {
	socket := serve(t, running, func(s *Server) {
		s.Handle("POST /v1/echo/{name}", func(r *http.Request) (any, error) {
			var body struct{ To string }
			if err := Body(r, &body); err != nil {
				return nil, err
			}
			switch body.To {
			case "nobody":
				return nil, &Error{Status: http.StatusNotFound, Message: "there is no such thing", Diagnostics: []int{1, 2}}
			case "bug":
				return nil, errors.New("something else")
			}
			return answer{r.PathValue("name") + " to " + body.To}, nil
		})
	})
	post := func(path string, body any) (string, *Error) {
		t.Helper()
		var a answer
		err := Post(t.Context(), socket, path, body, &a)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		return a.Text, e
	}
	to := func(name string) any { return map[string]string{"to": name} }
	for path, want := range map[string]string{"/v1/echo/x": "x to y", "/v1/echo/a%2Fb%20c": "a/b c to y", "/v1/echo/%22%25": `"% to y`} {
		if got, err := post(path, to("y")); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if got, err := post("/v1/echo/x", nil); got != "x to " || err != nil {
		t.Errorf("without a body: %q, %v", got, err)
	}
	for _, tt := range []struct {
		path   string
		body   any
		status int
		text   string
	}{
		{"/v1/echo/x", to("nobody"), http.StatusNotFound, "there is no such thing"},
		{"/v1/echo/x", to("bug"), http.StatusInternalServerError, "something else"},
		{"/v1/echo/x", map[string]string{"from": "y"}, http.StatusBadRequest, "makes no sense"},
		{"/v1/echo/x", "text", http.StatusBadRequest, "makes no sense"},
		{"/v1/echo/x", to(strings.Repeat("y", maxRequest)), http.StatusBadRequest, "makes no sense"},
		{"/v1/echo", nil, http.StatusNotFound, "404"},
		{"/v1/status", nil, http.StatusMethodNotAllowed, "Method Not Allowed"},
	} {
		_, err := post(tt.path, tt.body)
		if err == nil || err.Status != tt.status || !strings.Contains(err.Message, tt.text) {
			t.Errorf("%s %.40v: %+v, want %d", tt.path, tt.body, err, tt.status)
		}
	}
	if _, err := post("/v1/echo/x", to("nobody")); fmt.Sprint(err.Diagnostics) != "[1 2]" {
		t.Errorf("diagnostics %v", err.Diagnostics)
	}
}

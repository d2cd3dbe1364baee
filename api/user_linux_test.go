package api

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestOtherUser: a socket that somebody has opened to all still answers nobody
// but its owner and root.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("run this as root: it asks as another user")
	}
	socket := serve(t, running)
	for path, mode := range map[string]os.FileMode{socket: 0o666, filepath.Dir(socket): 0o755, filepath.Dir(filepath.Dir(socket)): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	type answered struct {
		status int
		err    error
	}
	answers := make(chan answered)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
			answers <- answered{0, errno}
			return
		}
		conn, err := net.Dial("unix", socket)
		if err != nil {
			answers <- answered{0, err}
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			answers <- answered{0, err}
			return
		}
		answers <- answered{resp.StatusCode, nil}
	}()
	if a := <-answers; a.err != nil || a.status != http.StatusForbidden {
		t.Errorf("another user gets status %d, %v", a.status, a.err)
	}
	wantAnswer(t, socket)
}

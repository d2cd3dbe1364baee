package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// synced is a buffer that may be read while a program writes to it.
type synced struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *synced) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *synced) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func oneHost(t *testing.T) *Host {
	t.Helper()
	needDirect(t)
	l := must[*Lab](t)(New(testPrefix))
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return must[*Host](t)(l.Host("only"))
}

func TestCommandRunsInside(t *testing.T) {
	h := oneHost(t)
	p := h.Command(t.Context(), "sh", "-c", `stat -Lc %i /proc/self/ns/net; cat; echo "$WORD" >&2; exit 3`)
	p.Stdin, p.Env = strings.NewReader("in\n"), []string{"WORD=out"}
	out, err := p.Output()
	if want := strconv.FormatUint(inode(t, h), 10) + "\nin\nout\n"; out != want {
		t.Errorf("wrote %q, want %q", out, want)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("ended with %v, want exit code 3", err)
	}
	if err := p.Stop(); !errors.As(err, &exit) {
		t.Errorf("Stop after the end: %v", err)
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	h := oneHost(t)
	p := h.Command(t.Context(), "/no/such/program")
	if err := p.Run(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/program on only") {
		t.Errorf("ran with %v", err)
	}
	if err := p.Stop(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stopped with %v", err)
	}
	if err := h.Command(t.Context(), "true").Stop(); err != nil {
		t.Errorf("never started, stopped with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Command(ctx, "true").Run(); !errors.Is(err, context.Canceled) {
		t.Errorf("ran after its context with %v", err)
	}
}

// startFamily starts a program with a child in the background and returns the child's
// process ID.
func startFamily(t *testing.T, ctx context.Context, h *Host, script string) (*Process, int) {
	t.Helper()
	var out synced
	p := h.Command(ctx, "sh", "-c", "sleep 1000 & echo $!; "+script)
	p.Stdout = &out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program runs", func() bool { return strings.HasSuffix(out.String(), "\n") })
	return p, must[int](t)(strconv.Atoi(strings.TrimSpace(out.String())))
}

// gone reports whether a process has ended, be it that nobody has waited for it yet.
func gone(pid int) func() bool {
	return func() bool {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		return err != nil || bytes.Contains(status, []byte("State:\tZ"))
	}
}

func TestProcessGroupEnds(t *testing.T) {
	h := oneHost(t)
	for name, c := range map[string]struct {
		script string
		end    func(*Process, context.CancelFunc)
	}{
		"by itself":  {"exit 0", func(*Process, context.CancelFunc) {}},
		"by Stop":    {"wait", func(p *Process, _ context.CancelFunc) { p.Stop() }},
		"by signal":  {"wait", func(p *Process, _ context.CancelFunc) { p.Signal(syscall.SIGTERM) }},
		"by context": {"wait", func(_ *Process, cancel context.CancelFunc) { cancel() }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		p, child := startFamily(t, ctx, h, c.script)
		c.end(p, cancel)
		if err := p.Wait(); (err == nil) != (name == "by itself") {
			t.Errorf("ended %s with %v", name, err)
		}
		eventually(t, "the child is gone when its parent ended "+name, gone(child))
		cancel()
	}
}

func TestPrivateMounts(t *testing.T) {
	h := oneHost(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.Command(t.Context(), "sh", "-c", "ls -A /run; touch /run/new; cat /etc/hostname")
	p.Mounts = []Mount{{Target: "/run"}, {dir + "/file", "/etc/hostname"}}
	if out, err := p.Output(); err != nil || out != "mine" {
		t.Errorf("inside: %q, %v", out, err)
	}
	if _, err := os.Lstat("/run/new"); err == nil {
		t.Error("the private /run is everybody's")
	}
	if mounts := must[[]byte](t)(os.ReadFile("/proc/self/mountinfo")); bytes.Contains(mounts, []byte(dir)) {
		t.Error("mounts leaked")
	}
	p = h.Command(t.Context(), "true")
	p.Mounts = []Mount{{dir + "/missing", "/run"}}
	if err := p.Run(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a mount of nothing: %v", err)
	}
}

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRightsOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before := must[string](t)(os.Readlink("/proc/thread-self/ns/net"))
	if r := CheckRights(); r.Reason == "" {
		t.Errorf("no reason in %+v", r)
	}
	if after := must[string](t)(os.Readlink("/proc/thread-self/ns/net")); after != before {
		t.Errorf("asking moved the thread from %s to %s", before, after)
	}
}

func TestUserNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become nobody")
	}
	cmd := asRole("unprivileged")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		said[key] = value
		t.Log(lines.Text())
		if key == "ready" {
			tryEnter(t, said)
			cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("ended with %v", err)
	}
	if why, skip := said["skip:"]; skip {
		t.Skipf("no user namespaces here: %s", why)
	}
	if exit.ExitCode() != 7 {
		t.Errorf("exit code %d: neither the signal nor the code came through", exit.ExitCode())
	}
	for key, want := range map[string]string{
		"rights": "direct", "arguments": "[argument]", "ping": "3 <nil>", "tcp": "true <nil>", "bound": "true",
	} {
		if said[key] != want {
			t.Errorf("%s: %q, want %q", key, said[key], want)
		}
	}
}

// TestReadOnlySysctls: containers that may make namespaces often have /proc/sys
// mounted read-only.
func TestReadOnlySysctls(t *testing.T) {
	needDirect(t)
	cmd := asRole("readonly")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// readOnlySysctls is run in a mount namespace of its own.
func readOnlySysctls() int {
	for _, flags := range []uintptr{syscall.MS_BIND, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY} {
		if err := syscall.Mount("/proc/sys", "/proc/sys", "", flags, ""); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	if _, err := os.OpenFile("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY, 0); !errors.Is(err, syscall.EROFS) {
		fmt.Println("not read-only:", err)
		return 1
	}
	s, err := Situation(testPrefix, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer s.Close()
	if stats, err := s.GatewayB.Ping(context.Background(), GatewayAAddr, quick(3)); err != nil || stats.Received != 3 {
		fmt.Println(stats, err)
		return 1
	}
	return 0
}

// tryEnter enters the lab in the user namespace from outside.
func tryEnter(t *testing.T, said map[string]string) {
	args := strings.Fields(said["enter"])
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Logf("not entered: %v (apt-get install util-linux)", err)
		return
	}
	cmd := exec.Command(args[0], append(args[1:], "-c", "stat -Lc %i /proc/self/ns/net")...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if want := said["inode"]; err != nil || strings.TrimSpace(string(out))+" <nil>" != want {
		t.Errorf("%s leads to %q, %v; want %s", said["enter"], out, err, want)
	}
}

// roles are what the test program does when a test starts it again.
var roles = map[string]func() int{
	"crash":        crash,
	"unprivileged": unprivileged,
	"readonly":     readOnlySysctls,
	"inside":       inside,
}

// crash leaves a lab with a program in it and prints their names.
func crash() int {
	l, err := New(testPrefix)
	if err != nil {
		return 1
	}
	h, err := l.Host("left")
	if err != nil {
		return 1
	}
	p := h.Command(context.Background(), "sleep", "1000")
	if p.Start() != nil {
		return 1
	}
	fmt.Println(h.Namespace(), p.Pid())
	if StrongSwanAvailable() == nil {
		s, err := h.StrongSwan(context.Background(), publicSide())
		if err != nil {
			return 1
		}
		fmt.Println(s.dir)
	}
	return 0
}

// unprivileged is run by a user without rights.
func unprivileged() int {
	if r := CheckRights(); r.Kind != UserNamespace {
		fmt.Println("skip:", r.Kind, r.Reason)
		return 3
	}
	os.Setenv(roleVariable, "inside")
	code, err := ReexecInUserNamespace([]string{"argument"})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return code
}

// inside builds the situation in a user namespace, then waits for a signal.
func inside() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	s, err := Situation(testPrefix, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer s.Close()
	fmt.Println("rights", CheckRights().Kind)
	fmt.Println("arguments", os.Args[1:])
	fmt.Println("enter", s.HostA.Enter())
	s.HostA.Do(func() error {
		var st syscall.Stat_t
		err := syscall.Stat("/proc/thread-self/ns/net", &st)
		fmt.Println("inode", st.Ino, err)
		return err
	})
	stats, err := s.GatewayB.Ping(context.Background(), GatewayAAddr, quick(3))
	fmt.Println("ping", stats.Received, err)
	moved, err := TCP(context.Background(), s.GatewayB, s.GatewayA, GatewayAAddr, TCPOptions{Duration: 100 * time.Millisecond})
	fmt.Println("tcp", moved.Bytes > 0, err)
	fmt.Println("bound", s.HostA.ns.path != "")
	fmt.Println("ready")
	<-signals
	return 7
}

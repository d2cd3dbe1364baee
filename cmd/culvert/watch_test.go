//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pseudoTerminal is both ends of one, 40 columns and 4 rows large.
func pseudoTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		lack(t, "run this where /dev/ptmx is: "+err.Error())
	}
	t.Cleanup(func() { user.Close() })
	fd := int(user.Fd())
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 4, Col: 40}); err != nil {
		t.Fatal(err)
	}
	return user, program
}

// TestWatchOnTerminal: it is drawn in place, cut to the screen, survives a
// gateway that is gone for a while, and ends with q, leaving the terminal as it
// was.
func TestWatchOnTerminal(t *testing.T) {
	user, program := pseudoTerminal(t)
	stdin := os.Stdin
	os.Stdin = program
	defer func() { os.Stdin = stdin }()
	before, err := term.GetState(int(program.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan int)
	ended := make(chan error)
	go func() {
		n := 0
		ended <- watching{interval: time.Millisecond}.run(context.Background(), program, func(ctx context.Context, out io.Writer) error {
			n++
			select {
			case shown <- n:
			case <-ctx.Done():
			}
			if n == 2 {
				return errors.New("no culvert is running")
			}
			fmt.Fprintf(out, "\x1b[32mframe %d\x1b[0m %s\nsecond\nthird\nfourth\n", n, strings.Repeat("x", 60))
			return nil
		})
	}()
	screen := make(chan string)
	go func() {
		var all bytes.Buffer
		var b [4096]byte
		for !strings.Contains(all.String(), leaveScreen) {
			n, err := user.Read(b[:])
			if err != nil {
				break
			}
			all.Write(b[:n])
		}
		screen <- all.String()
	}()
	for range 3 {
		<-shown
	}
	if _, err := user.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	for done := false; !done; {
		select {
		case <-shown: // until it has noticed
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			done = true
		}
	}
	text := <-screen
	for _, want := range []string{enterScreen + home + "\x1b[32mframe 1\x1b[0m " + strings.Repeat("x", 32) + "\x1b[0m" + eraseLine, "\r\nsecond" + eraseLine + "\r\nthird" + eraseLine + "\r\n" + eraseBelow, "no culvert is running" + eraseLine, leaveScreen} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	if strings.Contains(text, "fourth") {
		t.Errorf("longer than the screen: %q", text)
	}
	if after, err := term.GetState(int(program.Fd())); err != nil || *after != *before {
		t.Errorf("the terminal is left otherwise than it was: %v", err)
	}
}

func TestSparkline(t *testing.T) {
	for want, samples := range map[string][]float32{
		"":     nil,
		"▁▁▁":  {0, 0, 0},
		"▁▃▅█": {0, 2, 4, 7},
		"▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█": append(make([]float32, 100), 3),
	} {
		if got := sparkline(samples); got != want {
			t.Errorf("%v: %q, want %q", samples, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 400 * time.Millisecond: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m01s",
		3*time.Hour + 125*time.Second: "3h02m", 49 * time.Hour: "2d01h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// watching shows the same again and again.
type watching struct {
	interval time.Duration
	count    int // times; 0 is until told to end
}

// run shows frames in place on a terminal, one after the other elsewhere. A frame
// that cannot be had is the end, unless it is a terminal's and not the first.
func (w watching) run(ctx context.Context, out io.Writer, frame func(ctx context.Context, out io.Writer) error) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	s := openScreen(out, stop)
	defer s.close()
	for shown := 0; ; {
		var text bytes.Buffer
		err := frame(ctx, &text)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (s == nil || shown == 0):
			return err
		case err != nil:
			text.Reset()
			fmt.Fprintln(&text, err)
		}
		if err := s.show(out, shown, text.String()); err != nil {
			return err
		}
		if shown++; shown == w.count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.interval):
		}
	}
}

// leastInterval is how often one may look.
const leastInterval = 100 * time.Millisecond

func (w watching) check() error {
	if w.interval < leastInterval || w.count < 0 {
		return usageError(fmt.Errorf("--interval takes %v or more, --count 0 or more", leastInterval))
	}
	return nil
}

// screen is a terminal that is drawn on. The nil screen is none.
type screen struct {
	out   *os.File
	stdin *term.State // as it was; nil where it is no terminal
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate one, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// openScreen takes the terminal over; q and Ctrl-C are its end.
func openScreen(out io.Writer, end func()) *screen {
	f := terminal(out)
	if f == nil || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	s := &screen{out: f}
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		if was, err := term.MakeRaw(stdin); err == nil {
			s.stdin = was
			go awaitEnd(os.Stdin, end) // until the program ends
		}
	}
	_, _ = io.WriteString(f, enterScreen)
	return s
}

const (
	ctrlC = 3
	ctrlD = 4
)

func awaitEnd(keys io.Reader, end func()) {
	var key [1]byte
	for {
		if _, err := keys.Read(key[:]); err != nil {
			return
		}
		if strings.IndexByte("qQ\x1b", key[0]) >= 0 || key[0] == ctrlC || key[0] == ctrlD {
			end()
			return
		}
	}
}

func (s *screen) close() {
	if s == nil {
		return
	}
	_, _ = io.WriteString(s.out, leaveScreen)
	if s.stdin != nil {
		_ = term.Restore(int(os.Stdin.Fd()), s.stdin)
	}
}

// show draws a frame, cut to the terminal's size.
func (s *screen) show(out io.Writer, shown int, text string) error {
	if s == nil {
		if shown > 0 {
			text = "\n" + text
		}
		_, err := io.WriteString(out, text)
		return err
	}
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil {
		return errors.Join(errors.New("the terminal is gone"), err)
	}
	if width == 0 || height == 0 { // it does not know its size
		width, height = 80, 24
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(1, height-1))]
	var b strings.Builder
	b.WriteString(home)
	for _, line := range lines {
		b.WriteString(cut(line, width) + eraseLine + "\r\n")
	}
	_, err = io.WriteString(s.out, b.String()+eraseBelow)
	return err
}

// cut ends a line after so many columns; colours take none.
func cut(line string, columns int) string {
	var b strings.Builder
	escape := false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case columns == 0:
			return b.String() + "\x1b[0m"
		default:
			columns--
		}
		b.WriteString(string(utf8.AppendRune(nil, r)))
	}
	return b.String()
}

// onTerminal says whether colours are wanted there.
func onTerminal(out io.Writer) bool {
	f := terminal(out)
	return f != nil && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// lineHandler writes a record as a person reads it, in a line: the time and the
// sentence, which has all that the attributes have. Those are for --log json.
type lineHandler struct {
	mu sync.Mutex
	w  io.Writer
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintln(h.w, logLine(r.Time, r.Level >= slog.LevelWarn, r.Message))
	return err
}

func logLine(at time.Time, warning bool, text string) string {
	mark := ""
	if warning {
		mark = "! "
	}
	return at.Format("15:04:05.000") + " " + mark + printable(text)
}

func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *lineHandler) WithGroup(string) slog.Handler      { return h }

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// lineHandler writes a record as a person reads it, in a line: the time and the
// sentence, which has all that the attributes have. Those are for --log json.
type lineHandler struct {
	mu sync.Mutex
	w  io.Writer
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	mark := ""
	if r.Level >= slog.LevelWarn {
		mark = "! "
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.w, "%s %s%s\n", r.Time.Format("15:04:05.000"), mark, printable(r.Message))
	return err
}

func (h *lineHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h *lineHandler) WithGroup(string) slog.Handler      { return h }

package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"
)

// Journal is a slog.Handler that passes records on and keeps the recent ones,
// each as the line of JSON that slog.JSONHandler makes of it. Whoever follows it
// and is slow misses records, and is told how many; it holds nobody up.
type Journal struct {
	next slog.Handler
	*journalRing
	line slog.Handler // writes to journalRing.scratch, with the attributes so far
}

// journalLen bounds the records kept, and followLen those that wait for one
// follower.
const (
	journalLen = 512
	followLen  = 256
)

type journalRing struct {
	mu        sync.Mutex
	scratch   bytes.Buffer
	recent    []Record // the oldest first
	last      uint64   // sequence number of the latest
	followers map[*Follower]bool
}

// Record is one line of the journal. Numbers count from 1, and a gap in them
// is what a follower has missed.
type Record struct {
	Number uint64
	Time   time.Time
	Line   json.RawMessage // without the line break
}

// NewJournal passes on to next.
func NewJournal(next slog.Handler) *Journal {
	r := &journalRing{followers: map[*Follower]bool{}}
	return &Journal{next, r, slog.NewJSONHandler(&r.scratch, nil)}
}

// Enabled is true for what the journal keeps, and for what next wants.
func (j *Journal) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || j.next.Enabled(ctx, l)
}

// Handle keeps a record and passes it on.
func (j *Journal) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		j.keep(ctx, r)
	}
	if !j.next.Enabled(ctx, r.Level) {
		return nil
	}
	return j.next.Handle(ctx, r)
}

// WithAttrs and WithGroup keep in the same journal.
func (j *Journal) WithAttrs(a []slog.Attr) slog.Handler {
	return &Journal{j.next.WithAttrs(a), j.journalRing, j.line.WithAttrs(a)}
}

func (j *Journal) WithGroup(name string) slog.Handler {
	return &Journal{j.next.WithGroup(name), j.journalRing, j.line.WithGroup(name)}
}

func (j *Journal) keep(ctx context.Context, r slog.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.scratch.Reset()
	if j.line.Handle(ctx, r) != nil {
		return
	}
	j.last++
	x := Record{j.last, r.Time, bytes.TrimSuffix(bytes.Clone(j.scratch.Bytes()), []byte("\n"))}
	j.recent = lastOf(append(j.recent, x), journalLen)
	for f := range j.followers {
		f.offer(x)
	}
}

// since are the records since then, of those that are kept.
func (j *journalRing) since(since time.Time) (all []Record) {
	for _, x := range j.recent {
		if !x.Time.Before(since) {
			all = append(all, x)
		}
	}
	return all
}

// Follower gets records as they come.
type Follower struct {
	// Records is closed by Close only.
	Records chan Record
	// Begin is the number of the last record before the first of Records.
	Begin uint64
	ring  *journalRing
}

// Follow gives the records since then, and a Follower for those after them,
// which is to be closed.
func (j *journalRing) Follow(since time.Time) ([]Record, *Follower) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := &Follower{make(chan Record, followLen), j.last, j}
	j.followers[f] = true
	return j.since(since), f
}

// offer leaves out what the follower has no room for: the gap in the numbers
// says so.
func (f *Follower) offer(x Record) {
	select {
	case f.Records <- x:
	default:
	}
}

// Missed is how many records after that one are lost to a follower that has read
// all there is for it.
func (f *Follower) Missed(last uint64) uint64 {
	f.ring.mu.Lock()
	defer f.ring.mu.Unlock()
	if len(f.Records) > 0 {
		return 0
	}
	return f.ring.last - last
}

// Close ends it.
func (f *Follower) Close() {
	f.ring.mu.Lock()
	defer f.ring.mu.Unlock()
	if f.ring.followers[f] {
		delete(f.ring.followers, f)
		close(f.Records)
	}
}

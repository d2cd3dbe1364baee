package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// recent are the records since then, as a follower gets them first.
func recent(j *Journal, since time.Time) []Record {
	all, f := j.Follow(since)
	f.Close()
	return all
}

// TestJournal: what is kept is bounded, reads as the log does, and a follower
// that does not read misses records and nothing else.
func TestJournal(t *testing.T) {
	var log strings.Builder
	j := NewJournal(slog.NewJSONHandler(&log, nil))
	l := slog.New(j)
	l.Debug("not for people")
	l.With("room", "x").Warn("odd\nthing", "event", "odd", "peer", "<b>")
	got := recent(j, time.Time{})
	if len(got) != 1 || got[0].Number != 1 || string(got[0].Line)+"\n" != log.String() {
		t.Fatalf("kept %v, logged %s", got, log.String())
	}
	var fields map[string]any
	noError(t, json.Unmarshal(got[0].Line, &fields))
	if fields["msg"] != "odd\nthing" || fields["peer"] != "<b>" || fields["room"] != "x" || fields["level"] != "WARN" {
		t.Errorf("%v", fields)
	}

	before, slow := j.Follow(time.Time{})
	if len(before) != 1 {
		t.Errorf("%d records before", len(before))
	}
	for i := range 2 * journalLen {
		l.Info(fmt.Sprint(i))
	}
	if got = recent(j, time.Time{}); len(got) != journalLen || got[journalLen-1].Number != 2*journalLen+1 {
		t.Errorf("%d kept, the last is %d", len(got), got[len(got)-1].Number)
	}
	if got := recent(j, time.Now().Add(time.Hour)); len(got) != 0 {
		t.Errorf("%d of the future", len(got))
	}
	slow.Close()
	slow.Close()
	l.Info("to nobody")
	n := uint64(1)
	for x := range slow.Records {
		if n++; x.Number != n {
			t.Fatalf("record %d is %d", n, x.Number)
		}
	}
	if n != 1+followLen {
		t.Errorf("the last of a slow follower is %d, want %d", n, 1+followLen)
	}
}

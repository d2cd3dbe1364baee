package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"culvert/api"
	"culvert/gateway"
)

// events writes what the journal has, and goes on with what comes. A reader that
// falls behind is told how much it has missed.
func (d *daemon) events(r *http.Request, w io.Writer) error {
	q, err := askedEvents(r.URL.Query())
	if err != nil {
		return err
	}
	recent, more := d.Journal().Follow(q.since)
	defer more.Close()
	if err := writeEvents(w, q.after, recent...); err != nil || !q.follow {
		return err
	}
	for last := more.Begin; ; {
		select {
		case <-r.Context().Done():
			return nil
		case x := <-more.Records:
			err := writeMissed(w, x.Number-last-1)
			if err == nil {
				err = writeEvents(w, 0, x)
			}
			last = x.Number
			if n := more.Missed(last); err == nil && n > 0 {
				err = writeMissed(w, n)
				last += n
			}
			if err != nil {
				return err
			}
		}
	}
}

// writeEvents writes those after that number, a line each with its number first.
// No events are an answer too.
func writeEvents(w io.Writer, after uint64, all ...gateway.Record) error {
	var lines []byte
	for _, x := range all {
		if x.Number > after {
			lines = fmt.Appendf(lines, "{\"number\":%d,%s\n", x.Number, x.Line[1:])
		}
	}
	_, err := w.Write(lines)
	return err
}

func writeMissed(w io.Writer, n uint64) error {
	if n == 0 {
		return nil
	}
	line, err := json.Marshal(event{Time: time.Now(), Level: "WARN", Message: fmt.Sprintf("%d events are left out: this reader is behind", n), Event: "missed", Count: n})
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// event is what every line has, and what only some have that are asked for here.
type event struct {
	Number  uint64    `json:"number,omitempty"`
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"msg"`
	Event   string    `json:"event"`
	Peer    string    `json:"peer,omitempty"`
	Count   uint64    `json:"count,omitempty"`
}

// eventsQuery is which events are wanted: those since a time and after a number,
// and whether those to come.
type eventsQuery struct {
	since  time.Time
	after  uint64
	follow bool
}

func askedEvents(v url.Values) (q eventsQuery, err error) {
	q.follow = true
	if text := v.Get("follow"); text != "" {
		q.follow, err = strconv.ParseBool(text)
	}
	if text := v.Get("after"); text != "" && err == nil {
		q.after, err = strconv.ParseUint(text, 10, 64)
	}
	if text := v.Get("since"); text != "" && err == nil {
		q.since, err = sinceTime(text, time.Now())
	}
	if err != nil {
		err = &api.Error{Status: http.StatusBadRequest, Message: "the request makes no sense: " + err.Error()}
	}
	return q, err
}

// sinceTime is a moment, or so long before now.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("since takes a time such as 10m, or 2006-01-02T15:04:05Z, not %q", text)
	}
	return at, nil
}

func eventsCommand() *cobra.Command {
	var d door
	var since string
	var follow, text bool
	var count int
	cmd := d.socketFlag(&cobra.Command{
		Use:   "events [PEER]",
		Short: "show what happens, as it happens",
		Long: `Shows what a running gateway has logged lately, the last few hundred records, and
goes on with what happens until Ctrl-C: a line of JSON each, with the keys of
'culvert up --log json' and a number. With PEER, only what is about that one.

The gateway waits for no reader: one that is behind misses events, and a line
says how many. A line with the event "left_out" says the same of the log itself,
which takes only some records a second of what strangers cause.

The exit code is 0 after Ctrl-C, after --count events, and at the end of those
that are kept with --follow=false; 1 when the gateway ends.`,
		Example: `  sudo culvert events
  sudo culvert events --since 10m --follow=false office
  sudo culvert events --text --since 0s
  sudo culvert events | jq -r 'select(.level == "WARN") | .msg'`,
		Args: anyPeer,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := sinceTime(since, time.Now()); since != "" && err != nil {
				return usageError(fmt.Errorf("--%w", err))
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			path := "/v1/events?" + url.Values{"since": {since}, "follow": {strconv.FormatBool(follow)}}.Encode()
			in, err := api.Open(ctx, d.socket, path)
			if err == nil && len(args) == 1 {
				err = d.known(ctx, args[0])
			}
			if err != nil {
				return d.failed(cmd, err)
			}
			defer func() { _ = in.Close() }()
			enough, err := printEvents(cmd.OutOrStdout(), in, args, text, count)
			switch {
			case ctx.Err() != nil, enough, err == nil && !follow:
				return nil
			case err == nil:
				err = errors.New("the gateway has ended")
			}
			return failure(err)
		},
	})
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "begin so long ago, such as 10m, or at that `time`; without it with all that is kept")
	f.BoolVarP(&follow, "follow", "f", true, "go on with what happens")
	f.IntVar(&count, "count", 0, "end after so many events; 0 is never")
	f.BoolVar(&text, "text", false, "lines for people, as in the log")
	return cmd
}

// known is an error where no peer has that name: nothing would ever be shown.
func (d *door) known(ctx context.Context, peer string) error {
	err := api.Get(ctx, d.socket, peerPath(peer, "explain"), &gateway.Explanation{})
	var e *api.Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		return err
	}
	return nil
}

// maxEvent bounds a line: a paragraph of explanation, and its facts.
const maxEvent = 1 << 20

// printEvents copies lines as they come, those about the one peer if one is named.
func printEvents(w io.Writer, in io.Reader, peer []string, text bool, count int) (enough bool, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEvent)
	for shown := 0; lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return false, fmt.Errorf("the gateway says what makes no sense: %w", err)
		}
		if len(peer) > 0 && e.Peer != peer[0] && e.Event != "missed" {
			continue
		}
		line := lines.Text()
		if text {
			line = logLine(e.Time.Local(), e.Level != "INFO", e.Message)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return false, err
		}
		if shown++; shown == count {
			return true, nil
		}
	}
	return false, lines.Err()
}

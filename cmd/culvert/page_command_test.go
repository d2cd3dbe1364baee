package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/api"
)

// TestPageCommand: it prints where the page is, shows it there until it is told
// to end, and never twice at one address.
func TestPageCommand(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	s, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	memoryDaemon(t).answer(s)
	go func() { _ = s.Serve() }()
	show := func(ctx context.Context, out io.Writer, listen string) error {
		cmd := pageCommand()
		cmd.SetArgs([]string{"--socket", socket, "--listen", listen})
		cmd.SetOut(out)
		cmd.SetErr(io.Discard)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		return cmd.ExecuteContext(ctx)
	}
	ctx, stop := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- show(ctx, out, "127.0.0.1:0"); out.Close() }()
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(line)
	at := regexp.MustCompile(`^http://(127\.0\.0\.1:\d+)/\w{26}/$`).FindStringSubmatch(url)
	if at == nil {
		t.Fatalf("it says %q", line)
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "<title>culvert</title>") {
		t.Errorf("%s: %s, %v", url, resp.Status, err)
	}
	if err := show(t.Context(), io.Discard, at[1]); err == nil || !strings.Contains(err.Error(), at[1]+" is in use") {
		t.Errorf("a second one there: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRecent: strangers who ask all at once cost one answer, and a gateway that does
// not run yet is asked again.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, up := 0, false
		ask := recent(func() (int, bool) { asked++; return asked, up })
		for range 3 {
			if _, ok := ask(); ok {
				t.Error("an answer of none")
			}
		}
		up = true
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if n, ok := ask(); n != 4 || !ok {
					t.Errorf("%d, %v", n, ok)
				}
			})
		}
		all.Wait()
		time.Sleep(recentTime)
		if n, _ := ask(); n != 5 || asked != 5 {
			t.Errorf("%d, asked %d times", n, asked)
		}
	})
}

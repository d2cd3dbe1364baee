//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"culvert/api"
	"culvert/gateway"
	"culvert/lab"
)

func needChromium(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		lack(t, "no chromium here: apt-get install --no-install-recommends chromium")
	}
}

// browse has a browser on a host open a page, and gives what it prints.
func (n *peerNet) browse(h *lab.Host, url string, args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p := h.Command(ctx, "chromium", append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir=" + n.t.TempDir(), "--virtual-time-budget=6000", "--hide-scrollbars"}, append(args, url)...)...)
	var out, said bytes.Buffer
	p.Stdout, p.Stderr = &out, &said
	if err := p.Run(); err != nil {
		n.t.Fatalf("chromium: %v\n%s", err, said.String())
	}
	return out.String()
}

const pageAt = "127.0.0.1:9116"

// pageSide is side B with the page, a second peer, which refuses it for what it
// says it is, and more.
func pageSide(more string) string {
	return "[gateway]\npage = \"" + pageAt + "\"\n" + sideB(plainSuite) + `
[peer.depot]
remote = "203.0.113.1"
local_id = "172.16.0.1"
remote_id = "203.0.113.1"
psk = "` + secret + `"
[peer.depot.tunnel.store]
local = "10.104.0.0/24"
remote = "10.105.0.0/24"
` + more
}

// markup is a peer that is not there, with markup for names.
const markup = `
[peer."<img/src=x/onerror=alert(1)>"]
remote = "203.0.113.99"
local_id = "@foo"
remote_id = "keyid:<b>lab"
psk = "` + secret + `"
[peer."<img/src=x/onerror=alert(1)>".tunnel.lan]
local = "10.104.0.0/24"
remote = "10.106.0.0/24"
`

// refusedPage runs both sides, with traffic, until the page has something to show.
func (n *peerNet) refusedPage(more string) (b *culvertProcess) {
	n.t.Helper()
	_, b = n.pair(sideA(plainSuite), pageSide(more))
	b.wait("event", "refused_by_peer", "peer", "depot")
	n.reaches()
	return b
}

// forwarded is the URL that `culvert page` prints on the gateway of b.
func (n *peerNet) forwarded(b *culvertProcess) (url string) {
	n.t.Helper()
	p := n.GatewayB.Command(context.Background(), os.Args[0], "page", "--socket", b.socket, "--listen", "127.0.0.1:0")
	p.Env = []string{asCulvert + "=1"}
	in, out := io.Pipe()
	p.Stdout, p.Stderr = out, os.Stderr
	if err := p.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			n.t.Error(err)
		}
	})
	url, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// TestStatusPage opens the page of a real gateway in a real browser, through
// `culvert page`: one tunnel up, through a NAT, and one peer that refuses it.
func TestStatusPage(t *testing.T) {
	needChromium(t)
	n := newPeerNet(t)
	b := n.refusedPage(markup)
	eventually(t, "samples", func() bool {
		x := n.history(b)
		return len(x.Peers) == 1 && len(x.Peers[0].BitsIn) > 2
	})
	dom := n.browse(n.GatewayB, n.forwarded(b), "--dump-dom")
	for what, want := range map[string]string{
		"title":          `<title>1/3 up . culvert</title>`,
		"sum":            `<p id="sum">1 of 3 peers up</p>`,
		"looks":          `<body data-drawn="[1-9]`,
		"live":           `<p id="live" class=""`,
		"state":          `<article class="up" data-peer="office">.*?<span class="pill">up</span>`,
		"identities":     `@foo ↔ 203\.0\.113\.1<`,
		"NAT":            `We are behind a NAT\.<.*?class="nat".*?hides us<.*?172\.16\.0\.1:4500<.*?203\.0\.113\.1:4500<`,
		"ports":          `ESP in UDP 4500 ↔ 4500<`,
		"rates":          `<path class="line-in" d="M[\d.]+ [\d.]+L.*?<path class="line-out" d="M[\d.]+ [\d.]+L`,
		"tunnel":         `<b>lan</b></td><td class="mono">10\.104\.0\.0/24</td><td class="mono">10\.103\.0\.0/24</td>`,
		"refused":        `<article class="(connecting|down)" data-peer="depot">.*?<div class="why"><b>[^<]*AUTHENTICATION_FAILED[^<]*</b>[^<]*172\.16\.0\.1`,
		"order":          `data-peer="depot".*data-peer="office"`,
		"names are text": `<h3>&lt;img/src=x/onerror=alert\(1\)&gt;</h3>.*?keyid:&lt;b&gt;lab`,
		"events":         `<li class="warn" data-event="refused_by_peer">.*?<li data-event="child_up">`,
	} {
		if !regexp.MustCompile("(?s)" + want).MatchString(dom) {
			t.Errorf("%s: no %s", what, want)
		}
	}
	if strings.Contains(dom, "<img/") || strings.Contains(dom, "<b>lab") {
		t.Error("a name became markup")
	}
	wantNoSecret(t, "the page", dom)
	if t.Failed() {
		t.Log(dom)
	}
}

func (n *peerNet) history(p *culvertProcess) (x gateway.History) {
	n.t.Helper()
	if err := api.Get(context.Background(), p.socket, "/v1/history", &x); err != nil {
		n.t.Fatal(err)
	}
	return x
}

// screenshot names a file, where a picture of the page is wanted: with
// CULVERT_SCREENSHOT=$PWD/docs/status-page.png the one of the docs.
const screenshot = "CULVERT_SCREENSHOT"

// TestStatusPagePicture takes a picture of the page after some minutes' traffic.
func TestStatusPagePicture(t *testing.T) {
	needChromium(t)
	n := newPeerNet(t)
	dir, err := os.MkdirTemp("", "site")
	if err != nil {
		t.Fatal(err)
	}
	n.dir = dir // a short name, in the picture
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := n.refusedPage("")
	file, long := os.Getenv(screenshot), 100*time.Second
	if file == "" {
		file, long = filepath.Join(t.TempDir(), "page.png"), 0
	}
	ways := n.ways()
	taken := make(chan bool)
	go func() {
		defer close(taken)
		time.Sleep(long)
		n.browse(n.GatewayB, "http://"+pageAt+"/", "--window-size=1240,980", "--screenshot="+file)
	}()
	for i, done := 0, false; !done; i++ {
		n.transfers(ways[i/9%2], 64<<10<<(i*7%5))
		n.history(b)
		select {
		case <-taken:
			done = true
		case <-time.After(400 * time.Millisecond):
		}
	}
	if picture, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(picture, []byte("\x89PNG")) || len(picture) < 20_000 {
		t.Errorf("%d bytes of picture, %v", len(picture), err)
	}
}

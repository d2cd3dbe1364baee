package api

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// page is a status page at a free port, and a way to ask it by any name.
func page(t *testing.T) (ask func(method, path, host string, headers ...string) (int, http.Header, string), host string) {
	t.Helper()
	s, err := ListenPage(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("GET /v1/status", func(*http.Request) (any, error) { return answer{"fine"}, nil })
	go func() { _ = s.Serve() }()
	t.Cleanup(func() { _ = s.Close() })
	return func(method, path, host string, headers ...string) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequest(method, "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(body)
	}, s.Addr().String()
}

// TestPageGuards: the page is for a browser on this machine that meant to go
// there, only shows, and takes nothing from elsewhere.
func TestPageGuards(t *testing.T) {
	ask, host := page(t)
	_, port, _ := strings.Cut(host, ":")
	for _, c := range []struct {
		method, path, host string
		headers            []string
		want               int
	}{
		{"GET", "/", host, nil, 200},
		{"GET", "/", "localhost:" + port, nil, 200},
		{"GET", "/", "[::1]:" + port, nil, 200},
		{"GET", "/v1/status", host, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, 200},
		{"GET", "/", host, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200}, // a link
		{"GET", "/", "evil.example:" + port, nil, 421},
		{"GET", "/v1/status", "evil.example:" + port, nil, 421},
		{"GET", "/v1/status", "127.0.0.1", nil, 421},
		{"GET", "/v1/status", host, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"GET", "/v1/status", host, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"POST", "/v1/status", host, nil, 405},
		{"POST", "/v1/reload", host, nil, 404},
		{"GET", "/page/page.js", host, nil, 404},
		{"GET", "/..%2fpage.go", host, nil, 404},
	} {
		code, headers, _ := ask(c.method, c.path, c.host, c.headers...)
		if code != c.want {
			t.Errorf("%s %s of %s %v: %d, want %d", c.method, c.path, c.host, c.headers, code, c.want)
		}
		if headers.Get("Content-Security-Policy") != policy || headers.Get("X-Content-Type-Options") != "nosniff" || headers.Get("Cache-Control") != "no-store" || headers.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: %v", c.method, c.path, headers)
		}
	}
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css", "/icon.svg": "image/svg+xml"} {
		if _, headers, body := ask("GET", path, host); !strings.HasPrefix(headers.Get("Content-Type"), kind) || body == "" {
			t.Errorf("%s is %s, %d bytes", path, headers.Get("Content-Type"), len(body))
		}
	}
}

// TestPageIsOurs: its files name no other place, have no script or style but in
// files of their own, and make no markup out of text.
func TestPageIsOurs(t *testing.T) {
	foreign := regexp.MustCompile(`(https?:)?//[a-z]+\.|<script>|<style|\sstyle=|\son[a-z]+=|javascript:|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\(|srcdoc`)
	err := fs.WalkDir(pageFiles, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := pageFiles.ReadFile(name)
		text = bytes.ReplaceAll(text, []byte("http://www.w3.org/2000/svg"), nil) // a name, not a place
		if found := foreign.FindAll(text, -1); len(found) > 0 {
			t.Errorf("%s has %q", name, found)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPageAddressInUse(t *testing.T) {
	_, host := page(t)
	if _, err := ListenPage(netip.MustParseAddrPort(host)); err == nil {
		t.Error("two pages at one address")
	}
}

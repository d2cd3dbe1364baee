package api

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// asking is a way to ask a server by any name.
type asking func(method, url, host string, headers ...string) (int, http.Header, string)

func askBy(t *testing.T, client *http.Client) asking {
	return func(method, url, host string, headers ...string) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(body)
	}
}

// page is a status page at a free port.
func page(t *testing.T) (host string) {
	t.Helper()
	s, err := ListenPage(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	handleStatus(s, running)
	go func() { _ = s.Serve() }()
	t.Cleanup(func() { _ = s.Close() })
	return s.Addr().String()
}

// TestPageGuards: the page, and all that the control socket answers where a port
// is forwarded to it, is for a browser on this machine that meant to go there.
func TestPageGuards(t *testing.T) {
	host := page(t)
	_, port, _ := strings.Cut(host, ":")
	socket := serve(t, running, (*Server).ShowPage, func(s *Server) {
		s.Handle("POST /v1/reload", func(*http.Request) (any, error) { return answer{"fine"}, nil })
	})
	open, control := askBy(t, http.DefaultClient), askBy(t, newClient(socket, 0))
	none, other := []string(nil), []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}
	link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}
	for _, c := range []struct {
		method, path, host string
		headers            []string
		page, control      int
	}{
		{"GET", "/", host, none, 200, 200},
		{"GET", "/", "localhost:" + port, none, 200, 200},
		{"GET", "/", "localhost:8080", none, 200, 200}, // forwarded
		{"GET", "/", "localhost", none, 200, 200},
		{"GET", "/", "culvert", none, 200, 200},
		{"GET", "/", "[::1]:" + port, none, 200, 200},
		{"GET", "/v1/status", host, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, 200, 200},
		{"GET", "/", host, link, 200, 200},
		{"GET", "/", "evil.example:" + port, none, 421, 421},
		{"GET", "/v1/status", "evil.example", none, 421, 421},
		{"GET", "/v1/status", "127.0.0.1.evil.example", none, 421, 421},
		{"GET", "/v1/status", "192.0.2.1", none, 421, 421},
		{"GET", "/v1/status", host, other, 403, 403},
		{"GET", "/v1/status", host, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, 403, 403},
		{"POST", "/v1/status", host, none, 405, 405},
		{"POST", "/v1/reload", host, none, 404, 200},
		{"POST", "/v1/reload", host, other, 403, 403},
		{"POST", "/v1/reload", host, link, 403, 403},
		{"POST", "/v1/reload", host, []string{"Origin", "http://evil.example"}, 403, 403},
		{"POST", "/v1/reload", "evil.example", []string{"Origin", "http://evil.example"}, 421, 421},
		{"GET", "/page/page.js", host, none, 404, 404},
		{"GET", "/..%2fpage.go", host, none, 404, 404},
	} {
		for name, got := range map[string]func() (int, http.Header, string){
			"page": func() (int, http.Header, string) { return open(c.method, "http://"+host+c.path, c.host, c.headers...) },
			"control": func() (int, http.Header, string) {
				return control(c.method, "http://culvert"+c.path, c.host, c.headers...)
			},
		} {
			code, headers, _ := got()
			if want := map[string]int{"page": c.page, "control": c.control}[name]; code != want {
				t.Errorf("%s: %s %s of %s %v: %d, want %d", name, c.method, c.path, c.host, c.headers, code, want)
			}
			for header, want := range pageHeaders {
				if got := headers.Get(header); got != want {
					t.Errorf("%s: %s %s: %s is %q", name, c.method, c.path, header, got)
				}
			}
			if headers.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %s %s: %v", name, c.method, c.path, headers)
			}
		}
	}
	for path, part := range pageParts {
		if _, headers, body := open("GET", "http://"+host+path, host); headers.Get("Content-Type") != part.Type || body != string(part.Body) {
			t.Errorf("%s is %s, %d bytes", path, headers.Get("Content-Type"), len(body))
		}
	}
}

// TestPageIsOurs: its files name no other place, have no script or style but in
// files of their own, and make no markup out of text.
func TestPageIsOurs(t *testing.T) {
	foreign := regexp.MustCompile(`(https?:)?//[a-z]+\.|<script>|<style|\sstyle=|\son[a-z]+=|javascript:|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\(|srcdoc`)
	for name, part := range pageParts {
		text := bytes.ReplaceAll(part.Body, []byte("http://www.w3.org/2000/svg"), nil) // a name, not a place
		if found := foreign.FindAll(text, -1); len(text) == 0 || len(found) > 0 {
			t.Errorf("%s has %q", name, found)
		}
	}
}

func TestPageAddressInUse(t *testing.T) {
	host := page(t)
	if _, err := ListenPage(netip.MustParseAddrPort(host)); err == nil {
		t.Error("two pages at one address")
	}
}

package api

import (
	"embed"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
)

// The status page: files of ours and nothing else's. It is a document, a script
// that asks /v1/status, /v1/history and /v1/events and draws, and a style.
//
//go:embed page
var pageFiles embed.FS

var pageTypes = map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

// ListenPage opens a loopback address, and answers with the status page there. A
// browser on this machine is asked to keep all others' pages away from it.
func ListenPage(addr netip.AddrPort) (*Server, error) {
	s, err := ListenTCP(addr)
	if err != nil {
		return nil, err
	}
	s.http.Handler = onlyFor(s.Addr().(*net.TCPAddr).AddrPort(), s.mux)
	for pattern, name := range map[string]string{"GET /{$}": "index.html", "GET /page.js": "page.js", "GET /page.css": "page.css", "GET /icon.svg": "icon.svg"} {
		body, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			return nil, err
		}
		s.Handle(pattern, func(*http.Request) (any, error) { return Text{pageTypes[path.Ext(name)], body}, nil })
	}
	return s, nil
}

// policy lets the page load what is ours, run no script but its own, and be in
// nobody's frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// onlyFor answers those who know the server by its own name: a page of somebody
// else's, whose name leads here (DNS rebinding), does not, and neither does one
// that is called from another site.
func onlyFor(addr netip.AddrPort, next http.Handler) http.Handler {
	port := strconv.Itoa(int(addr.Port()))
	names := map[string]bool{}
	for _, host := range []string{addr.Addr().String(), "localhost", "127.0.0.1", "::1"} {
		names[net.JoinHostPort(host, port)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for name, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			h.Set(name, value)
		}
		site := r.Header.Get("Sec-Fetch-Site")
		navigation := r.Header.Get("Sec-Fetch-Mode") == "navigate"
		switch {
		case !names[r.Host]:
			refuse(w, &Error{Status: http.StatusMisdirectedRequest, Message: "this is the status page of " + addr.String() + ", and of no other name"})
		case (site == "cross-site" || site == "same-site") && !navigation:
			refuse(w, &Error{Status: http.StatusForbidden, Message: "the status page answers no other site"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

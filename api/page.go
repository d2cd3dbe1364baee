package api

import (
	_ "embed" // for the page
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// The status page: files of ours and nothing else's. All that they name is
// relative, so that the page may be anywhere.
var (
	//go:embed page/index.html
	indexHTML []byte
	//go:embed page/page.js
	pageJS []byte
	//go:embed page/page.css
	pageCSS []byte
	//go:embed page/icon.svg
	iconSVG []byte
)

// pageParts are those files by where they are asked for.
var pageParts = map[string]Text{
	"/":         {"text/html; charset=utf-8", indexHTML},
	"/page.js":  {"text/javascript; charset=utf-8", pageJS},
	"/page.css": {"text/css; charset=utf-8", pageCSS},
	"/icon.svg": {"image/svg+xml", iconSVG},
}

// pageAsks is what the page asks a gateway for.
var pageAsks = map[string]bool{"/v1/status": true, "/v1/history": true, "/v1/events": true}

// ShowPage answers GET / with the status page.
func (s *Server) ShowPage() {
	for at, part := range pageParts {
		if at == "/" {
			at = "/{$}"
		}
		s.mux.HandleFunc("GET "+at, func(w http.ResponseWriter, _ *http.Request) { writeAnswer(w, part) })
	}
}

// ListenPage opens a loopback address to every user of this machine, with the
// status page.
func ListenPage(addr netip.AddrPort) (*Server, error) {
	s, err := listenTCP(addr, noOtherSites)
	if err != nil {
		return nil, err
	}
	s.ShowPage()
	return s, nil
}

// policy lets the page load what is ours, run no script but its own, and be in
// nobody's frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var pageHeaders = map[string]string{
	"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
	"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
}

// noOtherSites keeps away what a browser on this machine asks for on behalf of
// somebody else's page: of one whose name leads here (DNS rebinding), and of one
// that calls another site. A control socket is in a browser's reach where
// somebody forwards a port to it.
func noOtherSites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range pageHeaders {
			w.Header().Set(name, value)
		}
		switch {
		case !ourName(r.Host):
			refuse(w, &Error{Status: http.StatusMisdirectedRequest, Message: "this is culvert, localhost or a loopback address, and has no other name"})
		case fromOtherSite(r):
			refuse(w, &Error{Status: http.StatusForbidden, Message: "culvert answers no other site"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ourName: nobody else can make the name lead here. The port may be one that is
// forwarded.
func ourName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "culvert" || host == "localhost" || err == nil && addr.IsLoopback()
}

var crossOrigin = http.NewCrossOriginProtection()

// fromOtherSite: a link may lead to what only looks.
func fromOtherSite(r *http.Request) bool {
	if err := crossOrigin.Check(r); err != nil {
		return true
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

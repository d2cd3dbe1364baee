package api

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"net/netip"
)

// ForwardPage opens a loopback address, with the status page of the gateway at a
// socket for whoever knows the URL: other users of this machine cannot guess it.
// It forwards what the page asks for, and nothing else. There has to be a gateway
// now; later it may come and go.
func ForwardPage(addr netip.AddrPort, socket string) (s *Server, url string, err error) {
	token, client := rand.Text(), newClient(socket, clientTime)
	if _, err := forward(context.Background(), client, socket, "/"); err != nil {
		return nil, "", err
	}
	s, err = listenTCP(addr, noOtherSites)
	if err != nil {
		return nil, "", err
	}
	s.Handle("GET /{token}/{path...}", func(r *http.Request) (any, error) {
		path := "/" + r.PathValue("path")
		known := subtle.ConstantTimeCompare([]byte(r.PathValue("token")), []byte(token)) == 1
		if _, isPart := pageParts[path]; !known || !isPart && !pageAsks[path] {
			return nil, &Error{Status: http.StatusNotFound, Message: "the status page is at the whole address that `culvert page` has printed"}
		}
		return forward(r.Context(), client, socket, path+"?"+r.URL.RawQuery)
	})
	return s, fmt.Sprintf("http://%v/%s/", s.Addr(), token), nil
}

// forward has all of an answer before any of it goes on: no browser holds up the
// gateway.
func forward(ctx context.Context, client *http.Client, socket, path string) (any, error) {
	resp, err := send(ctx, client, socket, http.MethodGet, path, nil)
	if err != nil {
		return nil, &Error{Status: http.StatusBadGateway, Message: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &Error{Status: http.StatusBadGateway, Message: askError(socket, client.Timeout, err).Error()}
	}
	return Text{resp.Header.Get("Content-Type"), body}, nil
}

package gateway

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ikev2"
	"culvert/natt/nattest"
)

// What leads into the device for a pool is no more than the pool, but for the
// first and last address of its network.
func TestPoolPrefixes(t *testing.T) {
	for _, c := range []struct{ first, last, want string }{
		{"10.9.0.1", "10.9.0.254", "[10.9.0.0/24]"},
		{"10.9.0.0", "10.9.0.255", "[10.9.0.0/24]"},
		{"10.9.0.5", "10.9.0.5", "[10.9.0.5/32]"},
		{"10.9.0.6", "10.9.0.7", "[10.9.0.6/31]"},
		{"10.103.0.200", "10.103.0.220", "[10.103.0.200/29 10.103.0.208/29 10.103.0.216/30 10.103.0.220/32]"},
		{"255.255.255.254", "255.255.255.255", "[255.255.255.254/31]"},
		{"fd00:9::1", "fd00:9::ffff:ffff:ffff:ffff", "[fd00:9::/64]"},
		{"fd00:9::10", "fd00:9::20", "[fd00:9::10/124 fd00:9::20/128]"},
	} {
		got := poolPrefixes(ikev2.Pool{First: netip.MustParseAddr(c.first), Last: netip.MustParseAddr(c.last)})
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s-%s: %v, want %s", c.first, c.last, got, c.want)
		}
	}
}

// The server of the tests leases addresses to its client.
var (
	textServer = strings.Replace(with(textA, "pools", `"laptops"`), `remote = "10.104.0.0/24"`, `remote = "dynamic"`, 1) + `
[pool.laptops]
addresses = "10.9.0.0/24"
dns = "10.103.0.53"
`
	textClient = strings.Replace(with(textB, "request_address", `"ipv4"`), `local = "10.104.0.0/24"`, `local = "dynamic"`, 1)
)

// A client's address is on its device, and the route's source, as long as the
// server assigns no other; what a server knows of its leases is in a file.
func TestAddressOnDevice(t *testing.T) {
	inWorld(t, nattest.Config{Latency: 10 * time.Millisecond}, func(w *world) {
		dir := t.TempDir()
		leases := filepath.Join(dir, "leases.json")
		server := textServer + "[gateway]\nlease_file = \"" + leases + "\"\n"
		a := w.start(w.net.A, "a", server)
		b := w.start(w.net.B, "b", textClient)
		w.untilUp(a, b, 2*time.Second)
		b.wantDevice("[10.9.0.1]", "10.9.0.1")
		if !a.routes.there("10.9.0.0/24") {
			t.Error("the server has no route to its pool")
		}
		s := b.status().Peers[0]
		if s.Assigned == nil || fmt.Sprint(*s.Assigned) != "{[10.9.0.1/32] [10.103.0.53] [] []}" {
			t.Errorf("status says %+v", s.Assigned)
		}
		if l := a.status().Leases; len(l) != 1 || l[0] != (LeaseStatus{"laptops", netip.MustParseAddr("10.9.0.1"), "203.0.113.1", "@foo", true}) {
			t.Errorf("status says %+v", l)
		}
		w.until("lease file", 2*trafficInterval, func() bool { _, err := os.Stat(leases); return err == nil })
		a.end()
		w.until("no connection", 5*time.Second, func() bool { return b.status().Peers[0].Assigned == nil })
		b.wantDevice("[10.9.0.1]", "10.9.0.1")

		text, err := os.ReadFile(leases)
		noError(w, err)
		noError(w, os.WriteFile(leases, []byte(strings.Replace(string(text), "10.9.0.1", "10.9.0.7", 1)), 0o600))
		a = w.start(w.net.A, "a", server)
		w.untilUp(a, b, time.Minute)
		b.wantDevice("[10.9.0.7]", "10.9.0.7")
	})
}

func (s *site) wantDevice(addrs, source string) {
	s.w.Helper()
	got, from := s.routes.device("10.103.0.0/24")
	if fmt.Sprint(got) != addrs || from.String() != source {
		s.w.Errorf("%s has %v, sends from %v, want %s and %s", s.name, got, from, addrs, source)
	}
}

// A lease file that makes no sense costs nothing but the leases.
func TestBadLeaseFile(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{", "another form": `{"leases": {"a": 1}}`, "no addresses": `{"leases": [{}, {"pool": "laptops", "address": "", "local_id": "@a", "remote_id": "@b"}]}`,
		"another pool": `{"leases": [{"pool": "x", "address": "10.9.0.9", "local_id": "203.0.113.1", "remote_id": "@foo"}]}`,
		"outside":      `{"leases": [{"pool": "laptops", "address": "10.8.0.9", "local_id": "203.0.113.1", "remote_id": "@foo"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, nattest.Config{Latency: 10 * time.Millisecond}, func(w *world) {
				leases := filepath.Join(t.TempDir(), "leases.json")
				noError(w, os.WriteFile(leases, []byte(text), 0o600))
				a := w.start(w.net.A, "a", textServer+"[gateway]\nlease_file = \""+leases+"\"\n")
				b := w.start(w.net.B, "b", textClient)
				w.untilUp(a, b, 2*time.Second)
				b.wantDevice("[10.9.0.1]", "10.9.0.1")
				if said := len(a.log.of("lease_file_failed")) > 0; said != slices.Contains([]string{"no JSON", "another form"}, name) {
					t.Errorf("said: %v", a.log.of("lease_file_failed"))
				}
			})
		})
	}
}

package gateway

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/natt"
	"culvert/natt/nattest"
)

// otherPeer is one beside A's, which is not there.
const otherPeer = `
[peer.other]
remote = "any"
local_id = "203.0.113.1"
remote_id = "@other"
psk = "` + secretKey + `"
[peer.other.tunnel.lan]
local = "10.103.0.0/24"
remote = "10.110.0.0/24"
`

// blamed are the peers of a finding of that code, "" for the gateway itself.
func (s *site) blamed(of, code string) (peers []string) {
	s.w.Helper()
	x, err := s.Explain(of)
	noError(s.w, err)
	for _, f := range x.Findings {
		if f.Code == code {
			peers = append(peers, f.Peer)
		}
	}
	return peers
}

// TestDropsOfPeers: what is dropped is known to be of the peer whose SA or tunnel
// it was for, in the status, the metrics, the log and what is explained, and is not
// forgotten with the SA.
func TestDropsOfPeers(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.FullCone}, func(w *world) {
		a, b := w.pair(textA+otherPeer, textB)
		w.crosses(b, a, fromB(1, 100))
		w.crosses(a, b, fromA(1, 100))
		esp := w.sent(func(d nattest.Datagram) bool {
			return d.To.Port() == 4500 && d.From.Addr() == nattest.PrivateB && natt.Classify(d.Bytes) == natt.ESP
		})[0]
		stranger, err := w.net.C.Listen(netip.AddrPortFrom(netip.Addr{}, 4500), natt.Options{NATT: true})
		noError(w, err)
		defer stranger.Close()
		const replayed = 150
		for range replayed {
			_, err := stranger.Send([]natt.Run{{Bytes: slices.Clone(esp.Bytes), Path: natt.Path{Remote: esp.To}}})
			noError(w, err)
		}
		a.device.InjectPacket(udp(netip.MustParseAddrPort("10.103.0.1:9"), netip.MustParseAddrPort("10.110.0.1:9"), []byte("x")))
		time.Sleep(2 * trafficInterval)
		want := map[string]map[string]uint64{"remote": {"replayed": replayed}, "other": {"no_outbound_sa": 1}}
		wantDrops := func() {
			t.Helper()
			for _, p := range a.status().Peers {
				if !reflect.DeepEqual(p.Drops, want[p.Name]) {
					t.Errorf("of %s are dropped %v, want %v", p.Name, p.Drops, want[p.Name])
				}
			}
		}
		wantDrops()
		s := a.status()
		if s.Drops["replayed"] != replayed || s.Drops["no_outbound_sa"] != 1 {
			t.Errorf("dropped %v", s.Drops)
		}
		var metrics strings.Builder
		noError(t, s.WriteMetrics(&metrics))
		for _, line := range []string{`{peer="remote",counter="replayed"} 150`, `{peer="other",counter="no_outbound_sa"} 1`} {
			if !strings.Contains(metrics.String(), "\nculvert_peer_dropped_packets_total"+line+"\n") {
				t.Errorf("no %s in\n%s", line, metrics.String())
			}
		}
		for of, want := range map[string][]string{"": {"remote"}, "remote": {"remote"}, "other": nil} {
			if got := a.blamed(of, "dropped_replayed"); !slices.Equal(got, want) {
				t.Errorf("of %q: %q are blamed, want %q", of, got, want)
			}
		}
		a.explains(true, []string{"dropped_replayed", "waiting", "dropped_no_outbound_sa"}, "On connection remote, ESP packets came in a second time: 150 in", "Down now: other")
		if n := a.logged("dropped_replayed"); n != 1 {
			t.Errorf("logged %d times", n)
		}

		_, err = b.Rekey("remote", "lan")
		noError(t, err)
		time.Sleep(2 * time.Minute)
		wantDrops()
		_, err = b.Disconnect("remote")
		noError(t, err)
		w.until("the connection is down", time.Minute, a.isDown)
		wantDrops()
		a.explains(true, []string{"deleted_by_peer", "waiting"})
	})
}

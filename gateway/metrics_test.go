package gateway

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/natt/nattest"
)

// TestMetricsFormat is the text format, with names that need escaping.
func TestMetricsFormat(t *testing.T) {
	start := time.Unix(1_700_000_000, 5)
	s := Status{Started: start, Device: DeviceStatus{MTU: 1438}, Leases: []LeaseStatus{{InUse: true}, {}}, Drops: map[string]uint64{"runt": 3, "replayed": 0},
		Peers: []PeerStatus{
			{Name: "a \"b\"\\c\nd", State: "up", Since: start.Add(time.Second), Children: []ChildStatus{{LastIn: start.Add(3 * time.Second)}, {LastIn: start.Add(2 * time.Second)}},
				Totals: Totals{Established: 1, Failed: 2, IKERekeys: 3, ChildRekeys: 4, PacketsIn: 5, BytesIn: 6, PacketsOut: 7, BytesOut: 1 << 63}},
			{Name: "büro", State: "connecting", RoundTrip: 0.0125},
		}}
	var b strings.Builder
	noError(t, s.WriteMetrics(&b))
	for _, want := range []string{
		"# HELP culvert_peer_up 1 while an IKE SA with the peer is up.\n# TYPE culvert_peer_up gauge\n" + `culvert_peer_up{peer="a \"b\"\\c\nd"} 1` + "\n" + `culvert_peer_up{peer="büro"} 0` + "\n",
		"culvert_start_time_seconds 1700000000\n", "culvert_device_mtu_bytes 1438\n", "culvert_leases_in_use 1\n",
		`culvert_peer_last_receive_seconds{peer="a \"b\"\\c\nd"} 1700000003`, `culvert_peer_last_receive_seconds{peer="büro"} 0`,
		`culvert_peer_transmit_bytes_total{peer="a \"b\"\\c\nd"} 9223372036854775808`,
		`culvert_peer_round_trip_seconds{peer="büro"} 0.0125` + "\n", `culvert_counter_total{counter="replayed"} 0` + "\n" + `culvert_counter_total{counter="runt"} 3` + "\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) culvert_\w+ .+|culvert_\w+(\{\w+="([^"\\\n]|\\["\\n])*"\})? \d+(\.\d+)?)$`)
	for l := range strings.Lines(b.String()) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("line %q", l)
		}
	}
	for _, m := range metrics {
		if (m.kind == "counter") != strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
	}
}

// sampled are the samples of a gateway's only peer.
func (s *site) sampled() map[string]uint64 {
	s.w.Helper()
	now := s.status()
	var b strings.Builder
	noError(s.w, now.WriteMetrics(&b))
	found := map[string]uint64{}
	for _, m := range regexp.MustCompile(`(?m)^culvert_peer_(\w+)\{peer="remote"\} (\d+)$`).FindAllStringSubmatch(b.String(), -1) {
		n, err := strconv.ParseUint(m[2], 10, 64)
		noError(s.w, err)
		found[m[1]] = n
	}
	return found
}

// TestMetricsOutliveSAs: new keys, the end of a connection and another one take
// nothing from what was counted.
func TestMetricsOutliveSAs(t *testing.T) {
	inWorld(t, nattest.Config{NAT: nattest.OneToOne, Latency: time.Millisecond}, func(w *world) {
		a, b := w.pair(textA, textB)
		want := func(key string, n uint64) {
			t.Helper()
			for _, s := range []*site{a, b} {
				if got := s.sampled()[key]; got != n {
					t.Errorf("%s: %s is %d, want %d", s.name, key, got, n)
				}
			}
		}
		before := b.sampled()
		grown := func() {
			t.Helper()
			w.carries(a, b)
			w.settle()
			for key, n := range b.sampled() {
				if strings.HasSuffix(key, "_total") && n < before[key] {
					t.Errorf("%s fell from %d to %d", key, before[key], n)
				}
				if slices.Contains([]string{"receive_packets_total", "transmit_packets_total", "receive_bytes_total", "transmit_bytes_total"}, key) && n <= before[key] {
					t.Errorf("%s is %d, and was %d before", key, n, before[key])
				}
			}
			before = b.sampled()
		}
		want("up", 1)
		want("established_total", 1)
		grown()
		_, err := b.Rekey("remote", "lan")
		noError(w, err)
		w.settle()
		time.Sleep(time.Minute) // the old one is gone
		grown()
		want("child_rekeys_total", 1)
		_, err = b.RekeyIKE("remote")
		noError(w, err)
		w.settle()
		grown()
		want("ike_rekeys_total", 1)
		_, err = b.Disconnect("remote")
		noError(w, err)
		w.until("the connection is down", time.Minute, func() bool { return a.isDown() && b.isDown() })
		want("up", 0)
		_, err = b.Connect("remote")
		noError(w, err)
		w.untilUp(a, b, time.Minute)
		want("established_total", 2)
		grown()
		want("failed_total", 0)
	})
}

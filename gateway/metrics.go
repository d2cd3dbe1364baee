package gateway

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// metric is one family of Prometheus: its samples are what each gives of a
// status.
type metric struct {
	name, kind, help string
	samples          func(s *Status, add func(value any, labels ...string))
}

// perPeer is a family with one sample a peer.
func perPeer(name, kind, help string, value func(*PeerStatus) any) metric {
	return metric{name, kind, help, func(s *Status, add func(any, ...string)) {
		for i := range s.Peers {
			add(value(&s.Peers[i]), "peer", s.Peers[i].Name)
		}
	}}
}

func one(name, help string, value func(*Status) any) metric {
	return metric{name, "gauge", help, func(s *Status, add func(any, ...string)) { add(value(s)) }}
}

// metrics is every family. Labels are names out of the configuration, and those
// of counters: nobody outside can make more series than there are of these.
var metrics = []metric{
	one("culvert_start_time_seconds", "When the gateway started, in Unix time.", func(s *Status) any { return unixSeconds(s.Started) }),
	one("culvert_device_mtu_bytes", "The MTU of the device.", func(s *Status) any { return s.Device.MTU }),
	one("culvert_leases_in_use", "Virtual addresses that peers have.", func(s *Status) any {
		n := 0
		for _, l := range s.Leases {
			if l.InUse {
				n++
			}
		}
		return n
	}),
	perPeer("culvert_peer_up", "gauge", "1 while an IKE SA with the peer is up.", func(p *PeerStatus) any {
		if p.State == "up" {
			return 1
		}
		return 0
	}),
	perPeer("culvert_peer_child_sas", "gauge", "Child SAs with the peer that can send.", func(p *PeerStatus) any { return len(p.Children) }),
	perPeer("culvert_peer_state_since_seconds", "gauge", "When the peer's state began, in Unix time; 0 before there was one.", func(p *PeerStatus) any { return unixSeconds(p.Since) }),
	perPeer("culvert_peer_last_receive_seconds", "gauge", "When a packet of the peer's child SAs last came in, in Unix time; 0 if none did.", func(p *PeerStatus) any {
		return unixSeconds(p.latest(func(c *ChildStatus) time.Time { return c.LastIn }))
	}),
	perPeer("culvert_peer_last_transmit_seconds", "gauge", "When a packet last went out to the peer's child SAs, in Unix time; 0 if none did.", func(p *PeerStatus) any {
		return unixSeconds(p.latest(func(c *ChildStatus) time.Time { return c.LastOut }))
	}),
	perPeer("culvert_peer_established_total", "counter", "IKE SAs that both sides were authenticated for.", func(p *PeerStatus) any { return p.Totals.Established }),
	perPeer("culvert_peer_failed_total", "counter", "Attempts that the peer refused or did not answer.", func(p *PeerStatus) any { return p.Totals.Failed }),
	perPeer("culvert_peer_ike_rekeys_total", "counter", "New keys for the IKE SA.", func(p *PeerStatus) any { return p.Totals.IKERekeys }),
	perPeer("culvert_peer_child_rekeys_total", "counter", "New keys for child SAs.", func(p *PeerStatus) any { return p.Totals.ChildRekeys }),
	perPeer("culvert_peer_receive_packets_total", "counter", "Inner packets from the peer.", func(p *PeerStatus) any { return p.Totals.PacketsIn }),
	perPeer("culvert_peer_receive_bytes_total", "counter", "Their bytes, inside ESP.", func(p *PeerStatus) any { return p.Totals.BytesIn }),
	perPeer("culvert_peer_transmit_packets_total", "counter", "Inner packets to the peer.", func(p *PeerStatus) any { return p.Totals.PacketsOut }),
	perPeer("culvert_peer_transmit_bytes_total", "counter", "Their bytes, inside ESP.", func(p *PeerStatus) any { return p.Totals.BytesOut }),
	{"culvert_peer_round_trip_seconds", "gauge", "How long the peer took to answer the last request of ours that tells, such as a liveness check; absent before there was one, and while it is not up.", func(s *Status, add func(any, ...string)) {
		for i := range s.Peers {
			if p := &s.Peers[i]; p.RoundTrip > 0 {
				add(p.RoundTrip, "peer", p.Name)
			}
		}
	}},
	{"culvert_peer_dropped_packets_total", "counter", "What was dropped of the packets to and from the peer, by its name in culvert status; absent while it is none.", func(s *Status, add func(any, ...string)) {
		for i := range s.Peers {
			p := &s.Peers[i]
			for _, name := range slices.Sorted(maps.Keys(p.Drops)) {
				add(p.Drops[name], "peer", p.Name, "counter", name)
			}
		}
	}},
	{"culvert_counter_total", "counter", "What was dropped, or did not go the usual way, by its name in culvert status.", func(s *Status, add func(any, ...string)) {
		for _, name := range slices.Sorted(maps.Keys(s.Drops)) {
			add(s.Drops[name], "counter", name)
		}
	}},
}

// WriteMetrics writes a status in the text format of Prometheus, version 0.0.4.
func (s *Status) WriteMetrics(w io.Writer) error {
	var b strings.Builder
	for _, m := range metrics {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		m.samples(s, func(value any, labels ...string) {
			b.WriteString(m.name)
			for i, before := 0, '{'; i < len(labels); i, before = i+2, ',' {
				fmt.Fprintf(&b, `%c%s="%s"`, before, labels[i], labelEscapes.Replace(labels[i+1]))
			}
			if len(labels) > 0 {
				b.WriteByte('}')
			}
			fmt.Fprintf(&b, " %v\n", value)
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func unixSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (p *PeerStatus) latest(of func(*ChildStatus) time.Time) (last time.Time) {
	for i := range p.Children {
		if t := of(&p.Children[i]); t.After(last) {
			last = t
		}
	}
	return last
}

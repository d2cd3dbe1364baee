package gateway

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"culvert/espcrypto/aesgcm"
	"culvert/ikev2"
	"culvert/natt"
)

// Status is a gateway at one moment, as `culvert status` shows it.
type Status struct {
	Started time.Time         `json:"started"`
	Config  string            `json:"config"`
	Device  DeviceStatus      `json:"device"`
	AESGCM  string            `json:"aes_gcm"` // the path that AES-GCM takes: aesgcm.Path
	Peers   []PeerStatus      `json:"peers"`
	Leases  []LeaseStatus     `json:"leases"`
	Drops   map[string]uint64 `json:"drops"` // by name; what is zero is there too
	// Findings are what Explain has beside each peer's Problem: of tunnels that
	// carry nothing, and of what is dropped.
	Findings []Finding `json:"findings"`
}

// DeviceStatus is the two edges of the data path.
type DeviceStatus struct {
	Name       string `json:"name"`
	MTU        int    `json:"mtu"`
	Lanes      int    `json:"lanes"`
	Offload    string `json:"offload"`
	UDPOffload string `json:"udp_offload"`
}

// PeerStatus is one configured peer and its IKE SA. State is "up",
// "connecting" or "down"; Problem says why it is not up, in plain words, and
// stays until it is.
type PeerStatus struct {
	Name          string         `json:"name"`
	State         string         `json:"state"`
	Since         time.Time      `json:"since,omitzero"`
	LocalID       string         `json:"local_id"`
	RemoteID      string         `json:"remote_id"`
	LocalAddress  netip.AddrPort `json:"local_address"`
	RemoteAddress netip.AddrPort `json:"remote_address"`
	NAT           string         `json:"nat"`
	Initiator     bool           `json:"initiator"`
	Resumed       bool           `json:"resumed,omitempty"`
	InitiatorSPI  string         `json:"initiator_spi,omitempty"`
	ResponderSPI  string         `json:"responder_spi,omitempty"`
	Suite         string         `json:"suite,omitempty"`
	PostQuantum   bool           `json:"post_quantum"`
	Attempt       int            `json:"attempt,omitempty"`
	Problem       string         `json:"problem,omitempty"`
	Why           string         `json:"why,omitempty"` // Problem in a line
	// BitsIn and BitsOut are inside ESP, a second, over the last ones. RoundTrip
	// is how many seconds the peer took to answer the last request that tells;
	// absent before there was one.
	BitsIn    float64 `json:"bits_in"`
	BitsOut   float64 `json:"bits_out"`
	RoundTrip float64 `json:"round_trip,omitempty"`
	// PathMTU is the largest packet in bytes that has reached the peer, of those
	// that it is sent; absent where that has not been measured.
	PathMTU int `json:"path_mtu,omitempty"`
	// Assigned is what the peer assigned to us, and says of its network.
	Assigned *AssignedStatus `json:"assigned,omitempty"`
	Children []ChildStatus   `json:"children"`
	Totals   Totals          `json:"totals"`
	// Drops are what was dropped of the peer's packets, to it and from it, since
	// Totals began, by name; what is zero is not there. They are in the gateway's
	// Drops too.
	Drops map[string]uint64 `json:"drops,omitempty"`
}

// AssignedStatus are our addresses at a peer, and what the peer says of the
// networks behind it. Nothing is done with name servers and domains.
type AssignedStatus struct {
	Addresses []netip.Prefix `json:"addresses"`
	DNS       []netip.Addr   `json:"dns,omitempty"`
	Domains   []string       `json:"domains,omitempty"`
	Subnets   []netip.Prefix `json:"subnets,omitempty"`
}

// ChildStatus is one child SA. Packets and bytes are inner packets that went
// through, and their bytes inside ESP.
type ChildStatus struct {
	Name        string    `json:"name"`
	Since       time.Time `json:"since"`
	InboundSPI  string    `json:"inbound_spi"`
	OutboundSPI string    `json:"outbound_spi"`
	Suite       string    `json:"suite"`
	// Lane is the one that the child is for, from 0.
	Lane       int       `json:"lane"`
	Local      []string  `json:"local"`
	Remote     []string  `json:"remote"`
	PacketsIn  uint64    `json:"packets_in"`
	BytesIn    uint64    `json:"bytes_in"`
	PacketsOut uint64    `json:"packets_out"`
	BytesOut   uint64    `json:"bytes_out"`
	LastIn     time.Time `json:"last_in,omitzero"`
	LastOut    time.Time `json:"last_out,omitzero"`
}

// Status asks the running gateway. False when it is not running: before Run,
// and when that is done.
func (g *Gateway) Status() (Status, bool) {
	path, _ := aesgcm.Path() // whoever starts a gateway has looked at the error
	s := Status{Started: g.started, AESGCM: path, Device: DeviceStatus{
		Name: g.doors.Device.Name(), MTU: g.doors.Device.MTU(), Lanes: len(g.doors.lanes()),
		Offload: g.doors.Device.Offload().String(), UDPOffload: g.doors.NATT.Offload(),
	}}
	ok := g.ask(func(c *control) {
		s.Config, s.Drops, s.Leases = g.cfg.File, c.drops(), c.leases()
		children, totals := c.childrenByPeer(), c.totalsByPeer()
		for _, p := range g.cfg.Peers {
			peer := c.peers[p.Name].PeerStatus
			peer.Assigned = c.assignedStatus(p.Name)
			peer.Children = append([]ChildStatus{}, children[p.Name]...) // a list in JSON, empty or not
			peer.Totals, peer.Drops = totals[p.Name], c.droppedOf(p.Name).named()
			last := c.history.last(p.Name)
			peer.BitsIn, peer.BitsOut, peer.RoundTrip = float64(last.in), float64(last.out), c.roundTrip(p.Name).Seconds()
			peer.PathMTU = c.reached(p.Name)
			s.Peers = append(s.Peers, peer)
		}
		s.Findings = slices.DeleteFunc(c.findings(), func(f Finding) bool {
			return f.Peer != "" && (f.Text == c.peers[f.Peer].Problem || c.peers[f.Peer].State != "up")
		})
	})
	return s, ok
}

// drops is everything that was dropped anywhere in the gateway, by name.
func (c *control) drops() map[string]uint64 {
	all := c.g.counters.Snapshot()
	maps.Copy(all, c.engine.Drops())
	add := func(of string, conn natt.Conn) {
		for k, n := range conn.Counters() {
			all[of+k] += n
		}
	}
	add("udp500_", c.g.doors.IKE)
	for _, l := range c.g.doors.lanes() {
		add("udp4500_", l.NATT)
	}
	return all
}

// childrenByPeer is in the order of inbound SPIs. A child that cannot send is
// about to take another's place, or has lost its own.
func (c *control) childrenByPeer() map[string][]ChildStatus {
	by := map[string][]ChildStatus{}
	for _, spi := range slices.Sorted(maps.Keys(c.children)) {
		if ch := c.children[spi]; ch.out != nil {
			by[ch.Peer] = append(by[ch.Peer], ch.status())
		}
	}
	return by
}

func (ch *child) status() ChildStatus {
	s := ChildStatus{
		Name: ch.Name, Since: ch.since, InboundSPI: spiText(ch.InboundSPI), OutboundSPI: spiText(ch.OutboundSPI),
		Suite: ikev2.ESPSuite(ch.Suite).String(), Lane: ch.Lane,
	}
	for _, x := range ch.Local {
		s.Local = append(s.Local, x.String())
	}
	for _, x := range ch.Remote {
		s.Remote = append(s.Remote, x.String())
	}
	if ch.in != nil {
		stats := ch.in.SA.Stats()
		s.PacketsIn, s.BytesIn, s.LastIn = stats.Packets, stats.Bytes, wallTime(ch.in.LastNano())
	}
	if ch.out != nil {
		stats := ch.out.SA.Stats()
		s.PacketsOut, s.BytesOut, s.LastOut = stats.Packets, stats.Bytes, wallTime(ch.out.LastNano())
	}
	return s
}

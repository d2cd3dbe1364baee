package gateway

import (
	"culvert/ikev2"
)

// Totals are what a peer has had since the gateway started or learnt of it, over
// all the SAs that came and went: they never become less. Packets and bytes are
// those of ChildStatus.
type Totals struct {
	Established uint64 `json:"established"` // IKE SAs that both sides were authenticated for
	Failed      uint64 `json:"failed"`      // attempts of ours that were refused or not answered
	IKERekeys   uint64 `json:"ike_rekeys"`
	ChildRekeys uint64 `json:"child_rekeys"`
	PacketsIn   uint64 `json:"packets_in"`
	BytesIn     uint64 `json:"bytes_in"`
	PacketsOut  uint64 `json:"packets_out"`
	BytesOut    uint64 `json:"bytes_out"`
}

func (t *Totals) note(e ikev2.Event) {
	switch e.Kind {
	case ikev2.EventEstablished:
		t.Established++
	case ikev2.EventGaveUp, ikev2.EventRefusedByPeer:
		t.Failed++
	case ikev2.EventRekeyed:
		t.IKERekeys++
	case ikev2.EventChildUp:
		if e.Reason == ikev2.ReasonRekeyed {
			t.ChildRekeys++
		}
	}
}

// addIn and addOut take what a half of a child SA carried.
func (t *Totals) addIn(ch *child) {
	if ch.in != nil {
		stats := ch.in.SA.Stats()
		t.PacketsIn += stats.Packets
		t.BytesIn += stats.Bytes
	}
}

func (t *Totals) addOut(ch *child) {
	if ch.out != nil {
		stats := ch.out.SA.Stats()
		t.PacketsOut += stats.Packets
		t.BytesOut += stats.Bytes
	}
}

// totalsByPeer counts the children that are there to those that are gone.
func (c *control) totalsByPeer() map[string]Totals {
	by := make(map[string]Totals, len(c.peers))
	for name, p := range c.peers {
		by[name] = p.Totals
	}
	for _, ch := range c.children {
		if t, ok := by[ch.Peer]; ok {
			t.addIn(ch)
			t.addOut(ch)
			by[ch.Peer] = t
		}
	}
	return by
}

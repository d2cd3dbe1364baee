package diagnose

import (
	"fmt"
	"strings"
	"time"
)

// Dropped is the view of a gateway one of whose counters rises, of all its packets or of one connection's.
type Dropped struct {
	Counter string // its name in the status
	Count   uint64 // by how much it rose
	During  time.Duration
	// Connection is whose packets they were, where that is known.
	Connection Connection
	// Down names the connections that are not up.
	Down []string
}

// A loss is what a counter counts.
type loss struct {
	from uint64 // how many in a minute are a trouble; 0: never
	what string // what happened, after the number
	why  string // what it comes of, and what to do
}

const (
	anybody = "Anybody who sends to this port can cause it, and nothing comes of it."
	damaged = "It was damaged on its way, or somebody forges it."
	network = "See this machine's addresses, routes and firewall."
	busy    = "The machine is busy, or the link is slower than what is sent."
	edge    = "It concerns this machine's own device or socket, and no peer: see the system's log."
)

// losses by the counter's name; those of a UDP port without the port in front.
var losses = map[string]loss{
	// ESP that arrives.
	"unknown_spi":               {0, "ESP packets came in for an SA that is not there", "A few after a rekey or a restart are usual, and anybody can send them. If they go on, the peer still uses an SA that this side has lost: disconnect the peer and connect it again."},
	"authentication_failed":     {20, "ESP packets came in whose checksum is wrong", "Either something on the way changes them (a NAT or firewall that \"helps\" with IPsec), or the two sides have other keys for this SA: disconnect the peer and connect it again. Packets that are late by thousands look the same (RFC 4303 2.2.1)."},
	"replayed":                  {100, "ESP packets came in a second time", "Something on the way sends packets twice, or somebody replays them; each was taken once."},
	"stale":                     {100, "ESP packets came in too late to tell whether they are new", "The way puts packets out of order by thousands, or the peer numbers them by several queues; a slower or single queue there helps."},
	"truncated":                 {20, "ESP packets came in that are too short or not of whole blocks", damaged},
	"bad_padding":               {1, "authentic ESP packets had a wrong padding", "The peer's ESP is at fault: ask for its version, and try another cipher."},
	"bad_next_header":           {1, "authentic ESP packets had no IP packet in them", "The peer may be in transport mode, which is not spoken here: set it to tunnel mode."},
	"dummy":                     {0, "dummy packets came in", "The peer hides how much it sends (RFC 4303); they are meant to be dropped."},
	"selector_violation":        {5, "decrypted packets had addresses that are not the tunnel's", "The peer sends into the tunnel what was not agreed on (RFC 4301 5.2): widen `local` or `remote` of the tunnel to what it sends, on both sides, or have the peer translate the addresses before the tunnel and not after it."},
	"inbound_malformed":         {5, "decrypted packets were no proper IP packets", "The peer, or a host behind it, sends them so."},
	"congestion_not_understood": {5, "decrypted packets said that they do not take part in congestion marking, and were marked on the way", "RFC 6040 wants them dropped: a router on the way is overloaded, and marks what it should drop."},
	"runt":                      {0, "datagrams came in that are too short to be anything", anybody},
	"reserved_spi":              {0, "datagrams came in with a reserved SPI", anybody},
	"keepalives_received":       {0, "keepalives came in", "A peer behind NAT keeps its mapping open with them (RFC 3948)."},

	// Packets on their way out.
	"no_outbound_sa":            {5, "packets of this side had no tunnel to go into", "Either their tunnel is down, or no tunnel has their addresses: the source has to be in `local` and the destination in `remote` of one. A packet of the gateway itself has the address of the interface that it leaves by: ping with the address of the LAN (`ping -I`)."},
	"too_big":                   {5, "packets were too big for the tunnel and may not be fragmented", "The sender was told so by ICMP. If connections still hang, the message does not reach it: let ICMP type 3 code 4 (IPv6: packet too big) pass on the LAN."},
	"sequence_exhausted":        {1, "packets found an SA that has used all its numbers", "It carries nothing until it is replaced, and the peer does not replace it: see why it refuses to rekey."},
	"outbound_malformed":        {5, "packets of this side were no proper IP packets", "A program on this machine makes them so."},
	"segment_refused":           {5, "large packets of this side could not be divided", edge},
	"tun_read_error":            {1, "packets could not be read from the device", edge},
	"tun_write_error":           {1, "packets could not be written to the device", "The device is down or gone (`ip link`), or its MTU was changed by somebody else."},
	"packets_fragmented":        {0, "packets of this side were fragmented before they were encrypted", "They are larger than fits and allow it. A smaller MTU at the sender is faster."},
	"icmp_too_big_sent":         {0, "senders on this side were told to send smaller packets", "That is how they find the MTU; it is no loss."},
	"icmp_too_big_rate_limited": {0, "senders on this side were not told to send smaller packets", "They had been told just before."},
	"notice_queue_full":         {0, "notices of the data path were left out", busy},
	"log_records_left_out":      {0, "records were left out of the log", "Strangers cause too many of them; what they were is counted."},

	// IKE messages.
	"ike_inbox_full":             {20, "IKE messages were dropped because too many wait", "The gateway is flooded, or too slow for its peers; they send again."},
	"ike_bad_header":             {0, "IKE messages had no proper header", anybody},
	"ike_version":                {0, "IKE messages were of another version", "Of a culvert at the other end they are what it measures the path with. A peer that speaks IKEv1 has to be set to IKEv2 (`version = 2`, `key-exchange ikev2`)."},
	"ike_unknown_sa":             {0, "IKE messages were for a connection that is not there", "A peer that has not noticed a restart sends them until it gives up; it connects anew then."},
	"ike_message_id":             {0, "IKE messages had a number that is not expected", "Late repetitions are usual."},
	"ike_state":                  {0, "IKE messages came at a moment at which they have no place", "Late repetitions are usual."},
	"ike_integrity":              {5, "IKE messages had a wrong checksum", damaged + " They change nothing."},
	"ike_malformed":              {5, "IKE messages broke the format", "If they are a peer's, its version matters: ask for it, and report it."},
	"ike_reflected":              {0, "our own first message came back", "Something sends back what it gets; or `remote` is this machine's own address."},
	"ike_unexpected_response":    {0, "IKE answers came that nobody waits for", "Late repetitions are usual."},
	"ike_retransmission":         {0, "IKE requests came again and were answered again", "Our answer was lost or slow; many of them mean loss on the way to the peer."},
	"ike_half_open_limit":        {20, "new connections were refused because too many are not authenticated yet", "It is a flood, or very many peers at once: raise `half_open_limit` for the latter."},
	"ike_half_open_source_limit": {20, "new connections of one address were refused because too many of it are not authenticated yet", "It is a flood, or many peers behind one NAT: raise `half_open_per_source` for the latter."},
	"ike_no_random":              {1, "the system gave no random bytes", edge},
	"ike_init_refused":           {0, "first messages were refused", "The log says why: proposals that have nothing in common."},
	"ike_unprotected_notify":     {0, "unprotected errors came in", "A forger can send them, so they end nothing."},
	"ike_cookie_asked":           {0, "peers were asked for a cookie first", "That is the defence against floods (RFC 7296 2.6); a real peer returns it."},
	"ike_reply_limit":            {0, "unprotected replies were not sent", "Too many were asked for at once."},
	"ike_fragment_duplicate":     {0, "fragments of IKE messages came twice", "Repetitions are usual."},
	"ike_fragment_limit":         {5, "fragments of IKE messages were too many or too large", "If they are a peer's, its version matters: ask for it, and report it."},
	"ike_fragment_incomplete":    {5, "IKE messages came with fragments missing", "Fragments are lost on the way: see what drops datagrams of 1280 bytes, or make `fragment_size` smaller on both sides."},
	"ike_configuration":          {0, "parts of configuration payloads made no sense", "They were left out; the rest counts."},

	// A UDP socket's own.
	"receive_error":         {20, "errors were reported to the socket", "A router or host says that something which was sent did not arrive."},
	"receive_truncated":     {1, "datagrams came in larger than any can be", edge},
	"tun_run_refused":       {0, "runs had to be written to the device packet by packet", "It is slower and loses nothing."},
	"segmentation_refused":  {0, "runs had to be sent packet by packet", "It is slower and loses nothing."},
	"segmentation_disabled": {0, "the device cannot divide packets by itself", "It is slower and loses nothing."},
	"send_unreachable":      {5, "datagrams could not be sent: there is no way to their destination", network},
	"send_denied":           {1, "datagrams were refused by this machine's own firewall", "Let UDP 500 and 4500 out (`nft list ruleset`, `iptables -S OUTPUT`)."},
	"send_would_block":      {1000, "datagrams found the socket's buffer full", busy},
	"send_no_buffer":        {1000, "datagrams found the system's buffers full", busy},
	"send_too_big":          {5, "datagrams were larger than the interface takes", "The way to the peer takes less than was thought: lower `mtu` of the gateway; the inner packet has 62 bytes less than the outer one with AES-GCM over IPv4, 82 over IPv6."},
	"send_bad_address":      {5, "datagrams had an address that cannot be sent from or to", "The address in `local` is not of this machine any more: see `ip addr`."},
	"send_error":            {5, "datagrams could not be sent", network},
}

// Known says that there is a sentence for the counter.
func Known(counter string) bool { _, ok := lossOf(counter); return ok }

func lossOf(counter string) (loss, bool) {
	l, ok := losses[counter]
	if _, name, isUDP := strings.Cut(counter, "_"); !ok && isUDP && strings.HasPrefix(counter, "udp") {
		l, ok = losses[name]
	}
	return l, ok
}

// Trouble says that so many are no accident. What finds no tunnel is one at once where a connection is down.
func (f Dropped) Trouble() bool {
	l, _ := lossOf(f.Counter)
	if f.Counter == "no_outbound_sa" && len(f.Down) > 0 {
		return f.Count > 0
	}
	return l.from > 0 && f.Count >= l.from
}

// Report says what the counter counts, and what to do about it.
func (f Dropped) Report() Report {
	l, ok := lossOf(f.Counter)
	if !ok {
		l.what = "packets were dropped"
	}
	where := ""
	if port, _, isUDP := strings.Cut(f.Counter, "_"); isUDP && strings.HasPrefix(port, "udp") {
		where = " on UDP port " + clean(port[3:])
	}
	down := ""
	if f.Counter == "no_outbound_sa" && len(f.Down) > 0 {
		down = fmt.Sprintf("Down now: %s.", list(f.Down))
	}
	if f.Connection.Name != "" {
		l.what = fmt.Sprintf("on %s, %s", f.Connection, l.what)
	}
	return compose("dropped_"+clean(f.Counter), fmt.Sprintf("%s%s: %d%s (%s)", l.what, where, f.Count, within(f.During), clean(f.Counter)), l.why, down)
}

func within(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf(" in %v", d.Round(time.Second))
}

package ikev2

// StartMode says what brings a child SA up.
type StartMode uint8

// The modes.
const (
	StartNow     StartMode = iota // with the IKE SA
	StartTraffic                  // the first packet that its selectors cover; the command Acquire says so
	StartPeer                     // only the peer
)

package wire

// Protocol is the Security Protocol Identifier of proposals, notifications and
// deletions (RFC 7296 section 3.3.1).
type Protocol uint8

const (
	ProtocolNone Protocol = 0
	ProtocolIKE  Protocol = 1
	ProtocolAH   Protocol = 2
	ProtocolESP  Protocol = 3
)

var protocolNames = map[Protocol]string{
	ProtocolNone: "none",
	ProtocolIKE:  "IKE",
	ProtocolAH:   "AH",
	ProtocolESP:  "ESP",
}

func (p Protocol) String() string { return nameOf(protocolNames, p, "PROTOCOL") }

// isChild says that the protocol's SAs are child SAs, with SPIs of 4 bytes.
func (p Protocol) isChild() bool { return p == ProtocolAH || p == ProtocolESP }

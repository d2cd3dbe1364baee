package lab

import (
	"context"
)

// StrongSwanSA is an IKE SA as strongSwan lists it, in its own words.
type StrongSwanSA struct {
	Name, State            string // State is "ESTABLISHED" when it is
	LocalHost, LocalPort   string
	RemoteHost, RemotePort string
	LocalID, RemoteID      string
	LocalSPI, RemoteSPI    string // 16 hex digits... see InitiatorSPI
	Children               []StrongSwanChildSA
}

// StrongSwanChildSA is a child SA as strongSwan lists it.
type StrongSwanChildSA struct {
	Name, State                    string // State is "INSTALLED" when it is
	InSPI, OutSPI                  string // 8 hex digits
	LocalTS, RemoteTS              []string
	Encryption, Integrity, KeySize string
}

// SAs lists the IKE SAs.
func (s *StrongSwan) SAs(ctx context.Context) ([]StrongSwanSA, error) { return nil, nil }

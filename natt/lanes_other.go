//go:build !linux

package natt

import (
	"errors"
	"net/netip"
)

func joinLanes(first Conn, _ netip.AddrPort, _ int, _ Options) ([]Conn, error) {
	return []Conn{first}, errors.New("several lanes need Linux: leave lanes out")
}

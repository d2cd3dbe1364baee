//go:build !linux && !darwin

package api

import (
	"net"
	"os"
)

// peerUID trusts the socket's mode where the system does not tell.
func peerUID(net.Conn) (uid int, err error) { return os.Geteuid(), nil }

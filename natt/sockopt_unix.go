//go:build linux || darwin

package natt

import "golang.org/x/sys/unix"

// truncated marks a message that did not fit, or whose control messages did not.
const truncated = unix.MSG_TRUNC | unix.MSG_CTRUNC

// parseTOS finds the TOS of an IPv4 datagram among control messages.
func parseTOS(b []byte) (tos uint8, ok bool) {
	for len(b) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return 0, false
		}
		if h.Level == unix.IPPROTO_IP && h.Type == tosMessage && len(data) > 0 {
			return data[0], true
		}
		b = rest
	}
	return 0, false
}

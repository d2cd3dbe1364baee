//go:build linux

// Package patiencetest tells who is woken for a descriptor.
package patiencetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Polls are the events, bits of epoll_ctl(2), for which epoll descriptors of
// this process watch fd: one for each that does. (proc(5): /proc/pid/fdinfo.)
func Polls(fd int) (events []uint32, err error) {
	all, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		return nil, err
	}
	for _, of := range all {
		text, err := os.ReadFile("/proc/self/fdinfo/" + of.Name())
		if os.IsNotExist(err) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[0] != "tfd:" || fields[1] != strconv.Itoa(fd) {
				continue
			}
			mask, err := strconv.ParseUint(fields[3], 16, 32)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			events = append(events, uint32(mask))
		}
	}
	return events, nil
}

//go:build !linux && !darwin

package natt

import "errors"

// truncated: what this system says of a message that did not fit is not known here.
const truncated = 0

func setFragmentation(fd uintptr, six, allow bool)    {}
func setBuffers(fd uintptr)                           {}
func enableTOS(fd uintptr) error                      { return errors.ErrUnsupported }
func setTOS(fd uintptr, tos uint8) error              { return errors.ErrUnsupported }
func parseTOS(control []byte) (tos uint8, found bool) { return 0, false }

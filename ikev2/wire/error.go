package wire

import "fmt"

// Error says why a message is not acceptable. Notify and Data are what a
// protected exchange answers with (RFC 7296 section 2.21.3); an unprotected
// message gets no answer.
type Error struct {
	Notify NotifyType
	Data   []byte
	Reason string // one line, with none of the peer's bytes in it
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.Notify, e.Reason) }

// malformed is an INVALID_SYNTAX. It is typed as error so that a nil stays nil.
func malformed(format string, args ...any) error {
	return &Error{Notify: NotifyInvalidSyntax, Reason: fmt.Sprintf(format, args...)}
}

// nameOf is the table's name for v, or PREFIX_v for a number that has none.
func nameOf[T ~uint8 | ~uint16](names map[T]string, v T, prefix string) string {
	if s, ok := names[v]; ok {
		return s
	}
	return fmt.Sprintf("%s_%d", prefix, uint16(v))
}

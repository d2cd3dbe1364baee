// Package wire reads and writes the messages of IKEv2 (RFC 7296 section 3) and
// says which payloads a message may hold.
//
// A message is the IKE header and a chain of payloads. All numbers are big
// endian; Length counts the whole message.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------------------------------------------------------+
//	|                     IKE SA initiator's SPI                    |
//	|                           (8 octets)                          |
//	+---------------------------------------------------------------+
//	|                     IKE SA responder's SPI                    |
//	|              (8 octets, zero in the first request)            |
//	+---------------+-------+-------+---------------+---------------+
//	| Next Payload  | Major | Minor | Exchange Type |  . . R V I .  |
//	+---------------+-------+-------+---------------+---------------+
//	|                          Message ID                           |
//	+---------------------------------------------------------------+
//	|                            Length                             |
//	+---------------------------------------------------------------+
//
// Each payload starts with the generic payload header, which names the type of
// the payload after it (zero: this is the last). Its Length counts the header.
//
//	+---------------+-+-------------+-------------------------------+
//	| Next Payload  |C|  reserved   |            Length             |
//	+---------------+-+-------------+-------------------------------+
//	|                             Body ...                          |
//
// Proposals, transforms and traffic selectors have the same shape: two octets
// and a length that counts itself and them. See block.go.
//
// # Reading
//
// Parse reads a datagram up to and including its Encrypted payload, and
// ParsePayloads what was inside that. Both take time linear in the input and
// return slices that alias it. What the RFC tells a receiver to ignore is
// ignored: reserved bits, the minor version, the critical bit of a payload that
// is known here. Every error is an *Error, which names the notification that a
// protected exchange answers with; an unprotected message is dropped in silence.
//
// Check then compares the payloads of one message with the table of what its
// exchange requires, allows and forbids.
package wire

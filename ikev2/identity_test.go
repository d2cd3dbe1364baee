package ikev2

import (
	"strings"
	"testing"

	"culvert/ikev2/wire"
)

func TestParseIdentity(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Identity
		back string // String(), where it is not in
	}{
		{"203.0.113.1", Identity{wire.IDIPv4Addr, "\xcb\x00\x71\x01"}, ""},
		{"2001:db8::1", Identity{wire.IDIPv6Addr, "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01"}, ""},
		{"2001:0DB8:0::1", Identity{wire.IDIPv6Addr, "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01"}, "2001:db8::1"},
		{"@foo", Identity{wire.IDFQDN, "foo"}, ""},
		{"foo", Identity{wire.IDFQDN, "foo"}, "@foo"},
		{"foo.example", Identity{wire.IDFQDN, "foo.example"}, "@foo.example"},
		{"@203.0.113.1", Identity{wire.IDFQDN, "203.0.113.1"}, ""},
		{"@keyid:x", Identity{wire.IDFQDN, "keyid:x"}, ""},
		{"203.0.113", Identity{wire.IDFQDN, "203.0.113"}, "@203.0.113"},
		{"admin@foo.example", Identity{wire.IDRFC822Addr, "admin@foo.example"}, ""},
		{"keyid:branch-7", Identity{wire.IDKeyID, "branch-7"}, ""},
		{"keyid:branch 7", Identity{wire.IDKeyID, "branch 7"}, ""},
		{"keyid:a@b", Identity{wire.IDKeyID, "a@b"}, ""},
		{"keyid:0x01FF", Identity{wire.IDKeyID, "\x01\xff"}, "keyid:0x01ff"},
		{"keyid:0x666f6f", Identity{wire.IDKeyID, "foo"}, "keyid:foo"},
		{"keyid:0x3078", Identity{wire.IDKeyID, "0x"}, "keyid:0x3078"},
	} {
		got, err := ParseIdentity(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%s: %#v, %v", tt.in, got, err)
		}
		if tt.back == "" {
			tt.back = tt.in
		}
		if got.String() != tt.back {
			t.Errorf("%s is printed as %s", tt.in, got)
		}
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	for _, in := range []string{
		"", "@", "@@", "@@foo", "@a@b", "keyid:", "keyid:0x", "keyid:0x1", "keyid:0xzz", "fe80::1%eth0",
		"foo bar", "foo\n", "foo\x00", "@\tfoo", "a b@c", "x\x7f", strings.Repeat("x", 1025), "keyid:" + strings.Repeat("x", 1025),
	} {
		if id, err := ParseIdentity(in); err == nil {
			t.Errorf("%q is %#v", in, id)
		}
	}
}

// Every identity that can be written can be printed, sent, received and read
// again; and nothing that is printed can break a line of the log.
func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"203.0.113.1", "::ffff:1.2.3.4", "@foo", "foo.example", "a@b", "keyid:x", "keyid:0x00ff", "keyid:0x", "@keyid:0x1", "@\\n", "\"", "é@ü", "keyid:\\", "a\u0085b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseIdentity(s)
		if err != nil {
			return
		}
		printed := id.String()
		if strings.ContainsFunc(printed, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q is printed as %q", s, printed)
		}
		if escaped := strings.ContainsAny(printed, `\"`); !escaped {
			if again, err := ParseIdentity(printed); err != nil || again != id {
				t.Fatalf("%q is %#v, printed as %s, read as %#v: %v", s, id, printed, again, err)
			}
		}
		_, chain := wire.AppendPayloads(nil, []wire.Payload{id.payload(false)})
		ps, err := wire.ParsePayloads(wire.PayloadIDi, chain)
		if err != nil || identityOf(ps[0].(*wire.ID)) != id {
			t.Fatalf("%q does not survive the wire: %v", s, err)
		}
	})
}

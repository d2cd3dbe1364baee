package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkParse: 10,000 peers.
func BenchmarkParse(b *testing.B) {
	var s strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&s, "[peer.c%05d]\nremote = \"any\"\nlocal_id = \"@gateway\"\nremote_id = \"@c%[1]d\"\npsk = \"a key of its own for %05[1]d\"\n", i)
		fmt.Fprintf(&s, "[peer.c%05d.tunnel.t]\nlocal = \"192.168.0.0/16\"\nremote = \"10.1.%d.%d/32\"\n", i, i>>8, i&255)
	}
	for b.Loop() {
		if _, err := Parse("x.toml", []byte(s.String()), Lookups{}); err != nil {
			b.Fatal(err)
		}
	}
}

package gateway

import (
	"reflect"
	"testing"

	"culvert/config"
	"culvert/ikev2"
)

// everything has a value other than the engine's default for every setting
// that IKE knows.
const everything = `
[gateway]
ike_port = 1500
natt_port = 14500

[pool.a]
addresses = "10.9.0.0/24"
dns = "10.9.0.1"
domains = "corp.example"
subnets = "10.0.0.0/8"

[peer.a]
remote = "203.0.113.1"
local_id = "@a"
remote_id = "@b"
psk = "0123456789abcdefghij"
ike = "aes256gcm16-prfsha384-x25519"
post_quantum_methods = "mlkem1024"
duplicates = "keep"
ppk_id = "branch"
ppk = "0123456789abcdefghij0123456789abcdefghij"
ppk_required = true
pools = "a"
request_address = ["ipv4", "ipv6"]

[peer.a.tunnel.0]
local = ["10.1.0.0/16", "dynamic"]
remote = ["10.2.0.0/16", "dynamic"]
esp = "aes256gcm16"
lifetime_bytes = 1000
lifetime_packets = 10
single_pair = true
start = "peer"
`

// TestEngineGetsEverything: no setting of the engine is left to chance.
func TestEngineGetsEverything(t *testing.T) {
	cfg, err := config.Parse("site.toml", []byte(everything), config.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	got := engineConfig(cfg, true)
	got.Resume.Key, got.Resume.Lifetime = []byte{1}, 1 // which a file has
	got.Peers[0].Timing.FirstRenewal = 1               // no key for it (ADR 016)
	got.Leases = []ikev2.Lease{{Pool: "a", LocalID: got.Peers[0].LocalID, RemoteID: got.Peers[0].RemoteID, Addr: got.Pools[0].First, InUse: true}}
	wantSet(t, "Config", reflect.ValueOf(got))
}

func wantSet(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.IsZero() {
		t.Errorf("%s has no value", path)
		return
	}
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem().PkgPath() == "culvert/ikev2":
		for i := range v.Len() {
			wantSet(t, path, v.Index(i))
		}
	case v.Kind() == reflect.Struct && v.Type().PkgPath() == "culvert/ikev2":
		for i := range v.NumField() {
			wantSet(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
}

// TestEngineGetsOff: what is switched off here is negative there.
func TestEngineGetsOff(t *testing.T) {
	cfg, err := config.Parse("site.toml", []byte(`
gateway = { cookie_threshold = "off", half_open_limit = "off", half_open_per_source = "off" }
[peer.a]
remote = "203.0.113.1"
local_id = "@a"
remote_id = "@b"
psk = "0123456789abcdefghij"
dpd = "off"
keepalive = "off"
ike_lifetime = "off"
tunnel.0 = { local = "10.1.0.0/16", remote = "10.2.0.0/16", lifetime = "off" }
`), config.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	e := engineConfig(cfg, false)
	p := e.Peers[0]
	for name, v := range map[string]int64{
		"CookieThreshold": int64(e.Limits.CookieThreshold), "HalfOpen": int64(e.Limits.HalfOpen), "HalfOpenPerSource": int64(e.Limits.HalfOpenPerSource),
		"DPD": int64(p.Timing.DPD), "Keepalive": int64(p.Timing.Keepalive), "IKELifetime": int64(p.IKELifetime), "Lifetime": int64(p.Children[0].Lifetime),
	} {
		if v >= 0 {
			t.Errorf("%s is %d, want a negative value", name, v)
		}
	}
}

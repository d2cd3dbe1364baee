package lab

import (
	"reflect"
	"testing"
)

const listing = `list-sa event {foo {uniqueid=1 version=2 state=ESTABLISHED local-host=203.0.113.1 local-port=4500 local-id=203.0.113.1 remote-host=192.0.2.10 remote-port=1024 remote-id=foo initiator-spi=3b9a76a61f037595 responder-spi=d4ccadb67ae58d8b nat-remote=yes nat-any=yes encr-alg=AES_CBC encr-keysize=256 integ-alg=HMAC_SHA2_256_128 prf-alg=PRF_HMAC_SHA2_256 dh-group=MODP_2048 tasks-active=[CHILD_REKEY] child-sas {t1-1 {name=t1 state=REKEYED spi-in=77ace350 spi-out=1b4383da encr-alg=AES_GCM_16 encr-keysize=128 bytes-in=840 packets-in=10} t1-2 {name=t1 state=INSTALLED encap=yes esn=1 spi-in=01 spi-out=02 bytes-out=18446744073709551615 packets-out=3 local-ts=[10.103.0.0/24 10.105.0.0/24] remote-ts=[10.104.0.0/24[udp/53]]}}}}
list-sa event {bar {state=CONNECTING initiator=yes child-sas {}}}
list-sas reply {}
`

func TestParseSAs(t *testing.T) {
	got, err := parseSAs(listing)
	if err != nil {
		t.Fatal(err)
	}
	want := []StrongSwanSA{{
		Name: "foo", State: "ESTABLISHED",
		LocalHost: "203.0.113.1", LocalPort: "4500", LocalID: "203.0.113.1",
		RemoteHost: "192.0.2.10", RemotePort: "1024", RemoteID: "foo",
		InitiatorSPI: "3b9a76a61f037595", ResponderSPI: "d4ccadb67ae58d8b", NATRemote: true,
		Encryption: "AES_CBC", KeySize: "256", Integrity: "HMAC_SHA2_256_128", PRF: "PRF_HMAC_SHA2_256", KeyExchange: "MODP_2048",
		Children: []StrongSwanChildSA{
			{Name: "t1", State: "REKEYED", InSPI: "77ace350", OutSPI: "1b4383da", Encryption: "AES_GCM_16", KeySize: "128", BytesIn: 840, PacketsIn: 10},
			{
				Name: "t1", State: "INSTALLED", InSPI: "01", OutSPI: "02", ESN: true, Encap: true, BytesOut: 1<<64 - 1, PacketsOut: 3,
				LocalTS: []string{"10.103.0.0/24", "10.105.0.0/24"}, RemoteTS: []string{"10.104.0.0/24[udp/53]"},
			},
		},
	}, {Name: "bar", State: "CONNECTING", Initiator: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseSAsFailsOnEveryTruncation(t *testing.T) {
	const event = "list-sa event "
	whole := "list-sa event {foo {state=UP ts=[a b] child-sas {t1-1 {name=t1}}}}"
	if _, err := parseSAs(whole); err != nil {
		t.Fatal(err)
	}
	for n := len(event); n < len(whole); n++ {
		if sas, err := parseSAs(whole[:n]); err == nil {
			t.Errorf("%q gives %+v", whole[:n], sas)
		}
	}
}

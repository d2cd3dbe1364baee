package espcrypto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"culvert/espcrypto/aesgcm"
)

// hexBytes is a JSON string of hex digits.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// published is a packet from a document. Its IV is not its number, as ours is.
type published struct {
	Suite
	keys   Keys
	spi    uint32
	seq    uint64
	iv     uint64
	text   []byte // inner packet and trailer
	packet []byte
	inner  []byte
	drop   Drop
}

// gcmVectors are the 14 packets of draft-mcgrew-gcm-test-01. Their next header
// is 1, which no tunnel carries, so that they end as bad_next_header.
func gcmVectors(t *testing.T) (all []published) {
	var file struct {
		Tests []struct{ Key, Nonce, Plaintext, AAD, CT, Tag hexBytes }
	}
	load(t, "aesgcm/testdata/mcgrew_gcm_esp_01.json", &file)
	for _, v := range file.Tests {
		p := published{
			Suite: Suite{Encr: 20, KeyBits: uint16(8 * len(v.Key)), ESN: len(v.AAD) == 12},
			keys:  Keys{Encr: slices.Concat(v.Key, v.Nonce[:4])},
			spi:   binary.BigEndian.Uint32(v.AAD),
			seq:   uint64(binary.BigEndian.Uint32(v.AAD[4:])),
			iv:    binary.BigEndian.Uint64(v.Nonce[4:]),
			text:  v.Plaintext,
			drop:  DropBadNextHeader,
		}
		if p.ESN {
			p.seq = binary.BigEndian.Uint64(v.AAD[4:])
		}
		header := binary.BigEndian.AppendUint32(slices.Clone(v.AAD[:4]), uint32(p.seq))
		p.packet = slices.Concat(header, v.Nonce[4:], v.CT, v.Tag)
		all = append(all, p)
	}
	return all
}

// chachaVector is the packet of RFC 7634 appendix A.
func chachaVector(t *testing.T) published {
	var file struct {
		Key, Salt, IV hexBytes
		ESP           struct {
			SPI                    hexBytes
			Seq                    uint64
			Inner, Trailer, Packet hexBytes
		}
	}
	load(t, "testdata/rfc7634.json", &file)
	return published{
		Suite:  Suite{Encr: 28},
		keys:   Keys{Encr: slices.Concat(file.Key, file.Salt)},
		spi:    binary.BigEndian.Uint32(file.ESP.SPI),
		seq:    file.ESP.Seq,
		iv:     binary.BigEndian.Uint64(file.IV),
		text:   slices.Concat(file.ESP.Inner, file.ESP.Trailer),
		packet: file.ESP.Packet,
		inner:  file.ESP.Inner,
	}
}

// TestPublishedPackets seals and opens the packets of the documents. Some have
// an SPI that no SA may have, so that it is set behind the constructors' backs.
func TestPublishedPackets(t *testing.T) {
	all := append(gcmVectors(t), chachaVector(t))
	if len(all) != 15 {
		t.Fatalf("%d packets", len(all))
	}
	for n, v := range all {
		a, err := newSA(max(v.spi, 256), v.Suite, v.keys)
		if err != nil {
			t.Fatal(err)
		}
		batch := []aesgcm.Packet{{Text: slices.Clone(v.packet[16:]), Head: len(v.text), IV: v.iv}}
		copy(batch[0].Text, v.text)
		a.spi = v.spi
		a.cover(&batch[0], v.seq)
		a.Seal(batch)
		if !bytes.Equal(batch[0].Text, v.packet[16:]) {
			t.Errorf("packet %d: sealed %x, not %x", n+1, batch[0].Text, v.packet[16:])
		}

		in, err := NewInbound(max(v.spi, 256), v.Suite, v.keys, 0)
		if err != nil {
			t.Fatal(err)
		}
		in.spi = v.spi
		in.window.Commit(v.seq - 1)
		packet, out := slices.Clone(v.packet), make([]Opened, 1)
		in.Open([][]byte{packet}, out)
		if !bytes.Equal(packet[16:][:len(v.text)], v.text) {
			t.Errorf("packet %d: opened %x, not %x", n+1, packet[16:][:len(v.text)], v.text)
		}
		if out[0].Drop != v.drop || !bytes.Equal(out[0].Inner, v.inner) {
			t.Errorf("packet %d: %v %x", n+1, out[0].Drop, out[0].Inner)
		}
	}
}

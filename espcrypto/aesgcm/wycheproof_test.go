package aesgcm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// TestWycheproof and TestNIST: what is valid is sealed and opened so, what is not
// does not open. Where a vector has no associated data, blocks of zeros stand for
// it, which GHASH does not notice in front.
func TestWycheproof(t *testing.T) {
	forPaths(t, func(t *testing.T, path *path) { testJudged(t, path, "wycheproof_aes_gcm", 150) })
}

func TestNIST(t *testing.T) {
	forPaths(t, func(t *testing.T, path *path) { testJudged(t, path, "nist_gcm", 12) })
}

func testJudged(t *testing.T, path *path, name string, count int) {
	text, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			TcID                       int
			Comment, Result            string
			Key, IV, AAD, Msg, CT, Tag hexBytes
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Tests) != count {
		t.Fatalf("%d vectors, not %d", len(file.Tests), count)
	}
	for _, v := range file.Tests {
		a := path.aeadFor(t, v.Key, v.IV[:4])
		p := Packet{IV: binary.BigEndian.Uint64(v.IV[4:]), Text: slices.Concat(v.CT, v.Tag)}
		p.AADLen = copy(p.AAD[:], v.AAD)
		batch := []Packet{p}
		a.Open(batch)
		if valid := v.Result == "valid"; batch[0].OK != valid {
			t.Errorf("vector %d (%s): OK=%v", v.TcID, v.Comment, batch[0].OK)
		} else if !valid {
			continue
		}
		if got := batch[0].Text[:len(v.Msg)]; !bytes.Equal(got, v.Msg) {
			t.Errorf("vector %d (%s): opened %x", v.TcID, v.Comment, got)
		}
		batch[0].Text = make([]byte, len(v.Msg)+TagLen)
		batch[0].Body = v.Msg
		a.Seal(batch)
		if want := slices.Concat(v.CT, v.Tag); !bytes.Equal(batch[0].Text, want) {
			t.Errorf("vector %d (%s): sealed %x", v.TcID, v.Comment, batch[0].Text)
		}
	}
}

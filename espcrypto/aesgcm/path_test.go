package aesgcm

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	best, err := choose(paths, "")
	if err != nil || best != ablePaths()[0] {
		t.Errorf("unforced: %v, %v", best.name, err)
	}
	for i := range paths {
		p := &paths[i]
		got, err := choose(paths, p.name)
		if p.able && (err != nil || got != p) {
			t.Errorf("%s: %s, %v", p.name, got.name, err)
		}
		if !p.able && (err == nil || got != best) {
			t.Errorf("%s, which is not to be had: %s, %v", p.name, got.name, err)
		}
	}
	got, err := choose(paths, "fast")
	if got != best || err == nil || !strings.Contains(err.Error(), `CULVERT_AESGCM="fast"`) || !strings.Contains(err.Error(), "stdlib") {
		t.Errorf("an unknown name: %s, %v", got.name, err)
	}
}

// TestAblePaths asks Linux, by other means than ours, what the processor has.
func TestAblePaths(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		if (ableVAES || ableAVX512) && runtime.GOARCH != "amd64" {
			t.Error("VAES elsewhere than on amd64")
		}
		return
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(info), "flags")
	line, _, _ := strings.Cut(rest, "\n")
	has := func(flag string) bool { return strings.Contains(line+" ", " "+flag+" ") }
	want := has("avx2") && has("bmi2") && has("vaes") && has("vpclmulqdq")
	want512 := want && has("avx512f") && has("avx512bw") && has("avx512vl")
	if ableVAES != want || ableAVX512 != want512 {
		t.Errorf("AVX2 able=%v, AVX-512 able=%v, but the kernel says %v, %v", ableVAES, ableAVX512, want, want512)
	}
}

// blind is an engine that does one thing wrong.
type blind struct {
	engine
	seals, opens func([]Packet)
}

func (b blind) seal(batch []Packet) { b.engine.seal(batch); b.seals(batch) }
func (b blind) open(batch []Packet) { b.engine.open(batch); b.opens(batch) }

// TestWrongPathIsNotTaken: one wrong bit anywhere, or a forgery that passes, and
// the next path does the work.
func TestWrongPathIsNotTaken(t *testing.T) {
	right := func([]Packet) {}
	for name, wrong := range map[string]blind{
		"tag":       {seals: func(b []Packet) { b[3].Text[len(b[3].Text)-1] ^= 1 }, opens: right},
		"text":      {seals: func(b []Packet) { b[20].Text[1450] ^= 0x80 }, opens: right},
		"forgery":   {seals: right, opens: func(b []Packet) { b[10].OK = true }},
		"refusal":   {seals: right, opens: func(b []Packet) { b[2].OK = false }},
		"plaintext": {seals: right, opens: func(b []Packet) { b[1].Text[0] ^= 1 }},
	} {
		from := []path{{"wrong", true, func(key []byte, salt [4]byte) (engine, error) {
			s, err := newStdlib(key, salt)
			return blind{s, wrong.seals, wrong.opens}, err
		}}, paths[len(paths)-1]}
		if got, err := choose(from, ""); got.name != "stdlib" || err == nil || !strings.Contains(err.Error(), "wrong") {
			t.Errorf("wrong %s: %s, %v", name, got.name, err)
		}
	}
	for i := range ablePaths() {
		if p := ablePaths()[i]; !p.right() {
			t.Errorf("%s is not right", p.name)
		}
	}
}

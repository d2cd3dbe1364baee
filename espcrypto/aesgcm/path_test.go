package aesgcm

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	best, err := choose("")
	if err != nil || best != ablePaths()[0] {
		t.Errorf("unforced: %v, %v", best.name, err)
	}
	for i := range paths {
		p := &paths[i]
		got, err := choose(p.name)
		if p.able && (err != nil || got != p) {
			t.Errorf("%s: %s, %v", p.name, got.name, err)
		}
		if !p.able && (err == nil || got != best) {
			t.Errorf("%s, which is not to be had: %s, %v", p.name, got.name, err)
		}
	}
	got, err := choose("fast")
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

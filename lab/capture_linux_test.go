package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"culvert/pcapng"
)

// capturePings captures four echoes and their answers between gwa and the NAT.
func capturePings(t *testing.T) []byte {
	t.Helper()
	s := situation(t)
	var file bytes.Buffer
	c := must[*Capture](t)(s.GatewayA.Capture("wan", &file))
	must[PingStats](t)(s.GatewayA.Ping(t.Context(), GatewayBSeen, quick(4)))
	stats, err := c.Stop()
	if err != nil || stats.Packets < 8 || stats.Dropped != 0 {
		t.Fatalf("capture: %+v, %v", stats, err)
	}
	if again, err := c.Stop(); again != stats || err != nil {
		t.Errorf("second Stop: %+v, %v", again, err)
	}
	return file.Bytes()
}

// frames reads a capture back.
func frames(t *testing.T, file []byte) (packets [][]byte, times []time.Time) {
	t.Helper()
	for r := bytes.NewReader(file); r.Len() > 0; {
		b, err := pcapng.Read(r)
		if err != nil {
			t.Fatal(err)
		}
		if frame, ns, ok := b.Packet(); ok {
			packets, times = append(packets, frame), append(times, time.Unix(0, ns))
		}
	}
	return packets, times
}

func TestCaptureHoldsEverything(t *testing.T) {
	packets, times := frames(t, capturePings(t))
	now, echoes := time.Now(), map[byte]int{}
	for i, p := range packets {
		if d := times[i].Sub(now); d < -time.Hour || d > time.Hour {
			t.Errorf("packet %d is of %s", i, times[i])
		}
		if len(p) >= 35 && binary.BigEndian.Uint16(p[12:]) == 0x0800 && p[23] == 1 {
			echoes[p[34]]++
		}
	}
	if echoes[8] != 4 || echoes[0] != 4 {
		t.Errorf("%d echoes and %d answers of 4 are in the capture", echoes[8], echoes[0])
	}
}

func TestTsharkReadsCapture(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("needs tshark: apt-get install tshark")
	}
	file := capturePings(t)
	cmd := exec.Command(tshark, "-n", "-r", "-", "-Y", "icmp", "-T", "fields", "-e", "ip.src", "-e", "icmp.type", "-e", "_ws.malformed")
	cmd.Stdin = bytes.NewReader(file)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("203.0.113.1\t8\t\n192.0.2.10\t0\t\n", 4)
	if string(out) != want {
		t.Errorf("tshark reads\n%s", out)
	}
}

// full is a disk without room.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestCaptureFails(t *testing.T) {
	s := situation(t)
	if _, err := s.GatewayA.Capture("nowhere", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "nowhere on gwa") {
		t.Errorf("no such interface: %v", err)
	}
	if _, err := s.GatewayA.Capture("wan", &full{}); !errors.Is(err, errFull) {
		t.Errorf("no room for the header: %v", err)
	}
	c := must[*Capture](t)(s.GatewayA.Capture("wan", &full{room: 200}))
	must[PingStats](t)(s.GatewayA.Ping(t.Context(), netip.MustParseAddr("203.0.113.254"), quick(4)))
	if _, err := c.Stop(); !errors.Is(err, errFull) {
		t.Errorf("no room for the packets: %v", err)
	}
}

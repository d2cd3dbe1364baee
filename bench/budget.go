package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/lab"
)

// Super is what Budget counts by, in bytes of TCP payload: the most that the
// kernel hands over at once.
const Super = 64 << 10

// Cost is what a part of the work on a gateway takes for each Super.
type Cost struct {
	Part  string
	A, B  float64 // ns, on the gateway that it leaves the LAN by, and on the other
	User  bool    // not in the kernel
	parts []string
}

// parts of the work in user space, by how the innermost function's name begins,
// the first that fits.
var parts = []Cost{
	{Part: "encryption, decryption", parts: []string{"culvert/espcrypto/aesgcm."}},
	{Part: "checksums of the payload", parts: []string{"culvert/tun.sum"}},
	{Part: "headers of the segments", parts: []string{"culvert/tun.(*Splitter)"}},
	{Part: "packets of a run known and joined", parts: []string{"culvert/tun.(*Coalescer)", "culvert/tun.(*run)", "culvert/tun.(*mask)"}},
	{Part: "around each packet: SPI, number, IV, trailer, replay window", parts: []string{"culvert/espcrypto."}},
	{Part: "runs laid out, and taken apart", parts: []string{"culvert/gateway.", "culvert/natt.", "culvert/tun."}},
	{Part: "Go's runtime, and system calls before they are in the kernel", parts: []string{""}},
}

// calls are parts of the kernel's work, by the system call.
var calls = []Cost{
	{Part: "kernel: reading the device", parts: []string{"read", "readv"}},
	{Part: "kernel: sending", parts: []string{"sendmsg", "sendmmsg", "sendto"}},
	{Part: "kernel: receiving", parts: []string{"recvmsg", "recvmmsg", "recvfrom"}},
	{Part: "kernel: writing to the device", parts: []string{"write", "writev"}},
	{Part: "kernel: the network behind device and socket, and the host's TCP", parts: nil},
	{Part: "kernel: waiting and waking", parts: nil},
}

// softInterrupt is the function in which the kernel takes a packet from a link:
// on the account of whoever put it there, when all of the network is one machine.
const softInterrupt = kernelFrame + "net_rx_action"

// Budget profiles both gateways of a system with perf while one TCP stream goes
// from LAN A to LAN B, and says where the time of each 64 KB goes.
func Budget(ctx context.Context, system System, d time.Duration) (costs []Cost, err error) {
	if _, err := exec.LookPath("perf"); err != nil {
		return nil, errors.New("no perf here: apt-get install --no-install-recommends linux-perf")
	}
	err = system.in(ctx, 0, func(s *lab.SiteToSite) (err error) {
		if err := awaitTunnel(ctx, s); err != nil {
			return err
		}
		p, err := newProfile(s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
		costs, err = p.run(ctx, s, d)
		return err
	})
	return costs, err
}

// profile is one in the making.
type profile struct {
	dir  string
	a, b []int // the gateways' processes
}

func newProfile(s *lab.SiteToSite) (p profile, err error) {
	a, errA := s.GatewayA.Processes()
	b, errB := s.GatewayB.Processes()
	dir, err := os.MkdirTemp("", "culvert-bench-")
	return profile{dir, a, b}, errors.Join(errA, errB, err)
}

func (p profile) run(ctx context.Context, s *lab.SiteToSite, d time.Duration) ([]Cost, error) {
	file, pids := filepath.Join(p.dir, "perf.data"), strings.Trim(strings.ReplaceAll(fmt.Sprint(slices.Concat(p.a, p.b)), " ", ","), "[]")
	perf := exec.CommandContext(ctx, "perf", "record", "-e", "cpu-clock", "-F", "1999", "-g", "-p", pids, "-o", file, "sleep", strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
	recorded := make(chan error, 1)
	startA, errA := s.GatewayA.ProcessorTime()
	startB, errB := s.GatewayB.ProcessorTime()
	go func() {
		out, err := perf.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("perf record: %w\n%s", err, out)
		}
		recorded <- err
	}()
	moved, err := lab.TCP(ctx, s.HostA, s.HostB, lab.HostBAddr, lab.TCPOptions{Duration: d})
	endA, errEndA := s.GatewayA.ProcessorTime()
	endB, errEndB := s.GatewayB.ProcessorTime()
	if err := errors.Join(<-recorded, err, errA, errB, errEndA, errEndB); err != nil {
		return nil, err
	}
	script, err := exec.CommandContext(ctx, "perf", "script", "-i", file, "-F", "pid,ip,sym").Output()
	if err != nil {
		return nil, fmt.Errorf("perf script: %w", err)
	}
	counts, err := countSamples(strings.NewReader(string(script)), p.a)
	if err != nil {
		return nil, err
	}
	supers := float64(moved.Bytes) / Super
	return scaled(counts, float64((endA-startA).Nanoseconds())/supers, float64((endB-startB).Nanoseconds())/supers), nil
}

// scaled turns counts of samples into shares of what the gateways took in all.
func scaled(counts []Cost, a, b float64) []Cost {
	var allA, allB float64
	for _, c := range counts {
		allA, allB = allA+c.A, allB+c.B
	}
	for i := range counts {
		counts[i].A *= a / max(1, allA)
		counts[i].B *= b / max(1, allB)
	}
	return counts
}

var (
	frameLine  = regexp.MustCompile(`^\s+([0-9a-f]+) (.*)$`)
	systemCall = regexp.MustCompile(`^(?:__x64_sys_|__arm64_sys_|ksys_|do_)(\w+)$`)
)

// countSamples reads what perf script prints with -F pid,ip,sym: a line with the
// process, then the frames, innermost first, then an empty line.
func countSamples(r io.Reader, a []int) ([]Cost, error) {
	counts := slices.Concat(parts, calls)
	for i := range parts {
		counts[i].User = true
	}
	pid := 0
	var frames []string
	end := func() {
		switch c := &counts[partOf(frames)]; {
		case len(frames) == 0:
		case slices.Contains(a, pid):
			c.A++
		default:
			c.B++
		}
		pid, frames = 0, nil
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		f := frameLine.FindStringSubmatch(line)
		switch {
		case strings.TrimSpace(line) == "":
			end()
		case f == nil || pid == 0:
			n, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return nil, fmt.Errorf("perf script: no process in %q", line)
			}
			pid = n
		case strings.HasPrefix(f[1], "ffff"):
			frames = append(frames, kernelFrame+f[2])
		default:
			frames = append(frames, f[2])
		}
	}
	end()
	return counts, lines.Err()
}

// kernelFrame marks the kernel's functions.
const kernelFrame = "kernel "

// partOf is the index in parts, followed by calls, of what a sample belongs to.
func partOf(frames []string) int {
	if len(frames) > 0 && !strings.HasPrefix(frames[0], kernelFrame) {
		return slices.IndexFunc(parts, func(c Cost) bool {
			return slices.ContainsFunc(c.parts, func(prefix string) bool { return strings.HasPrefix(frames[0], prefix) })
		})
	}
	if slices.Contains(frames, softInterrupt) {
		return len(parts) + len(calls) - 2
	}
	for _, f := range slices.Backward(frames) { // from the system call inwards
		m := systemCall.FindStringSubmatch(strings.TrimPrefix(f, kernelFrame))
		if m == nil {
			continue
		}
		if i := slices.IndexFunc(calls, func(c Cost) bool { return slices.Contains(c.parts, m[1]) }); i >= 0 {
			return len(parts) + i
		}
	}
	return len(parts) + len(calls) - 1
}

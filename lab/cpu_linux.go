package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit in which /proc tells processor time: USER_HZ, 100 a
// second on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// ProcessorTime is how long the programs inside the host have kept a processor
// busy since they started, in their own code and in the kernel, to 10 ms each.
// What the kernel does for one of them in an interrupt is on the account of
// whoever was interrupted: of a program that sends, mostly its own.
func (h *Host) ProcessorTime() (total time.Duration, err error) {
	processes, err := h.Processes()
	for _, pid := range processes {
		stat, gone := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if gone != nil || err != nil {
			continue
		}
		var t time.Duration
		t, err = processTime(stat)
		total += t
	}
	if err != nil {
		return 0, fmt.Errorf("lab: processor time of %s: %w", h.Name, err)
	}
	return total, nil
}

// Processes are the IDs of the programs inside the host.
func (h *Host) Processes() (ids []int, err error) {
	err = h.ns.hold(func(fd int) error {
		here, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			return err
		}
		entries, err := os.ReadDir("/proc")
		for _, e := range entries {
			pid, notOne := strconv.Atoi(e.Name())
			if notOne != nil {
				continue
			}
			if ns, gone := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid)); gone == nil && os.SameFile(ns, here) {
				ids = append(ids, pid)
			}
		}
		return err
	})
	return ids, err
}

// processTime is utime and stime of a /proc/PID/stat (proc_pid_stat(5)), whose
// second field, the name, may contain anything.
func processTime(stat []byte) (time.Duration, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const state, utime, stime = 3, 14, 15 // numbered from 1
	if len(fields) <= stime-state {
		return 0, fmt.Errorf("%d fields in %q", len(fields), stat)
	}
	user, err := strconv.ParseInt(fields[utime-state], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[stime-state], 10, 64)
	return time.Duration(user+system) * clockTick, err
}

// BusyTime is how long the processors of this machine have been busy since it
// started, all together and with whatever, to 10 ms.
func BusyTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return machineTime(stat)
}

// machineTime sums the first line of /proc/stat (proc_stat(5)) up, but for the
// time in which there was nothing to do or another machine had the processor.
// Guests are in the user's time already.
func machineTime(stat []byte) (time.Duration, error) {
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	const user, nice, system, irq, softirq = 1, 2, 3, 6, 7
	if len(fields) <= softirq || fields[0] != "cpu" {
		return 0, fmt.Errorf("lab: no processor time in %q", line)
	}
	var ticks int64
	for _, i := range []int{user, nice, system, irq, softirq} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("lab: processor time in %q: %w", line, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

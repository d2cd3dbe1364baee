package diagnose

import (
	"fmt"
	"time"
)

// Slept is the view of a gateway whose machine has slept.
type Slept struct{ For time.Duration }

// Report says what became of the tunnels, and how to keep a gateway awake.
func (f Slept) Report() Report {
	return compose("slept", fmt.Sprintf("this machine slept for %v", f.For.Round(time.Second)),
		"Peers give up a side that is silent for long. So all of them were asked at once whether they are still there, and those that are not are called anew; the sleep counts for the lifetimes of keys.",
		"A machine that others are to reach at any time must not sleep (`systemctl mask sleep.target suspend.target`).")
}

// ClockSet is the view of a gateway the clock of whose machine was set.
type ClockSet struct {
	By time.Duration // forward; negative: back
}

// Report says what depends on the time of day.
func (f ClockSet) Report() Report {
	by, paused := fmt.Sprintf("back by %v", -f.By.Round(time.Second)), ""
	if f.By > 0 {
		by = fmt.Sprintf("forward by %v", f.By.Round(time.Second))
		paused = "Or the machine was paused, as a virtual machine can be: so all peers were asked whether they are still there."
	}
	return compose("clock_set", fmt.Sprintf("the clock of this machine was set %s", by), paused,
		"No tunnel depends on it. Records of before have the time of before, so that the logs of the two sides can disagree by as much; tickets of session resumption that seem too old, or from the future, are refused, and their peers make a whole new connection.",
		"If it happens again, have a time service keep the clock (`timedatectl` shows whether one does).")
}

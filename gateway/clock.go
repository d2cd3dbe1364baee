package gateway

import (
	"fmt"
	"time"

	"culvert/diagnose"
	"culvert/ikev2"
)

// Everything here is timed by a clock that nobody can set, and that stands still
// while the machine sleeps. The time of day is for people, for records, and for the
// tickets of session resumption, which outlive the process.

var started = time.Now()

// nanotime counts nanoseconds by the clock that nobody can set, from the Unix time
// at which the process began. What goes by the time of day stands still for as
// long as that is set back.
func nanotime() int64 { return started.UnixNano() + int64(time.Since(started)) }

// sinceNano is the time since a nanotime, and wallTime what the clock on the wall
// would have said then, as it goes now; the zero Time for 0.
func sinceNano(at int64) time.Duration { return time.Duration(nanotime() - at) }

func wallTime(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Now().Round(0).Add(-sinceNano(at))
}

const (
	// clockJump is by how much the clocks have to come apart: a nap that peers and
	// NATs may have noticed.
	clockJump = 5 * time.Second
	// clockInterval is how soon after it that is seen.
	clockInterval = time.Second
)

// clocks is what they said last, and what they have done lately.
type clocks struct {
	mono, wall time.Time
	slept      time.Duration // since the machine was started
	did        []clockEvent
}

type clockEvent struct {
	at     time.Time
	report diagnose.Report
}

// clock is the time of day, and for how long the machine has slept in all.
func (d *Doors) clock() (wall time.Time, slept time.Duration) {
	if d.Clock != nil {
		return d.Clock()
	}
	return time.Now().Round(0), sleptTime()
}

// compareClocks finds out that the machine has slept, and that its clock was set.
// A virtual machine that is paused may see no more of that than a clock that
// goes forward, so peers are asked then too.
func (c *control) compareClocks() {
	k, now := &c.clocks, time.Now()
	wall, slept := c.g.doors.clock()
	sleep := slept - k.slept
	step := wall.Sub(k.wall) - now.Sub(k.mono) - sleep
	first := k.mono.IsZero()
	k.mono, k.wall, k.slept = now, wall, slept
	switch {
	case first:
		return
	case max(step, -step) >= clockJump:
		c.clockWasSet(step)
	}
	if sleep >= clockJump {
		c.clockEvent("resumed", diagnose.Slept{For: sleep}.Report())
		c.command(ikev2.Slept{For: sleep})
	}
	if sleep+step >= clockJump {
		c.roaming.slept = true
		c.networkChanged()
	}
}

// clockWasSet has what people are told of times go by the clock as it goes now.
func (c *control) clockWasSet(step time.Duration) {
	move := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Round(0).Add(step)
		}
	}
	move(&c.g.started)
	for _, p := range c.peers {
		move(&p.Since)
	}
	for _, ch := range c.children {
		move(&ch.since)
	}
	c.clockEvent("clock_set", diagnose.ClockSet{By: step}.Report())
}

func (c *control) clockEvent(event string, r diagnose.Report) {
	c.g.log.Info(r.Detail, "event", event, "diagnosis", r.Code)
	c.clocks.did = lastOf(append(c.clocks.did, clockEvent{time.Now(), r}), memory/8)
}

// clockFindings are worth knowing for a while: nothing is wrong.
func (k *clocks) findings() (all []Finding) {
	for _, e := range k.did {
		if ago := time.Since(e.at); ago < flapWindow {
			all = append(all, Finding{Code: e.report.Code, Why: e.report.Summary, Text: fmt.Sprintf("%s (%v ago)", e.report.Detail, ago.Round(time.Second))})
		}
	}
	return all
}

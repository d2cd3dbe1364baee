package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"culvert/gateway"
)

// table is the status in rows and columns, and under them a line for each thing
// that is wrong.
type table struct {
	now    time.Time
	past   gateway.History // of --watch; else none
	colour bool
}

// cell is one field of a row, and its colour on a terminal.
type cell struct{ text, colour string }

const (
	red, green, yellow, dim = "31", "32", "33", "2"
	notAny                  = "-"
)

var stateColours = map[string]string{"up": green, "connecting": yellow, "down": red}

func (t *table) print(w io.Writer, s gateway.Status) {
	draining := ""
	if slices.ContainsFunc(s.Findings, func(f gateway.Finding) bool { return f.Code == "draining" }) {
		draining = ", draining"
	}
	fmt.Fprintf(w, "culvert, up %s, %s, device %s%s\n\n", span(t.now.Sub(s.Started)), s.Config, s.Device.Name, draining)
	rows := [][]cell{t.header()}
	for _, p := range s.Peers {
		rows = append(rows, t.rows(p)...)
	}
	for _, line := range t.align(rows) {
		fmt.Fprintln(w, line)
	}
	t.printWrongs(w, s)
}

func (t *table) header() (row []cell) {
	for _, name := range []string{"PEER", "STATE", "FOR", "PEER AT", "NAT", "IN", "OUT", "ROUND TRIP", "TUNNEL", "UP", "NETWORKS"} {
		row = append(row, cell{name, dim})
	}
	return row
}

// rows are one for each tunnel that is up, and one where none is.
func (t *table) rows(p gateway.PeerStatus) (rows [][]cell) {
	first := []cell{{p.Name, ""}, {p.State, stateColours[p.State]}, {t.since(p.Since), ""}, {notAny, ""}, {notAny, ""}, {notAny, ""}, {notAny, ""}, {notAny, ""}}
	if p.RemoteAddress.IsValid() {
		first[3].text = p.RemoteAddress.String()
	}
	if p.State == "up" {
		in, out := t.sparks(p.Name)
		first[4].text, first[5].text, first[6].text = p.NAT, in+rateText(p.BitsIn), out+rateText(p.BitsOut)
		if p.RoundTrip > 0 {
			first[7].text = fmt.Sprintf("%.1f ms", p.RoundTrip*1000)
		}
	}
	for i, c := range p.Children {
		if i > 0 {
			first = make([]cell, len(first))
		}
		rows = append(rows, append(slices.Clip(first), cell{c.Name, ""}, cell{t.since(c.Since), ""}, cell{some(c.Local) + " <-> " + some(c.Remote), ""}))
	}
	if len(rows) == 0 {
		rows = [][]cell{append(first, cell{notAny, ""})}
	}
	return rows
}

// some of a list, which --details has whole.
func some(list []string) string {
	const shown = 2
	if len(list) <= shown+1 {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:shown], ","), len(list)-shown)
}

func (t *table) since(at time.Time) string {
	if at.IsZero() {
		return notAny
	}
	return span(t.now.Sub(at))
}

// sparks draw the last samples of a peer.
func (t *table) sparks(peer string) (in, out string) {
	for _, p := range t.past.Peers {
		if p.Name == peer {
			return sparkline(p.BitsIn) + " ", sparkline(p.BitsOut) + " "
		}
	}
	return "", ""
}

// sparkLen is the samples in a sparkline.
const sparkLen = 16

func sparkline(samples []float32) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	samples = samples[max(0, len(samples)-sparkLen):]
	if len(samples) == 0 {
		return ""
	}
	line, most := make([]rune, len(samples)), slices.Max(samples)
	for i, s := range samples {
		line[i] = blocks[0]
		if s > 0 {
			line[i] = blocks[int(math.Round(float64(s/most)*float64(len(blocks)-1)))]
		}
	}
	return string(line)
}

// align pads the columns; the last one of a row stays as it is.
func (t *table) align(rows [][]cell) (lines []string) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range row {
			b.WriteString(t.paint(printable(c.text), c.colour))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

func (t *table) paint(text, colour string) string {
	if !t.colour || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// printWrongs are a line each.
func (t *table) printWrongs(w io.Writer, s gateway.Status) {
	var lines []string
	add := func(who, why string) {
		lines = append(lines, t.paint("! "+who, red)+": "+printable(why))
	}
	for _, p := range s.Peers {
		if p.Why != "" {
			add(p.Name, p.Why)
		}
	}
	for _, f := range s.Findings {
		if f.Wrong {
			add(strings.TrimSuffix(cmp.Or(f.Peer, "gateway")+" "+f.Tunnel, " "), f.Why)
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(w, "\n%s\n  culvert explain: why, and which line to change\n", strings.Join(lines, "\n"))
	}
}

// span is a duration in its two largest units.
func span(d time.Duration) string {
	d = max(0, d.Round(time.Second))
	s := int(d.Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// rateText is bits a second in the unit that fits them.
func rateText(bits float64) string {
	units := []string{"bit/s", "kbit/s", "Mbit/s", "Gbit/s"}
	i := 0
	for ; bits >= 1000 && i < len(units)-1; i++ {
		bits /= 1000
	}
	if i == 0 || bits >= 100 {
		return fmt.Sprintf("%.0f %s", bits, units[i])
	}
	return fmt.Sprintf("%.1f %s", bits, units[i])
}

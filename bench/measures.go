package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"culvert/lab"
)

// Figure is something that a measure finds out about a system.
type Figure struct {
	Name  string // in JSON
	Title string
	Unit  string
	Less  bool // the less the better
}

// Measure is one thing done through a tunnel that is up.
type Measure struct {
	Name     string
	Figures  []Figure
	duration time.Duration // unless Options say otherwise
	run      func(context.Context, *lab.SiteToSite, time.Duration) ([]float64, error)
}

// take returns the figures by name.
func (m Measure) take(ctx context.Context, s *lab.SiteToSite, d time.Duration) (map[string]float64, error) {
	if d <= 0 {
		d = m.duration
	}
	values, err := m.run(ctx, s, d)
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for i, f := range m.Figures {
		figures[f.Name] = values[i]
	}
	return figures, nil
}

// Measures are all, in the order in which they are taken.
func Measures() []Measure {
	return []Measure{
		tcp("tcp1", "TCP, one stream", lab.TCPOptions{Duration: 3 * time.Second}),
		tcp("tcp4", "TCP, four streams", lab.TCPOptions{Duration: 3 * time.Second, Streams: 4}),
		udp("udp64", 64),
		udp("udp1300", 1300),
		{
			Name: "idle", duration: time.Second, run: idle,
			Figures: roundTrips("idle", "ping, idle"),
		},
		{
			Name: "loaded", duration: 2 * time.Second, run: loaded,
			Figures: roundTrips("loaded", "ping, beside a TCP stream"),
		},
	}
}

// PacketSizes are what Sizes are measured with, in bytes: the least that TCP
// takes, and the most that strongSwan's device does.
var PacketSizes = []int{128, 256, 512, 1024, 1400}

// SizeName is the measure of one of PacketSizes.
func SizeName(bytes int) string { return fmt.Sprintf("packets%d", bytes) }

// Sizes are TCP in packets of one size after the other, for a plot.
func Sizes() (all []Measure) {
	for _, n := range PacketSizes {
		all = append(all, tcp(SizeName(n), fmt.Sprintf("TCP in packets of %d bytes", n), lab.TCPOptions{Duration: 1500 * time.Millisecond, Packet: n}))
	}
	return all
}

// Named picks measures by their names, separated by commas: "" for Measures,
// "sizes" for Sizes.
func Named(names string) ([]Measure, error) {
	switch names {
	case "":
		return Measures(), nil
	case "sizes":
		return Sizes(), nil
	}
	var picked []Measure
	all := slices.Concat(Measures(), Sizes())
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(m Measure) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no measure %q", name)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// Figures are those of some measures, in order.
func Figures(measures []Measure) (all []Figure) {
	for _, m := range measures {
		all = append(all, m.Figures...)
	}
	return all
}

// tcp moves TCP from LAN A to LAN B, and says besides how much processor time
// the programs on both gateways used for a GB (10^9 bytes) of payload, and how
// much the whole machine did, hosts and all.
func tcp(name, title string, o lab.TCPOptions) Measure {
	return Measure{
		Name: name, duration: o.Duration,
		Figures: []Figure{
			{Name: name, Title: title, Unit: "Gbit/s"},
			{Name: name + "_gateways", Title: "  its gateways' processor time", Unit: "s/GB", Less: true},
			{Name: name + "_machine", Title: "  the whole machine's", Unit: "s/GB", Less: true},
		},
		run: func(ctx context.Context, s *lab.SiteToSite, d time.Duration) ([]float64, error) {
			before, err := readMeters(s)
			if err != nil {
				return nil, err
			}
			o.Duration = d
			got, err := lab.TCP(ctx, s.HostA, s.HostB, lab.HostBAddr, o)
			if err != nil {
				return nil, err
			}
			after, err := readMeters(s)
			gb := float64(got.Bytes) / 1e9
			return []float64{
				got.BitsPerSecond() / 1e9,
				(after.gateways - before.gateways).Seconds() / gb,
				(after.machine - before.machine).Seconds() / gb,
			}, err
		},
	}
}

// meters are processor times at a moment.
type meters struct{ gateways, machine time.Duration }

func readMeters(s *lab.SiteToSite) (meters, error) {
	a, errA := s.GatewayA.ProcessorTime()
	b, errB := s.GatewayB.ProcessorTime()
	machine, errM := lab.BusyTime()
	return meters{a + b, machine}, errors.Join(errA, errB, errM)
}

// udp sends more datagrams of size bytes from LAN A to LAN B than get through.
func udp(name string, size int) Measure {
	return Measure{
		Name: name, duration: 2 * time.Second,
		Figures: []Figure{
			{Name: name, Title: fmt.Sprintf("UDP of %d bytes, delivered", size), Unit: "kp/s"},
			{Name: name + "_sent", Title: "  of those sent", Unit: "kp/s"},
		},
		run: func(ctx context.Context, s *lab.SiteToSite, d time.Duration) ([]float64, error) {
			got, err := lab.UDP(ctx, s.HostA, s.HostB, lab.HostBAddr, lab.UDPOptions{Duration: d, Size: size})
			if err != nil {
				return nil, err
			}
			return []float64{got.Delivered() / 1e3, float64(got.Sent) / got.Duration.Seconds() / 1e3}, nil
		},
	}
}

func roundTrips(name, title string) []Figure {
	return []Figure{
		{Name: name + "_p50", Title: title + ", median", Unit: "µs", Less: true},
		{Name: name + "_p99", Title: title + ", 99th percentile", Unit: "µs", Less: true},
	}
}

// pingEvery lets a gateway go to sleep in between.
const pingEvery = 5 * time.Millisecond

func idle(ctx context.Context, s *lab.SiteToSite, d time.Duration) ([]float64, error) {
	stats, err := s.HostA.Ping(ctx, lab.HostBAddr, lab.PingOptions{Count: max(1, int(d/pingEvery)), Interval: pingEvery})
	if err == nil && stats.Received == 0 {
		err = errors.New("no echo came back")
	}
	if err != nil {
		return nil, err
	}
	return []float64{micros(Percentile(stats.RoundTrips, 50)), micros(Percentile(stats.RoundTrips, 99))}, nil
}

// loaded pings while one stream of TCP goes the same way.
func loaded(ctx context.Context, s *lab.SiteToSite, d time.Duration) (figures []float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	moved := make(chan error, 1)
	flowing := make(chan struct{}, 1)
	go func() {
		_, err := lab.TCP(ctx, s.HostA, s.HostB, lab.HostBAddr, lab.TCPOptions{
			Duration: time.Hour, Interval: 200 * time.Millisecond, // past the slow start
			Progress: func(lab.Throughput) {
				select {
				case flowing <- struct{}{}:
				default:
				}
			},
		})
		moved <- err
	}()
	select {
	case <-flowing:
	case err := <-moved:
		return nil, err
	}
	figures, err = idle(ctx, s, d)
	cancel()
	if broken := <-moved; err == nil && !errors.Is(broken, context.Canceled) {
		err = broken
	}
	return figures, err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// Percentile is the least of v that p percent of v do not exceed, 0 of none.
func Percentile(v []time.Duration, p int) time.Duration {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[max(0, (len(v)*p+99)/100-1)]
}

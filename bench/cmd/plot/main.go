// Command plot draws what race found of packets of different sizes: how much
// TCP went through, and how much processor time the gateways took for it.
//
//	go run ./bench/cmd/race -measures sizes -o bench/results/sizes.json    # as root
//	go run ./bench/cmd/plot bench/results                                  # throughput.svg, processor.svg
package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/wcharczuk/go-chart/v2"
	"github.com/wcharczuk/go-chart/v2/drawing"

	"culvert/bench"
)

//go:generate go run . ../../results

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: plot FOLDER, which has sizes.json")
		os.Exit(2)
	}
	if err := drawAll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func drawAll(dir string) error {
	report, err := bench.ReadReport(filepath.Join(dir, "sizes.json"))
	if err != nil {
		return err
	}
	for _, p := range plots {
		svg, err := p.draw(report.Samples)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, p.file), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// plot is a figure of every system against the size of packets.
type plot struct {
	file, title string
	figure      func(size int) string // its name
	ticks       []float64             // of the vertical axis, the first and the last its ends
}

var plots = []plot{
	{"throughput.svg", "TCP, one stream, Gbit/s", bench.SizeName, []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10}},
	{"processor.svg", "processor seconds of both gateways a GB", func(size int) string { return bench.SizeName(size) + "_gateways" }, []float64{1, 3, 10, 30, 100, 300, 1000}},
}

// inks are the systems' colours, dark enough on white, told apart without red
// and green.
var inks = map[string]string{"culvert": "0b5394", "relay": "888888", "wireguard-go": "b45f06", "strongswan": "741b47"}

func (p plot) draw(s bench.Samples) ([]byte, error) {
	var x []float64
	for _, n := range bench.PacketSizes {
		x = append(x, float64(n))
	}
	c := chart.Chart{
		Title: p.title, TitleStyle: chart.Style{FontSize: 12},
		Width: 720, Height: 400,
		Background: chart.Style{Padding: chart.Box{Top: 70, Left: 20, Right: 20, Bottom: 10}},
		XAxis:      chart.XAxis{Name: "bytes of a packet in the tunnel", Ticks: ticks(x)},
		YAxis: chart.YAxis{
			AxisType: chart.YAxisSecondary, Ticks: ticks(p.ticks), // on the left
			GridMajorStyle: chart.Style{StrokeColor: drawing.ColorFromHex("dddddd"), StrokeWidth: 1},
		},
	}
	for _, system := range s.Systems() {
		ink := drawing.ColorFromHex(inks[system])
		series := chart.ContinuousSeries{Name: system, Style: chart.Style{StrokeColor: ink, StrokeWidth: 2, DotColor: ink, DotWidth: 3}}
		for _, n := range bench.PacketSizes {
			series.XValues = append(series.XValues, scale(float64(n)))
			series.YValues = append(series.YValues, scale(s.Median(system, p.figure(n))))
		}
		c.Series = append(c.Series, series)
	}
	c.Elements = []chart.Renderable{chart.LegendThin(&c, chart.Style{FontSize: 9, StrokeColor: chart.ColorWhite, FillColor: chart.ColorWhite})}
	var svg bytes.Buffer
	err := c.Render(chart.SVG, &svg)
	return svg.Bytes(), err
}

// scale makes both axes logarithmic.
func scale(v float64) float64 { return math.Log2(v) }

func ticks(at []float64) (all []chart.Tick) {
	for _, v := range at {
		all = append(all, chart.Tick{Value: scale(v), Label: strconv.FormatFloat(v, 'g', -1, 64)})
	}
	return all
}

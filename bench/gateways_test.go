package bench

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"culvert/config"
	"culvert/examples"
	"culvert/gateway"
	"culvert/lab"
)

// inside runs both gateways of a situation in this process, where their memory
// and their processor time can be looked at. Their devices and sockets belong to
// the namespaces.
type inside struct {
	*lab.SiteToSite
	a, b *gateway.Gateway
	log  lab.Log
}

func newInside(t testing.TB) *inside {
	t.Helper()
	s, err := lab.Situation(labPrefix, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &inside{SiteToSite: s}
	n.a = n.start(t, s.GatewayA, lab.GatewayAAddr, "side-a.toml")
	n.b = n.start(t, s.GatewayB, lab.GatewayBAddr, "side-b.toml")
	if err := awaitTunnel(t.Context(), s); err != nil {
		t.Fatalf("%v\n%s", err, n.log.String())
	}
	return n
}

// start opens and runs a gateway on a thread inside the host, since its routes
// come and go in Run.
func (n *inside) start(t testing.TB, h *lab.Host, addr netip.Addr, file string) *gateway.Gateway {
	t.Helper()
	text, err := examples.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(file, text, config.Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Peers[0].Local = addr // so that nobody asks another thread's routing table
	ctx, cancel := context.WithCancel(context.Background())
	opened, done := make(chan *gateway.Gateway, 1), make(chan error, 1)
	go func() {
		defer close(opened)
		done <- h.Do(func() error {
			g, err := gateway.New(cfg, gateway.Options{Log: slog.New(slog.NewTextHandler(&n.log, nil))})
			if err != nil {
				return err
			}
			opened <- g
			return g.Run(ctx)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("gateway of %s: %v", file, err)
		}
	})
	g := <-opened
	if g == nil {
		t.FailNow()
	}
	return g
}

// packets is how many inner packets the gateway has sealed and opened.
func packets(t testing.TB, g *gateway.Gateway) (n uint64) {
	t.Helper()
	s, ok := g.Status()
	if !ok {
		t.Fatal("the gateway does not run")
	}
	for _, p := range s.Peers {
		for _, c := range p.Children {
			n += c.PacketsIn + c.PacketsOut
		}
	}
	return n
}

// TestNoAllocation: two gateways with real devices and sockets carry TCP both
// ways, and hardly anything is allocated meanwhile in the whole process, which
// is also that of the hosts' TCP.
func TestNoAllocation(t *testing.T) {
	need(t, Available())
	n := newInside(t)
	for _, way := range []struct{ from, to *lab.Host }{{n.HostA, n.HostB}, {n.HostB, n.HostA}} {
		addr := lab.HostBAddr
		if way.to == n.HostA {
			addr = lab.HostAAddr
		}
		var at []steady
		got, err := lab.TCP(t.Context(), way.from, way.to, addr, lab.TCPOptions{
			Duration: 2500 * time.Millisecond, Interval: 500 * time.Millisecond,
			Progress: func(lab.Throughput) { at = append(at, n.steady(t)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(at) < 2 {
			t.Fatalf("looked %d times in %d bytes", len(at), got.Bytes)
		}
		first, last := at[0], at[len(at)-1]
		moved, mallocs := last.packets-first.packets, last.mallocs-first.mallocs
		t.Logf("%s -> %s: %d allocations for %d packets sealed or opened", way.from.Name, way.to.Name, mallocs, moved)
		if moved < 10000 || float64(mallocs) > float64(moved)/100 {
			t.Errorf("%d allocations for %d packets", mallocs, moved)
		}
	}
}

// steady is a moment of the process.
type steady struct{ packets, mallocs uint64 }

func (n *inside) steady(t testing.TB) steady {
	s := steady{packets: packets(t, n.a) + packets(t, n.b)}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.mallocs = m.Mallocs
	return s
}

// BenchmarkTCP moves TCP from LAN to LAN, a second for each iteration, with both
// gateways in this process for -cpuprofile to see.
func BenchmarkTCP(b *testing.B) {
	if err := Available(); err != nil {
		b.Skip(err)
	}
	n := newInside(b)
	var total lab.Throughput
	for b.Loop() {
		got, err := lab.TCP(b.Context(), n.HostA, n.HostB, lab.HostBAddr, lab.TCPOptions{})
		if err != nil {
			b.Fatal(err)
		}
		total.Bytes, total.Duration = total.Bytes+got.Bytes, total.Duration+got.Duration
	}
	b.ReportMetric(total.BitsPerSecond()/1e9, "Gbit/s")
}

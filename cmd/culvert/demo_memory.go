package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/config"
	"culvert/examples"
	"culvert/gateway"
	"culvert/lab"
	"culvert/natt"
	"culvert/natt/nattest"
	"culvert/tun"
	"culvert/tun/netstack"
)

// memoryStage is the demo where namespaces are forbidden: the same gateways in
// this process, each with a network stack in user space for its LAN host, over
// a NAT in memory.
type memoryStage struct {
	why          string
	net          *nattest.Network
	hosts        map[string]*netstack.Stack
	stop         context.CancelFunc
	ctx          context.Context
	gateways     sync.WaitGroup
	mu           sync.Mutex
	gatewayError error
}

// memoryMTU is what fits the situation's 1500 bytes outside.
const memoryMTU = 1438

func newMemoryStage(why string) (*memoryStage, error) {
	n, err := nattest.New(nattest.Config{NAT: nattest.OneToOne})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &memoryStage{why: why, net: n, hosts: map[string]*netstack.Stack{}, ctx: ctx, stop: stop}, nil
}

func (s *memoryStage) describe() string {
	return fmt.Sprintf("no namespaces here: %s.\nThe same two gateways run in this one process, over a NAT in memory. No packet\n"+
		"touches the system, and the throughput says nothing about real devices.\n\n%s", s.why, demoPicture)
}

func (s *memoryStage) start(_ context.Context, side demoSide, show *demoShow) error {
	host, lan := s.net.A, lab.HostAAddr
	if side.name == "B" {
		host, lan = s.net.B, lab.HostBAddr
	}
	text, err := examples.Files.ReadFile(side.file)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(side.file, text, config.Lookups{})
	if err != nil {
		return err
	}
	doors, stack, err := memoryDoors(host, lan)
	if err != nil {
		return err
	}
	s.hosts[side.name] = stack
	g, err := gateway.New(cfg, gateway.Options{Log: slog.New(showHandler{show, side.name}), Doors: doors})
	if err != nil {
		return err
	}
	s.gateways.Go(func() {
		if err := g.Run(s.ctx); err != nil {
			s.mu.Lock()
			s.gatewayError = errors.Join(s.gatewayError, fmt.Errorf("gateway %s: %w", side.name, err))
			s.mu.Unlock()
			show.ended(side.name, err)
		}
	})
	return nil
}

// memoryDoors are a gateway's ways out in memory: the stack is its device and
// the host of its LAN in one.
func memoryDoors(host *nattest.Host, lan netip.Addr) (*gateway.Doors, *netstack.Stack, error) {
	ike, err := host.Listen(netip.AddrPortFrom(netip.Addr{}, 500), natt.Options{})
	if err != nil {
		return nil, nil, err
	}
	encap, err := host.Listen(netip.AddrPortFrom(netip.Addr{}, 4500), natt.Options{NATT: true})
	if err != nil {
		return nil, nil, err
	}
	stack, err := netstack.New([]netip.Addr{lan}, memoryMTU)
	if err != nil {
		return nil, nil, err
	}
	return &gateway.Doors{
		Device: stack, IKE: ike, NATT: encap,
		LocalAddr: func(netip.Addr) (netip.Addr, error) { return host.Addr(), nil },
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "no names in memory", Name: name, IsNotFound: true}
		},
		AddRoute:    func(netip.Prefix, tun.RouteOptions) error { return nil },
		DelRoute:    func(netip.Prefix) error { return nil },
		AddAddr:     func(netip.Addr) error { return nil },
		DelAddr:     func(netip.Addr) error { return nil },
		ChangeRoute: func(netip.Prefix, tun.RouteOptions) error { return nil },
	}, stack, nil
}

func (s *memoryStage) ping(ctx context.Context, count int) (stats lab.PingStats, err error) {
	var sum time.Duration
	for range count {
		one, cancel := context.WithTimeout(ctx, time.Second)
		rtt, err := s.hosts["B"].Ping(one, lab.HostAAddr)
		cancel()
		stats.Sent++
		if err != nil {
			if ctx.Err() != nil {
				return stats, ctx.Err()
			}
			continue
		}
		stats.Received++
		sum += rtt
		if stats.Min == 0 || rtt < stats.Min {
			stats.Min = rtt
		}
		stats.Max = max(stats.Max, rtt)
		stats.Avg = sum / time.Duration(stats.Received)
	}
	return stats, nil
}

const memoryPort = 5001

func (s *memoryStage) tcp(ctx context.Context, d time.Duration, progress func(lab.Throughput)) (lab.Throughput, error) {
	l, err := s.hosts["B"].ListenTCP(netip.AddrPortFrom(lab.HostBAddr, memoryPort))
	if err != nil {
		return lab.Throughput{}, err
	}
	defer func() { _ = l.Close() }()
	received := make(chan error, 1)
	total := lab.Throughput{}
	go func() { received <- receiveFor(l, &total, progress) }()
	conn, err := s.hosts["A"].DialTCP(ctx, netip.AddrPortFrom(lab.HostBAddr, memoryPort))
	if err != nil {
		return lab.Throughput{}, err
	}
	block := make([]byte, 64<<10)
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		if _, err := conn.Write(block); err != nil {
			_ = conn.Close()
			return lab.Throughput{}, err
		}
	}
	if err := conn.Close(); err != nil {
		return lab.Throughput{}, err
	}
	if err := <-received; err != nil {
		return lab.Throughput{}, err
	}
	return total, ctx.Err()
}

// receiveFor counts one connection to its end.
func receiveFor(l net.Listener, total *lab.Throughput, progress func(lab.Throughput)) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	start, lap, before := time.Now(), time.Now(), int64(0)
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		total.Bytes += int64(n)
		total.Duration = time.Since(start)
		if since := time.Since(lap); since >= time.Second {
			progress(lab.Throughput{Bytes: total.Bytes - before, Duration: since})
			lap, before = time.Now(), total.Bytes
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *memoryStage) enter() []string { return nil }

func (s *memoryStage) stopGateways() error {
	s.stop()
	s.gateways.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gatewayError
}

func (s *memoryStage) Close() error { return errors.Join(s.stopGateways(), s.net.Close()) }

// showHandler gives a gateway's records to the show.
type showHandler struct {
	show *demoShow
	side string
}

func (h showHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h showHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := map[string]any{"msg": r.Message, "level": r.Level.String()}
	r.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.Any()
		return true
	})
	h.show.event(h.side, attrs)
	return nil
}

func (h showHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h showHandler) WithGroup(string) slog.Handler      { return h }

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"

	"culvert/config"
	"culvert/natt"
	"culvert/tun"
)

// openDoors opens the machine's own device and sockets, or none of them.
func openDoors(cfg *config.Config) (*Doors, error) {
	doors := &Doors{LocalAddr: localAddr, PathMTU: natt.PathMTU, Resolve: resolve}
	if err := doors.open(cfg); err != nil {
		doors.closeOpened()
		return nil, err
	}
	return doors, nil
}

func (d *Doors) open(cfg *config.Config) (err error) {
	g := &cfg.Gateway
	if d.IKE, err = natt.Listen(netip.AddrPortFrom(g.Local, g.IKEPort), natt.Options{}); err != nil {
		return noPort(cfg, g.IKEPort, "ike_port", err)
	}
	conns, err := natt.ListenLanes(netip.AddrPortFrom(g.Local, g.NATTPort), g.Lanes, natt.Options{NATT: true})
	if err != nil {
		return noPort(cfg, g.NATTPort, "natt_port", err)
	}
	d.NATT, d.Lanes = conns[0], make([]Lane, len(conns)-1)
	for i, c := range conns[1:] {
		d.Lanes[i].NATT = c
	}
	d.Host = ThisHost
	if network, err := watchNetwork(); err == nil { // without it, a change is found by its silence
		d.Network = network
	}
	if cfg.Gateway.DevicePrepared {
		return d.usePrepared(cfg)
	}
	mtu := deviceMTU(cfg)
	if err = d.take(tun.OpenQueues(g.Device, mtu, g.Lanes)); err != nil {
		return noDevice(cfg, err)
	}
	name := d.Device.Name()
	d.AddRoute = func(p netip.Prefix, opts tun.RouteOptions) error { return tun.AddRoute(name, p, opts) }
	d.ChangeRoute = func(p netip.Prefix, opts tun.RouteOptions) error { return tun.ChangeRoute(name, p, opts) }
	d.AddAddr = func(a netip.Addr) error { return tun.AddAddr(name, a) }
	d.DelAddr = func(a netip.Addr) error { return tun.DelAddr(name, a) }
	d.DelRoute = func(p netip.Prefix) error { return tun.DelRoute(name, p) }
	return tun.SetUp(name, mtu)
}

// usePrepared opens a device that is there already, and changes nothing about it:
// that may need rights that we have not. It has no routes of ours.
func (d *Doors) usePrepared(cfg *config.Config) error {
	name := cfg.Gateway.Device
	err := d.take(tun.OpenPreparedQueues(name, cfg.Gateway.Lanes))
	d.AddAddr = func(a netip.Addr) error {
		return fmt.Errorf("%s is not ours to change (device_prepared): give it the address %v that the peer assigned", name, a)
	}
	d.DelAddr = func(netip.Addr) error { return nil }
	d.AddRoute = func(netip.Prefix, tun.RouteOptions) error { return nil }
	d.ChangeRoute, d.DelRoute = d.AddRoute, func(netip.Prefix) error { return nil }
	return err
}

// ThisHost is what the machine's interfaces say, and how many processors there
// are to run on.
func ThisHost() (h config.Host, err error) {
	h.Processors = runtime.GOMAXPROCS(0)
	interfaces, err := net.Interfaces()
	for _, i := range interfaces {
		addrs, failed := i.Addrs()
		err = errors.Join(err, failed)
		for _, a := range addrs {
			if p, parse := netip.ParsePrefix(a.String()); parse == nil {
				h.Networks = append(h.Networks, config.Interface{Name: i.Name, Address: p})
			}
		}
	}
	return h, err
}

// take gives each lane its queue.
func (d *Doors) take(queues []tun.Device, err error) error {
	if err != nil {
		return err
	}
	d.Device = queues[0]
	for i := range d.Lanes {
		d.Lanes[i].Device = queues[1+i]
	}
	return nil
}

func (d *Doors) closeOpened() {
	if d.IKE != nil {
		_ = d.IKE.Close()
	}
	if d.Network != nil {
		_ = d.Network.Close()
	}
	for _, l := range d.lanes() {
		if l.NATT != nil {
			_ = l.NATT.Close()
		}
		if l.Device != nil {
			_ = l.Device.Close()
		}
	}
}

func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// localAddr asks the routing table: connecting a UDP socket sends nothing.
func localAddr(remote netip.Addr) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, 500)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }()
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return local.Unmap(), nil
}

// deviceMTU is what the configuration says, or what fits 1500 bytes outside
// with AES-GCM. Each child SA's own limit is enforced where it is used.
func deviceMTU(cfg *config.Config) int {
	if cfg.Gateway.MTU != 0 {
		return cfg.Gateway.MTU
	}
	six := slices.ContainsFunc(cfg.Peers, func(p config.Peer) bool {
		a, err := netip.ParseAddr(p.Remote)
		return err == nil && a.Is6()
	})
	return innerMTU(defaultPathMTU, six, usualSuite)
}

package gateway

import (
	"time"

	"culvert/config"
	"culvert/ikev2"
)

// engineConfig is the part of the configuration that IKE works from. The
// configuration has its defaults filled in, so its zero is the user's "off", which
// the engine writes as a negative value.
func engineConfig(cfg *config.Config, keyLog bool) ikev2.Config {
	g := &cfg.Gateway
	out := ikev2.Config{
		IKEPort: g.IKEPort, NATTPort: g.NATTPort, KeyLog: keyLog, Lanes: g.Lanes,
		Limits: ikev2.Limits{
			CookieThreshold: offWhenZero(g.CookieThreshold), HalfOpen: offWhenZero(g.HalfOpenLimit),
			HalfOpenPerSource: offWhenZero(g.HalfOpenPerSource), HalfOpenLifetime: g.HalfOpenLifetime,
		},
	}
	for _, p := range cfg.Pools {
		out.Pools = append(out.Pools, p.Pool)
	}
	for i := range cfg.Peers {
		out.Peers = append(out.Peers, enginePeer(&cfg.Peers[i]))
	}
	return out
}

func enginePeer(p *config.Peer) ikev2.Peer {
	out := ikev2.Peer{
		Name: p.Name, LocalID: p.LocalID, RemoteID: p.RemoteID, PSK: p.PSK.Bytes(), IKE: p.IKE, RemoteNATTPort: p.RemoteNATTPort,
		Timing: ikev2.Timing{
			Keepalive: offWhenZero(p.Keepalive), DPD: offWhenZero(p.DPD),
			Retransmit: p.Retransmit, RetransmitMax: p.RetransmitMax, Tries: p.RetransmitTries, InitialTries: p.InitialTries,
			Reconnect: p.Reconnect, ReconnectMax: p.ReconnectMax,
		},
		IKELifetime: offWhenZero(p.IKELifetime), Duplicates: p.Duplicates, Fragmentation: p.Fragmentation,
		MOBIKE: p.MOBIKE, Redirect: p.Redirect, Resumption: p.Resumption,
		PostQuantum: p.PostQuantum, PPK: ikev2.PPK{ID: p.PPK.ID, Secret: p.PPK.Secret.Bytes(), Required: p.PPK.Required},
		Address: p.Address,
	}
	for _, t := range p.Tunnels {
		out.Children = append(out.Children, ikev2.Child{
			Name: t.Name, Local: t.Local, Remote: t.Remote, LocalDynamic: t.LocalDynamic, RemoteDynamic: t.RemoteDynamic, ESP: t.ESP,
			Lifetime: offWhenZero(t.Lifetime), LifeBytes: t.LifetimeBytes, LifePackets: t.LifetimePackets, Start: t.Start, SinglePair: t.SinglePair,
		})
	}
	return out
}

func offWhenZero[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

package gateway

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"culvert/config"
	"culvert/ikev2"
)

// Refused says in plain words why something that the operator wants is not done.
type Refused struct {
	// Unknown: there is no such peer or tunnel. Otherwise it is not the moment.
	Unknown bool
	Text    string
}

func (r *Refused) Error() string { return r.Text }

func unknown(format string, args ...any) error { return &Refused{true, fmt.Sprintf(format, args...)} }
func notNow(format string, args ...any) error  { return &Refused{false, fmt.Sprintf(format, args...)} }

// do has control do something about a peer. The answer says what will come of
// it; the log and the status say what has. The error is ErrNotRunning or a
// *Refused.
func (g *Gateway) do(peer string, f func(c *control, p *config.Peer) (string, error)) (done string, err error) {
	ok := g.ask(func(c *control) {
		i := slices.IndexFunc(g.cfg.Peers, func(p config.Peer) bool { return p.Name == peer })
		switch {
		case c.deadline != nil:
			err = ErrNotRunning
		case i < 0:
			err = unknown("no peer is named %q in %s%s", peer, g.cfg.File, thereAre(g.cfg.Peers, func(p config.Peer) string { return p.Name }))
		default:
			done, err = f(c, &g.cfg.Peers[i])
			c.drain(c.ctx)
		}
	})
	if !ok {
		err = ErrNotRunning
	}
	return done, err
}

// thereAre names what there is, where that is little.
func thereAre[T any](all []T, name func(T) string) string {
	if len(all) == 0 || len(all) > 10 {
		return ""
	}
	var names []string
	for _, x := range all {
		names = append(names, name(x))
	}
	return "; there is " + strings.Join(names, ", ")
}

// Connect keeps a peer connected from now on, as if the configuration said so. A
// peer that is not up is tried at once.
func (g *Gateway) Connect(peer string) (string, error) {
	return g.do(peer, func(c *control, p *config.Peer) (string, error) {
		if p.Remote == "" {
			return "", notNow("peer %s has no address to connect to: remote is \"any\", so it has to connect to us", peer)
		}
		c.said[peer] = true
		if c.peers[peer].State == "up" {
			c.dial(c.ctx, p) // and again when it is not
			return fmt.Sprintf("peer %s is connected already", peer), nil
		}
		c.dial(c.ctx, p).anew = true
		return fmt.Sprintf("connecting to peer %s at %s", peer, p.Remote), nil
	})
}

// Disconnect takes a peer down, and does not connect to it until Connect or a
// restart. The peer may connect to us.
func (g *Gateway) Disconnect(peer string) (string, error) {
	return g.do(peer, func(c *control, p *config.Peer) (string, error) {
		s := c.peers[peer]
		was := s.State
		c.said[peer] = false
		c.hangUp(peer)
		c.command(ikev2.Disconnect{Peer: peer})
		c.drain(c.ctx)
		if s.State != "down" {
			s.State, s.Since, s.Attempt = "down", time.Now(), 0
		}
		s.Problem, s.Why = "taken down by the operator", "taken down by the operator"
		if was == "down" {
			return fmt.Sprintf("peer %s is down already, and stays down", peer), nil
		}
		return fmt.Sprintf("peer %s is taken down", peer), nil
	})
}

// doTunnel is do for a tunnel of the peer, or with "" all of them.
func (g *Gateway) doTunnel(peer, tunnel string, f func(c *control, p *config.Peer) (string, error)) (done string, err error) {
	return g.do(peer, func(c *control, p *config.Peer) (string, error) {
		if tunnel != "" && !slices.ContainsFunc(p.Tunnels, func(t config.Tunnel) bool { return t.Name == tunnel }) {
			return "", unknown("peer %s has no tunnel named %q%s", peer, tunnel, thereAre(p.Tunnels, func(t config.Tunnel) string { return t.Name }))
		}
		return f(c, p)
	})
}

// ConnectTunnel keeps a tunnel of a peer up from now on, and so its peer connected.
func (g *Gateway) ConnectTunnel(peer, tunnel string) (string, error) {
	return g.doTunnel(peer, tunnel, func(c *control, p *config.Peer) (string, error) {
		connected := c.peers[peer].State == "up"
		if !connected && p.Remote == "" {
			return "", notNow("peer %s is not connected, and has no address to connect to: remote is \"any\", so it has to connect to us", peer)
		}
		was := len(c.sending(peer, tunnel)) > 0
		c.command(ikev2.Raise{Peer: peer, Child: tunnel})
		switch {
		case was:
			return fmt.Sprintf("tunnel %s of peer %s is up already", tunnel, peer), nil
		case !connected:
			c.said[peer] = true
			c.dial(c.ctx, p).anew = true
		}
		return fmt.Sprintf("tunnel %s of peer %s is brought up", tunnel, peer), nil
	})
}

// DisconnectTunnel takes a tunnel of a peer down, and does not bring it up until
// ConnectTunnel or a restart. The peer may.
func (g *Gateway) DisconnectTunnel(peer, tunnel string) (string, error) {
	return g.doTunnel(peer, tunnel, func(c *control, _ *config.Peer) (string, error) {
		was := len(c.sending(peer, tunnel)) > 0
		c.command(ikev2.Lower{Peer: peer, Child: tunnel})
		if !was {
			return fmt.Sprintf("tunnel %s of peer %s is down already, and stays down", tunnel, peer), nil
		}
		return fmt.Sprintf("tunnel %s of peer %s is taken down", tunnel, peer), nil
	})
}

// Rekey replaces the keys of a peer's tunnel, or with "" of all of them.
func (g *Gateway) Rekey(peer, tunnel string) (string, error) {
	return g.doTunnel(peer, tunnel, func(c *control, _ *config.Peer) (string, error) {
		var renewed []string
		for _, ch := range c.sending(peer, tunnel) {
			c.command(ikev2.Rekey{SPI: ch.InboundSPI})
			if !slices.Contains(renewed, ch.Name) {
				renewed = append(renewed, ch.Name)
			}
		}
		switch {
		case len(renewed) == 0 && tunnel == "":
			return "", notNow("peer %s has no tunnel that is up", peer)
		case len(renewed) == 0:
			return "", notNow("tunnel %s of peer %s is not up", tunnel, peer)
		case len(renewed) == 1:
			return fmt.Sprintf("tunnel %s of peer %s gets new keys", renewed[0], peer), nil
		}
		return fmt.Sprintf("tunnels %s of peer %s get new keys", strings.Join(renewed, ", "), peer), nil
	})
}

// sending are a peer's children that can send, in the order of their SPIs.
func (c *control) sending(peer, tunnel string) (all []*child) {
	for _, ch := range c.children {
		if ch.Peer == peer && (tunnel == "" || ch.Name == tunnel) && ch.out != nil {
			all = append(all, ch)
		}
	}
	slices.SortFunc(all, func(a, b *child) int { return int(int64(a.InboundSPI) - int64(b.InboundSPI)) })
	return all
}

// RekeyIKE replaces the keys of a peer's IKE SA.
func (g *Gateway) RekeyIKE(peer string) (string, error) {
	return g.do(peer, func(c *control, p *config.Peer) (string, error) {
		if c.peers[peer].State != "up" {
			return "", notNow("peer %s is not connected", peer)
		}
		c.command(ikev2.RekeyIKE{Peer: peer})
		return fmt.Sprintf("the connection with peer %s gets new keys", peer), nil
	})
}

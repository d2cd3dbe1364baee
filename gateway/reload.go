package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"culvert/config"
	"culvert/ikev2"
)

// Reloaded says by name what another configuration meant for the peers.
type Reloaded struct {
	Unchanged     []string `json:"unchanged"`     // have noticed nothing
	Adjusted      []string `json:"adjusted"`      // kept their connection
	Reestablished []string `json:"reestablished"` // connect anew
	Added         []string `json:"added"`
	Removed       []string `json:"removed"` // have been told so
}

// String is all of it in a sentence.
func (r Reloaded) String() string {
	var parts []string
	for _, part := range []struct {
		what  string
		names []string
	}{{"adjusted", r.Adjusted}, {"re-established", r.Reestablished}, {"added", r.Added}, {"removed", r.Removed}} {
		if len(part.names) > 0 {
			parts = append(parts, part.what+" "+names(part.names))
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("nothing has changed for %s", count(len(r.Unchanged)))
	}
	return fmt.Sprintf("%s unchanged, %s", count(len(r.Unchanged)), strings.Join(parts, ", "))
}

func count(n int) string {
	if n == 1 {
		return "1 peer"
	}
	return fmt.Sprintf("%d peers", n)
}

// names lists a few names, or how many there are.
func names(all []string) string {
	if len(all) > 10 {
		return count(len(all))
	}
	return strings.Join(all, " and ")
}

// ErrNotRunning: there is no gateway to ask, not yet or no longer.
var ErrNotRunning = errors.New("the gateway is starting or stopping")

// Reload has the gateway work by another configuration. Peers for which it says
// the same notice nothing; what the others notice is written at ikev2.Change. An
// error has changed nothing: it is ErrNotRunning, or a *config.Error with the
// settings that need a restart.
func (g *Gateway) Reload(cfg *config.Config) (r Reloaded, err error) {
	if !g.ask(func(c *control) { r, err = c.reload(cfg) }) {
		err = ErrNotRunning
	}
	return r, err
}

// restarts are the settings that the gateway's doors were opened by.
var restarts = []struct {
	key string
	of  func(*config.Gateway) any
}{
	{"local", func(g *config.Gateway) any { return g.Local }},
	{"ike_port", func(g *config.Gateway) any { return g.IKEPort }},
	{"natt_port", func(g *config.Gateway) any { return g.NATTPort }},
	{"device", func(g *config.Gateway) any { return g.Device }},
	{"device_prepared", func(g *config.Gateway) any { return g.DevicePrepared }},
	{"lanes", func(g *config.Gateway) any { return g.Lanes }},
	{"mtu", func(g *config.Gateway) any { return g.MTU }},
	{"metrics", func(g *config.Gateway) any { return g.Metrics }},
	{"page", func(g *config.Gateway) any { return g.Page }},
	{"resumption_key_file", func(g *config.Gateway) any { return g.ResumptionKeyFile }},
}

// needsRestart names the settings that cannot change while the gateway runs.
func needsRestart(was, is *config.Config) error {
	wrong := &config.Error{}
	for _, s := range restarts {
		if s.of(&was.Gateway) == s.of(&is.Gateway) {
			continue
		}
		at := is.Gateway.Where.At(s.key).Pos
		if at.File == "" {
			at.File = is.File
		}
		wrong.Diagnostics = append(wrong.Diagnostics, config.Diagnostic{Pos: at, Severity: config.SeverityError,
			Message: fmt.Sprintf("%s cannot change while the gateway runs: it needs a restart", s.key),
			Hint:    "restart culvert, or put back what it was started with: " + settingText(s.of(&was.Gateway))})
	}
	slices.SortStableFunc(wrong.Diagnostics, func(a, b config.Diagnostic) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	if len(wrong.Diagnostics) > 0 {
		return wrong
	}
	return nil
}

func settingText(v any) string {
	if reflect.ValueOf(v).IsZero() {
		return "leave it out"
	}
	return fmt.Sprint(v)
}

func (c *control) reload(cfg *config.Config) (Reloaded, error) {
	was := c.g.cfg
	if c.deadline != nil {
		return Reloaded{}, ErrNotRunning
	}
	if err := needsRestart(was, cfg); err != nil {
		return Reloaded{}, err
	}
	c.g.cfg = cfg
	c.addRoutes()
	c.reserve(cfg)
	changes := c.engine.Reconfigure(time.Now(), engineConfig(cfg, c.g.opts.KeyLog != ""))
	c.meet(changes)
	c.follow(was, changes)
	c.drain(c.ctx)
	c.part(changes)
	c.trimRoutes(was)
	c.leasesChanged = c.leasesChanged || was.Gateway.LeaseFile != cfg.Gateway.LeaseFile
	r := summary(changes)
	c.g.log.Info(fmt.Sprintf("%s is read again: %v", cfg.File, r), "event", "reloaded", "file", cfg.File, "unchanged", len(r.Unchanged),
		"adjusted", r.Adjusted, "reestablished", r.Reestablished, "added", r.Added, "removed", r.Removed)
	return r, nil
}

func summary(changes map[string]ikev2.Change) Reloaded {
	by := map[ikev2.Change][]string{}
	for name, change := range changes {
		by[change] = append(by[change], name)
	}
	sorted := func(c ikev2.Change) []string {
		slices.Sort(by[c])
		return append([]string{}, by[c]...) // a list in JSON, empty or not
	}
	return Reloaded{sorted(ikev2.Unchanged), sorted(ikev2.Adjusted), sorted(ikev2.Reestablished), sorted(ikev2.Added), sorted(ikev2.Removed)}
}

// meet knows the peers that are new, and the others by what they are now.
func (c *control) meet(changes map[string]ikev2.Change) {
	for i := range c.g.cfg.Peers {
		p := &c.g.cfg.Peers[i]
		switch s := c.peers[p.Name]; {
		case changes[p.Name] == ikev2.Added:
			c.peers[p.Name] = newPeerStatus(p)
		default:
			s.LocalID, s.RemoteID = p.LocalID.String(), p.RemoteID.String()
		}
	}
}

// follow connects to the peers that are to be connected and were not, or are
// elsewhere than they were, and leaves those that are not to be any more.
func (c *control) follow(was *config.Config, changes map[string]ikev2.Change) {
	before := map[string]*config.Peer{}
	for i := range was.Peers {
		before[was.Peers[i].Name] = &was.Peers[i]
	}
	for i := range c.g.cfg.Peers {
		p := &c.g.cfg.Peers[i]
		old := before[p.Name]
		did := old != nil && c.initiates(old)
		if p.Remote == "" {
			delete(c.said, p.Name) // nobody knows where to connect to any more
		}
		does := c.initiates(p)
		moved := old != nil && (old.Remote != p.Remote || old.Local != p.Local || old.RemoteIKEPort != p.RemoteIKEPort)
		if moved || did != does {
			c.hangUp(p.Name)
		}
		switch {
		case does && !did:
			c.dial(c.ctx, p)
		case does && moved:
			c.dial(c.ctx, p).anew = true
			changes[p.Name] = max(changes[p.Name], ikev2.Reestablished)
		case did && !does:
			c.command(ikev2.Disconnect{Peer: p.Name})
			changes[p.Name] = max(changes[p.Name], ikev2.Reestablished)
		}
	}
}

// part forgets the peers that are gone, and the addresses that no peer is asked
// for any more.
func (c *control) part(changes map[string]ikev2.Change) {
	for name, change := range changes {
		if change == ikev2.Removed {
			c.hangUp(name)
			delete(c.peers, name)
			delete(c.said, name)
			delete(c.watch.lately, name)
			delete(c.dropped, name)
			delete(c.roaming.ways, name)
			delete(c.measured, name)
			c.delAddrs(name, c.takeAddrs(name))
		}
	}
	for i := range c.g.cfg.Peers {
		if p := &c.g.cfg.Peers[i]; !p.Address.Request4 && !p.Address.Request6 {
			c.delAddrs(p.Name, c.takeAddrs(p.Name))
		}
	}
}

// takeAddrs forgets which addresses of the device a peer has assigned.
func (c *control) takeAddrs(peer string) []netip.Addr {
	addrs := c.ownAddrs[peer]
	delete(c.ownAddrs, peer)
	delete(c.assigned, peer)
	return addrs
}

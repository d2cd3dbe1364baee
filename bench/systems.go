package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"culvert/examples"
	"culvert/lab"
)

// Available returns nil where the comparison can run, else an error that says
// what it lacks.
func Available() error {
	r := lab.CheckRights()
	switch {
	case r.Kind != lab.Direct:
		return errors.New("this needs root: " + r.Reason)
	case r.Device != nil:
		return fmt.Errorf("this needs TUN devices: %w", r.Device)
	}
	return nil
}

// The programs that Build builds for Culvert, Relay and WireGuard.
const (
	CulvertProgram   = "culvert/cmd/culvert"
	RelayProgram     = "culvert/bench/cmd/relay"
	WireGuardProgram = wireGuardModule
)

// Build builds a program into dir and returns its path. The working directory
// must be within the module.
func Build(ctx context.Context, dir, program string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(program))
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, program).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", program, err, out)
	}
	return binary, nil
}

// Culvert runs the built command on both gateways, each as a process of its own
// with its file of package examples. dir takes the files.
func Culvert(binary, dir string) System {
	return System{Name: "culvert", Start: func(ctx context.Context, s *lab.SiteToSite) (func() string, error) {
		log := new(lab.Log)
		for file, host := range map[string]*lab.Host{"side-a.toml": s.GatewayA, "side-b.toml": s.GatewayB} {
			if err := startCulvert(ctx, host, binary, dir, file, log); err != nil {
				return nil, err
			}
		}
		return log.String, nil
	}}
}

func startCulvert(ctx context.Context, h *lab.Host, binary, dir, file string, log *lab.Log) error {
	text, err := examples.Files.ReadFile(file)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	p := h.Command(ctx, binary, "up", path, "--socket", filepath.Join(dir, h.Namespace()+".sock"))
	p.Stderr = log
	return p.Start()
}

// Relay runs the built bench/cmd/relay on both gateways: what is left of a
// gateway when encryption, authentication and IKE are taken out of it.
func Relay(binary string) System {
	return System{Name: "relay", Start: func(ctx context.Context, s *lab.SiteToSite) (func() string, error) {
		log := new(lab.Log)
		for _, end := range []struct {
			host *lab.Host
			args []string
		}{
			{s.GatewayA, []string{lab.LANB.String()}},
			{s.GatewayB, []string{"-peer", lab.GatewayAAddr.String(), lab.LANA.String()}},
		} {
			p := end.host.Command(ctx, binary, end.args...)
			p.Stderr = log
			if err := p.Start(); err != nil {
				return nil, err
			}
		}
		return log.String, nil
	}}
}

// StrongSwan runs strongSwan with its ESP in user space (kernel-libipsec) on
// both gateways, with the same identities, key and suites as Culvert.
func StrongSwan() System {
	return System{Name: "strongswan", Start: func(ctx context.Context, s *lab.SiteToSite) (func() string, error) {
		a, err := s.GatewayA.StrongSwan(ctx, lab.StrongSwanConfig{
			LocalAddrs: lab.GatewayAAddr.String(), LocalID: lab.GatewayAAddr.String(), RemoteID: "foo", Secret: "qwerty",
			Children: []lab.StrongSwanChild{{LocalTS: lab.LANA.String(), RemoteTS: lab.LANB.String()}},
		})
		if err != nil {
			return nil, err
		}
		b, err := s.GatewayB.StrongSwan(ctx, lab.StrongSwanConfig{
			RemoteAddrs: lab.GatewayAAddr.String(), LocalID: "foo", RemoteID: lab.GatewayAAddr.String(), Secret: "qwerty",
			Children: []lab.StrongSwanChild{{LocalTS: lab.LANB.String(), RemoteTS: lab.LANA.String()}},
		})
		if err != nil {
			return nil, err
		}
		if out, err := b.Initiate(ctx, "t1"); err != nil {
			return nil, fmt.Errorf("%w\n%s\n%s", err, out, a.Log())
		}
		return func() string { return a.Log() + b.Log() }, nil
	}}
}

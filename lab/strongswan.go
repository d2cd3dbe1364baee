package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"
)

const (
	// strongSwanSuffix parts the name of a namespace from the rest of a directory's.
	strongSwanSuffix = "-strongswan-"

	charon      = "/usr/lib/ipsec/charon"
	swanctl     = "/usr/sbin/swanctl"
	pluginDir   = "/usr/lib/ipsec/plugins"
	charonReady = 10 * time.Second // to open its control socket
)

// StrongSwanConfig is one connection of a strongSwan. Every string goes into its
// configuration as it is, in swanctl.conf's own notation.
type StrongSwanConfig struct {
	Connection  string // the connection's name; empty for "foo"
	LocalAddrs  string // empty for %any
	RemoteAddrs string // empty for %any: it answers only
	LocalID     string // such as 203.0.113.1 or foo
	RemoteID    string
	Secret      string // the pre-shared key
	IKE         string // proposals; empty for aes128gcm16-prfsha256-x25519
	Children    []StrongSwanChild

	// Swanctl is a whole swanctl.conf, which takes the place of all the others
	// but CharonExtra.
	Swanctl string

	CharonExtra     string // lines for the charon section of strongswan.conf
	ConnectionExtra string // lines for the connection
	SecretsExtra    string // sections for secrets
	Sections        string // further sections, such as pools
}

// StrongSwanChild is one child SA of the connection.
type StrongSwanChild struct {
	Name     string // empty for "t1"
	LocalTS  string // such as 10.103.0.0/24
	RemoteTS string
	ESP      string // proposals; empty for aes128gcm16
	Extra    string // lines for the child
}

// StrongSwan is a charon at work inside a host, with ESP in its own process
// (kernel-libipsec), so that the kernel needs none.
type StrongSwan struct {
	host   *Host
	dir    string
	locked int // the directory, so that Sweep leaves it alone
	unlock sync.Once
	charon *Process
}

// StrongSwanAvailable returns nil where strongSwan can be started, else an error
// that says what to install.
func StrongSwanAvailable() error {
	missing := ""
	for _, need := range []struct{ file, debianPackage string }{
		{charon, "strongswan-charon"},
		{swanctl, "strongswan-swanctl"},
		{pluginDir + "/libstrongswan-kernel-libipsec.so", "libcharon-extra-plugins"},

		{pluginDir + "/libstrongswan-openssl.so", "libstrongswan-standard-plugins"},
	} {
		if _, err := os.Stat(need.file); err != nil {
			missing += " " + need.debianPackage
		}
	}
	if missing != "" {
		return errors.New("lab: no strongSwan here: apt-get install --no-install-recommends" + missing)
	}
	return nil
}

// StrongSwan starts a strongSwan inside the host and loads the connection. It
// ends with Stop or with the lab.
func (h *Host) StrongSwan(ctx context.Context, config StrongSwanConfig) (*StrongSwan, error) {
	if err := StrongSwanAvailable(); err != nil {
		return nil, err
	}
	s, err := h.prepareStrongSwan(ctx, config)
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: strongSwan on %s: %w", h.Name, err)
	}
	return s, nil
}

// prepareStrongSwan writes the files, for which the lab is answerable from then on.
func (h *Host) prepareStrongSwan(ctx context.Context, config StrongSwanConfig) (*StrongSwan, error) {
	dir, err := os.MkdirTemp("", h.Namespace()+strongSwanSuffix)
	if err != nil {
		return nil, err
	}
	s := &StrongSwan{host: h, dir: dir}
	s.locked, err = lock(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	s.charon = s.command(context.WithoutCancel(ctx), charon, "--use-syslog", "no")
	err = s.writeConfig(config)
	if err == nil {
		err = h.lab.adopt(s)
	}
	if err != nil {
		s.halt()
		return nil, err
	}
	return s, nil
}

// start starts charon and loads its connection; a failure leaves nothing behind.
func (s *StrongSwan) start(ctx context.Context) error {
	err := s.charon.Start()
	if err == nil {
		err = s.awaitControl(ctx)
	}
	if err == nil {
		_, err = s.Swanctl(ctx, "--load-all", "--noprompt")
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, s.Log())
		s.Stop()
	}
	return err
}

// command runs a program that sees this strongSwan's files where Debian's
// packages, and the AppArmor profiles in them, expect them.
func (s *StrongSwan) command(ctx context.Context, name string, args ...string) *Process {
	p := s.host.Command(ctx, name, args...)
	p.Mounts = []Mount{
		{filepath.Join(s.dir, "strongswan.conf"), "/etc/strongswan.conf"},
		{filepath.Join(s.dir, "swanctl"), "/etc/swanctl"},
		{filepath.Join(s.dir, "run"), "/run"},
	}
	return p
}

// awaitControl waits until charon listens on its control socket.
func (s *StrongSwan) awaitControl(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, charonReady)
	defer cancel()
	socket := filepath.Join(s.dir, "run", "charon.vici")
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.charon.Done():
			return fmt.Errorf("charon ended: %w", s.charon.Wait())
		case <-ctx.Done():
			return fmt.Errorf("charon does not listen: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Swanctl runs swanctl with these arguments and returns all that it printed. The
// error of a failure contains it too.
func (s *StrongSwan) Swanctl(ctx context.Context, args ...string) (string, error) {
	out, err := s.command(ctx, swanctl, args...).Output()
	if err != nil {
		return out, fmt.Errorf("swanctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return out, nil
}

// Initiate sets up a child SA, and the IKE SA below it, and returns when it stands
// or has failed.
func (s *StrongSwan) Initiate(ctx context.Context, child string) (string, error) {
	return s.Swanctl(ctx, "--initiate", "--child", child, "--timeout", "30")
}

// Terminate deletes the IKE SAs of a connection.
func (s *StrongSwan) Terminate(ctx context.Context, connection string) (string, error) {
	return s.Swanctl(ctx, "--terminate", "--ike", connection, "--timeout", "30")
}

// Log returns what charon has logged so far.
func (s *StrongSwan) Log() string {
	log, err := os.ReadFile(s.LogPath())
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// LogPath is the file that charon logs to. It goes with Stop.
func (s *StrongSwan) LogPath() string { return filepath.Join(s.dir, "run", "charon.log") }

// Stop ends charon, which deletes its SAs first, and removes its files. It may be
// called again.
func (s *StrongSwan) Stop() error {
	s.host.lab.disown(s)
	return s.halt()
}

// Kill ends charon without a word to its peers, and removes its files.
func (s *StrongSwan) Kill() {
	s.charon.Signal(syscall.SIGKILL)
	<-s.charon.Done()
	_ = s.Stop() // which only says that it was killed
}

func (s *StrongSwan) halt() error {
	err := errors.Join(s.charon.Stop(), os.RemoveAll(s.dir))
	s.unlock.Do(func() { syscall.Close(s.locked) })
	return err
}

func (s *StrongSwan) writeConfig(config StrongSwanConfig) error {
	for _, d := range []string{"run", "swanctl"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			return err
		}
	}
	swanctlFile := swanctlConf
	if config.Swanctl != "" {
		swanctlFile = template.Must(template.New("").Parse("{{.Swanctl}}"))
	}
	for file, t := range map[string]*template.Template{"strongswan.conf": charonConf, "swanctl/swanctl.conf": swanctlFile} {
		var text strings.Builder
		if err := t.Execute(&text, config.withDefaults()); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c StrongSwanConfig) withDefaults() StrongSwanConfig {
	c.Connection = cmp.Or(c.Connection, "foo")
	c.LocalAddrs = cmp.Or(c.LocalAddrs, "%any")
	c.RemoteAddrs = cmp.Or(c.RemoteAddrs, "%any")
	c.IKE = cmp.Or(c.IKE, "aes128gcm16-prfsha256-x25519")
	c.Children = slices.Clone(c.Children)
	for i := range c.Children {
		c.Children[i].Name = cmp.Or(c.Children[i].Name, "t1")
		c.Children[i].ESP = cmp.Or(c.Children[i].ESP, "aes128gcm16")
	}
	return c
}

// kernel-libipsec comes before kernel-netlink, so that it gets the SAs and the
// other the routes.
var charonConf = template.Must(template.New("").Parse(`charon {
  load = random nonce openssl aes sha2 sha1 hmac gcm curve25519 kdf chapoly pem pkcs1 x509 pubkey socket-default kernel-libipsec kernel-netlink vici updown counters
  port = 500
  port_nat_t = 4500
  install_routes = yes
  filelog {
    log {
      path = /run/charon.log
      flush_line = yes
      default = 1
      ike = 2
      cfg = 2
    }
  }
{{.CharonExtra}}
}
swanctl {
  load = pem pkcs1 x509
}
`))

var swanctlConf = template.Must(template.New("").Parse(`connections {
  {{.Connection}} {
    version = 2
    local_addrs = {{.LocalAddrs}}
    remote_addrs = {{.RemoteAddrs}}
    proposals = {{.IKE}}
    local {
      auth = psk
      id = {{.LocalID}}
    }
    remote {
      auth = psk
      id = {{.RemoteID}}
    }
{{.ConnectionExtra}}
    children {
{{- range .Children}}
      {{.Name}} {
        local_ts = {{.LocalTS}}
        remote_ts = {{.RemoteTS}}
        esp_proposals = {{.ESP}}
{{.Extra}}
      }
{{- end}}
    }
  }
}
secrets {
  ike1 {
    id1 = {{.LocalID}}
    id2 = {{.RemoteID}}
    secret = "{{.Secret}}"
  }
{{.SecretsExtra}}
}
{{.Sections}}
`))

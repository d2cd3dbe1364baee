package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"culvert/config"
)

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "ask a few questions, and write both sides' files",
		Long: `Asks who is at either end and writes into DIR, or here, the files of one tunnel:
this side's for culvert, the other side's for culvert, strongSwan or VyOS, and a
new key for both. Answers may come from a pipe, a line each; an empty line takes
what is in brackets. DIR is made if need be; what is there already is not
overwritten.

Bring the other side's file there by a way that nobody else can read: the key is
in it, or beside it.`,
		Example: `  culvert init
  culvert init /etc/culvert
  printf '%s\n' vyos branch office yes 203.0.113.1 10.104.0.0/24 10.103.0.0/24 | culvert init`,
		Args: takes(0, 1, "one directory, or none for this one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			plan, err := newInterview(cmd.InOrStdin(), cmd.OutOrStdout()).hold()
			if err != nil {
				return usageError(err)
			}
			return plan.write(cmd.OutOrStdout(), dir)
		},
	}
}

// end is one side of a tunnel. Addr is where the other one reaches it, "" where
// it cannot be reached because of a NAT.
type end struct{ Name, Addr, Network string }

// plan is one tunnel: what runs There, and the key of both.
type plan struct {
	Here, There end
	Kind        string // what runs there: culvert, strongswan, vyos
	Key         string
}

// interview asks, and asks again until an answer can be used.
type interview struct {
	in  *bufio.Scanner
	out io.Writer
	err error
}

func newInterview(in io.Reader, out io.Writer) *interview {
	return &interview{in: bufio.NewScanner(in), out: out}
}

// ask returns "" once the answers have ended.
func (i *interview) ask(question, standard string, check func(string) (string, error)) string {
	for i.err == nil {
		fmt.Fprint(i.out, question)
		if standard != "" {
			fmt.Fprintf(i.out, " [%s]", standard)
		}
		fmt.Fprint(i.out, ": ")
		if !i.in.Scan() {
			fmt.Fprintln(i.out)
			i.err = errors.New("the answers ended before the questions did; nothing is written")
			break
		}
		answer := strings.TrimSpace(i.in.Text())
		if answer == "" {
			answer = standard
		}
		answer, err := check(answer)
		if err == nil {
			return answer
		}
		fmt.Fprintf(i.out, "  %v\n", err)
	}
	return ""
}

func (i *interview) yes(question, standard string) bool {
	return i.ask(question, standard, oneOfWords("yes", "no")) == "yes"
}

func (i *interview) hold() (p plan, err error) {
	p.Kind = i.ask("What runs at the other end: culvert, strongswan or vyos?", "culvert", oneOfWords("culvert", "strongswan", "vyos"))
	p.Here.Name = i.ask("A name for this side", "branch", sideName)
	p.There.Name = i.ask("A name for the other side", "office", func(s string) (string, error) {
		if s == p.Here.Name {
			return "", errors.New("the sides need different names")
		}
		return sideName(s)
	})
	if i.yes("Is this side behind a NAT (a cloud VM, a home or office router)?", "yes") {
		p.There.Addr = i.ask("The other side's public address or host name, where UDP 500 and 4500 reach it", "", reachable)
	} else {
		p.Here.Addr = i.ask("This side's public address or host name", "", reachable)
		if !i.yes("Is the other side behind a NAT?", "no") {
			p.There.Addr = i.ask("The other side's public address or host name", "", reachable)
		}
	}
	p.Here.Network = i.ask("The network behind this side, as 10.104.0.0/24", "", network)
	p.There.Network = i.ask("The network behind the other side", "", func(s string) (string, error) {
		s, err := network(s)
		if err == nil && netip.MustParsePrefix(s).Overlaps(netip.MustParsePrefix(p.Here.Network)) {
			return "", fmt.Errorf("it overlaps %s on this side: the two need networks of their own", p.Here.Network)
		}
		return s, err
	})
	fmt.Fprintln(i.out)
	if i.err == nil {
		p.Key, i.err = newKey("")
	}
	return p, i.err
}

func oneOfWords(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, w := range words {
			if s != "" && strings.HasPrefix(w, strings.ToLower(s)) {
				return w, nil
			}
		}
		return "", fmt.Errorf("write %s", strings.Join(words, " or "))
	}
}

var sideNames = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func sideName(s string) (string, error) {
	if !sideNames.MatchString(s) {
		return "", errors.New("write up to 31 small letters, digits and '-', a letter first")
	}
	return s, nil
}

var hostNames = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func reachable(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return "", fmt.Errorf("%v is nobody's address", a)
		}
		return a.String(), nil
	}
	if !hostNames.MatchString(s) || strings.Trim(s, "0123456789.") == "" {
		return "", errors.New("write an address or a host name")
	}
	return s, nil
}

func network(s string) (string, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return "", errors.New("write an address, a slash and the number of bits, as 10.104.0.0/24")
	case p != p.Masked():
		return "", fmt.Errorf("it has bits set beyond its /%d: did you mean %v?", p.Bits(), p.Masked())
	}
	return p.String(), nil
}

// turned is the plan as the other side sees it.
func (p plan) turned() plan {
	p.Here, p.There = p.There, p.Here
	return p
}

// Calls: the side that cannot be reached calls; where both can, the first does.
func (p plan) Calls() bool { return p.There.Addr != "" }

// Remote is the other side's address.
func (e end) Remote() string {
	if e.Addr == "" {
		return "any"
	}
	return e.Addr
}

// tomlForm has {{.Waits}} where both sides can be reached and the other one calls.
var tomlForm = template.Must(template.New("").Parse(`# {{.Here.Name}}: the tunnel to {{.There.Name}}.
[peer.{{.There.Name}}]
{{with .Preset}}preset    = "{{.}}"
{{end}}remote    = "{{.There.Remote}}"{{if not .There.Addr}}    # it is behind a NAT, and calls{{end}}
local_id  = "@{{.Here.Name}}"
remote_id = "@{{.There.Name}}"
psk_file  = "{{.KeyFile}}"
{{if .Waits}}initiate  = false
{{end}}
[peer.{{.There.Name}}.tunnel.lan]
local  = "{{.Here.Network}}"
remote = "{{.There.Network}}"
`))

var swanctlForm = template.Must(template.New("").Parse(`# {{.Here.Name}}: the tunnel to {{.There.Name}}. /etc/swanctl/conf.d/{{.There.Name}}.conf, then swanctl --load-all
connections {
    {{.There.Name}} {
        version = 2
        remote_addrs = {{if .There.Addr}}{{.There.Addr}}{{else}}%any{{end}}
        unique = replace
        dpd_delay = 30s
        local {
            auth = psk
            id = @{{.Here.Name}}
        }
        remote {
            auth = psk
            id = @{{.There.Name}}
        }
        children {
            lan {
                local_ts = {{.Here.Network}}
                remote_ts = {{.There.Network}}
{{- if and .Calls (not .Waits)}}
                start_action = start{{end}}
            }
        }
    }
}
secrets {
    ike-{{.There.Name}} {
        id-1 = @{{.Here.Name}}
        id-2 = @{{.There.Name}}
        secret = "{{.Key}}"
    }
}
`))

var vyosForm = template.Must(template.New("").Parse(`# {{.Here.Name}}: the tunnel to {{.There.Name}}. For VyOS 1.4 and later, in configure mode; then commit and save.
{{- $peer := printf "set vpn ipsec site-to-site peer %s" .There.Name}}
set vpn ipsec authentication psk {{.There.Name}} id '@{{.Here.Name}}'
set vpn ipsec authentication psk {{.There.Name}} id '@{{.There.Name}}'
set vpn ipsec authentication psk {{.There.Name}} secret '{{.Key}}'
set vpn ipsec esp-group CULVERT lifetime '3600'
set vpn ipsec esp-group CULVERT pfs 'dh-group31'
set vpn ipsec esp-group CULVERT proposal 1 encryption 'aes256gcm128'
set vpn ipsec esp-group CULVERT proposal 1 hash 'sha256'
set vpn ipsec ike-group CULVERT key-exchange 'ikev2'
set vpn ipsec ike-group CULVERT lifetime '28800'
set vpn ipsec ike-group CULVERT dead-peer-detection action '{{if and .Calls (not .Waits)}}restart{{else}}clear{{end}}'
set vpn ipsec ike-group CULVERT dead-peer-detection interval '30'
set vpn ipsec ike-group CULVERT proposal 1 dh-group '31'
set vpn ipsec ike-group CULVERT proposal 1 encryption 'aes256gcm128'
set vpn ipsec ike-group CULVERT proposal 1 hash 'sha256'
{{$peer}} authentication mode 'pre-shared-secret'
{{$peer}} authentication local-id '@{{.Here.Name}}'
{{$peer}} authentication remote-id '@{{.There.Name}}'
{{$peer}} connection-type '{{if and .Calls (not .Waits)}}initiate{{else}}none{{end}}'
{{$peer}} local-address 'any'
{{$peer}} remote-address '{{.There.Remote}}'
{{$peer}} default-esp-group 'CULVERT'
{{$peer}} ike-group 'CULVERT'
{{$peer}} tunnel 0 local prefix '{{.Here.Network}}'
{{$peer}} tunnel 0 remote prefix '{{.There.Network}}'
`))

// forms are the other side's file by what runs there.
var forms = map[string]struct {
	suffix string
	form   *template.Template
}{
	"culvert": {".toml", tomlForm}, "strongswan": {".swanctl.conf", swanctlForm}, "vyos": {".vyos", vyosForm},
}

// file is one that is to be written.
type file struct{ name, text string }

// files are this side's, the other side's, and the key's.
func (p plan) files() []file {
	key := p.Here.Name + "-" + p.There.Name + ".key"
	render := func(t *template.Template, p plan, preset string, waits bool) string {
		var b bytes.Buffer
		if err := t.Execute(&b, struct {
			plan
			Preset, KeyFile string
			Waits           bool
		}{p, preset, key, waits}); err != nil {
			panic(err) // the forms are ours
		}
		return b.String()
	}
	preset := p.Kind
	if preset == "culvert" {
		preset = ""
	}
	other := forms[p.Kind]
	return []file{
		{p.Here.Name + ".toml", render(tomlForm, p, preset, false)},
		{p.There.Name + other.suffix, render(other.form, p.turned(), "", p.Calls())},
		{key, p.Key + "\n"},
	}
}

// write writes the files, or none if one is there or would not be right.
func (p plan) write(out io.Writer, dir string) error {
	files := p.files()
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			return usageError(fmt.Errorf("%s is there already; nothing is written", filepath.Join(dir, f.name)))
		}
	}
	keys := config.Lookups{KeyFile: func(string) ([]byte, error) { return []byte(p.Key), nil }}
	for _, f := range files[:2] {
		if _, err := config.Parse(f.name, []byte(f.text), keys); err != nil {
			return usageError(fmt.Errorf("these answers do not make a configuration; nothing is written:\n%w", err))
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return failure(err)
	}
	for _, f := range files {
		if err := writeNew(filepath.Join(dir, f.name), f.text); err != nil {
			return failure(err)
		}
	}
	p.explain(out, dir, files)
	return nil
}

// writeNew is for its owner's eyes only: there are keys in some.
func writeNew(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (p plan) explain(out io.Writer, dir string, files []file) {
	at := func(i int) string { return filepath.Join(dir, files[i].name) }
	fmt.Fprintf(out, "%s is for this side: sudo culvert up %s\n%s is its key\n", at(0), at(0), at(2))
	with := ""
	if p.Kind == "culvert" {
		with = ", with the key beside it"
	}
	fmt.Fprintf(out, "%s is for the other side%s: bring it there by a way that nobody else can read\n", at(1), with)
}

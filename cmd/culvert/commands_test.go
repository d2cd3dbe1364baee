//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/lab"
)

// Every command in the documentation is run, in the order of its page, on the
// hosts that it names. A fenced block says what it is by the words behind its
// backticks:
//
//	console HOST          lines behind "$ " are run there, the others are what is
//	                      printed; "..." stands for anything
//	console HOST until    the same, again and again until it is printed
//	toml HOST FILE        FILE there, before anything of the page is run that follows
//	LANGUAGE not-run: WHY commands that are not run; notRun has all of them
//
// Hosts are those of the lab's situation: side-a, side-b, host-a and host-b; here
// is a machine that is connected to nothing. They have culvert, sudo (which is not
// needed), and scp, which here copies to the host of that address.

// notRun are the blocks whose commands no test runs as they stand, by page and
// first line.
var notRun = []string{
	"README.md: go build -o culvert ./cmd/culvert && sudo install culvert /usr/local/bin/",
	"README.md: go run ./cmd/culvert demo     # the main job: two gateways, a 1:1 NAT between them, packets through",
	"docs/deploy.md: culvert man /usr/share/man          # a page for each command, and culvert.toml(5)",
	"docs/deploy.md: docker build -f deploy/container/Dockerfile --target culvert -t culvert .",
	"docs/deploy.md: install -m 755 culvert /usr/bin/culvert",
	"docs/deploy.md: ip tuntap add dev culvert0 mode tun user 65532 vnet_hdr",
	"docs/howto/container.md: chown 65532 office.key",
	"docs/release.md: git checkout v1.2.3",
	"docs/release.md: go run ./deploy/release -version v1.2.3 dist",
	"docs/seeing.md: curl --unix-socket /run/culvert/culvert.sock http://culvert/v1/status",
	"docs/seeing.md: sudo culvert page",
	"docs/tutorial.md: go build -o culvert ./cmd/culvert",
}

type docBlock struct {
	page, lang, info string
	line             int
	text             string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)([^\n]*)\n(.*?)^```")

func docPages(t *testing.T) (pages []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/howto/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		pages = append(pages, found...)
	}
	return pages
}

func docBlocks(t *testing.T, page string) (all []docBlock) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := filepath.Rel(filepath.Join("..", ".."), page)
	for _, m := range fence.FindAllSubmatchIndex(text, -1) {
		all = append(all, docBlock{name, string(text[m[2]:m[3]]), strings.TrimSpace(string(text[m[4]:m[5]])), 1 + bytes.Count(text[:m[0]], []byte("\n")), string(text[m[6]:m[7]])})
	}
	return all
}

func (b docBlock) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// isRun: something is to be done with the block.
func (b docBlock) isRun() bool {
	switch b.lang {
	case "console":
		return !strings.HasPrefix(b.info, "not-run:")
	case "toml":
		return len(strings.Fields(b.info)) == 2
	}
	return false
}

// TestDocumentedCommandsAreFenced: what is not run says so, with a reason, and is
// in the list; and no command hides where the other test does not look.
func TestDocumentedCommandsAreFenced(t *testing.T) {
	var left []string
	hidden := regexp.MustCompile(`(?m)^    (\$ |sudo |culvert |\./culvert |go (run|test|build)|docker |kubectl |systemctl |ip (addr|link|route|tuntap) |swanctl |curl |ssh )`)
	for _, page := range docPages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range hidden.FindAll(fence.ReplaceAll(text, nil), -1) {
			t.Errorf("%s: %q is in no fenced block", page, m)
		}
		for _, b := range docBlocks(t, page) {
			why, isLeft := strings.CutPrefix(b.info, "not-run:")
			switch {
			case isLeft && strings.TrimSpace(why) == "":
				t.Errorf("%v is not run, and does not say why", b)
			case isLeft:
				first, _, _ := strings.Cut(b.text, "\n")
				left = append(left, b.page+": "+first)
			case b.lang == "sh", b.lang == "console" && !b.isRun(), b.lang == "":
				t.Errorf("%v: say `console HOST`, or `not-run: WHY`", b)
			}
		}
	}
	slices.Sort(left)
	want := slices.Sorted(slices.Values(notRun))
	if !slices.Equal(left, want) {
		t.Errorf("not run:\n\t%q,\nwant\n\t%q", strings.Join(left, "\",\n\t\""), strings.Join(want, "\",\n\t\""))
	}
}

// TestDocumentedCommands does what a reader of each page does, word by word.
func TestDocumentedCommands(t *testing.T) {
	for _, page := range docPages(t) {
		blocks := slices.DeleteFunc(docBlocks(t, page), func(b docBlock) bool { return !b.isRun() })
		if len(blocks) == 0 {
			continue
		}
		t.Run(strings.TrimSuffix(blocks[0].page, ".md"), func(t *testing.T) {
			r := newReader(t)
			for _, b := range blocks {
				if r.follow(b); t.Failed() {
					return
				}
			}
		})
	}
}

// reader is somebody with a shell on each machine.
type reader struct {
	*peerNet
	bin    string
	shells map[string]*shell
}

func newReader(t *testing.T) *reader {
	for program, from := range map[string]string{"bash": "bash", "ping": "iputils-ping", "sysctl": "procps"} {
		if _, err := exec.LookPath(program); err != nil {
			lack(t, "install "+from+": a reader has "+program)
		}
	}
	r := &reader{newPeerNet(t), t.TempDir(), map[string]*shell{}}
	me, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"culvert": fmt.Sprintf("#!/bin/sh\n%s=1 exec %q \"$@\"\n", asCulvert, me),
		"sudo":    "#!/bin/sh\nexec \"$@\"\n",
		"scp":     fmt.Sprintf("#!/bin/sh\n[ \"$2\" = root@%v: ] && mkdir -p %[2]q && exec cp -p \"$1\" %[2]q\n", lab.GatewayBSeen, filepath.Join(r.dir, "side-b")),
	} {
		if err := os.WriteFile(filepath.Join(r.bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *reader) follow(b docBlock) {
	r.t.Helper()
	words := strings.Fields(b.info)
	if len(words) == 0 {
		r.t.Fatalf("%v: on which host?", b)
	}
	sh := r.shell(words[0])
	if b.lang == "toml" {
		if err := os.WriteFile(filepath.Join(sh.dir, words[1]), []byte(b.text), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	steps := stepsOf(b.text)
	if len(steps) == 0 {
		r.t.Fatalf("%v: no command", b)
	}
	for _, s := range steps {
		s.run(r.t, b, sh, slices.Contains(words, "until"))
	}
}

// step is a command and what it prints.
type step struct{ command, prints string }

func stepsOf(text string) (steps []step) {
	for line := range strings.Lines(text) {
		if command, is := strings.CutPrefix(line, "$ "); is {
			steps = append(steps, step{command: command})
			continue
		}
		if len(steps) == 0 {
			continue
		}
		s := &steps[len(steps)-1]
		if strings.HasSuffix(s.command, "\\\n") {
			s.command += line
		} else {
			s.prints += line
		}
	}
	return steps
}

// pattern is what is printed with "..." for anything.
func (s step) pattern() *regexp.Regexp {
	parts := strings.Split(strings.TrimSpace(s.prints), "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`)
}

func (s step) run(t *testing.T, b docBlock, sh *shell, until bool) {
	t.Helper()
	want := s.pattern()
	var got string
	for end := time.Now().Add(waitTime); ; time.Sleep(100 * time.Millisecond) {
		got = unwrapped(sh.run(t, s.command))
		if s.prints == "" || want.MatchString(unwrapped(got)) || !until || time.Now().After(end) {
			break
		}
	}
	switch {
	case s.prints == "" && got != "":
		t.Errorf("%v: %sprints\n%s\nand the page has nothing", b, s.command, got)
	case !want.MatchString(got):
		t.Errorf("%v: %sprints\n%s\nand the page has\n%s", b, s.command, got, s.prints)
	}
}

func unwrapped(s string) string { return strings.TrimSpace(s) }

// shell is a bash on a host, which remembers jobs and variables from block to
// block.
type shell struct {
	dir   string
	in    io.Writer
	out   *lab.Log
	count int
}

func (r *reader) shell(name string) *shell {
	r.t.Helper()
	if sh := r.shells[name]; sh != nil {
		return sh
	}
	host := map[string]*lab.Host{"side-a": r.GatewayA, "side-b": r.GatewayB, "host-a": r.HostA, "host-b": r.HostB}[name]
	if name == "here" {
		var err error
		if host, err = r.Host("here"); err != nil {
			r.t.Fatal(err)
		}
	}
	if host == nil {
		r.t.Fatalf("%s is no host", name)
	}
	sh := &shell{dir: filepath.Join(r.dir, name), out: &lab.Log{}}
	if err := os.MkdirAll(sh.dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	in, out := io.Pipe()
	p := host.Command(context.Background(), "bash", "--norc")
	p.Dir, p.Stdin, p.Stdout, p.Stderr = sh.dir, in, sh.out, sh.out
	p.Mounts = []lab.Mount{{Target: "/run"}} // control sockets of one's own
	p.Env = []string{"PATH=" + r.bin + ":" + os.Getenv("PATH"), "LC_ALL=C"}
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	sh.in = out
	r.t.Cleanup(func() {
		out.Close()
		_ = p.Stop()
	})
	r.shells[name] = sh
	return sh
}

// run gives what a command prints, jobs of the shell's own in the background
// excepted.
func (sh *shell) run(t *testing.T, command string) string {
	t.Helper()
	sh.count++
	before, mark := len(sh.out.String()), fmt.Sprintf("--- end of command %d ---", sh.count)
	fmt.Fprintf(sh.in, "%s\necho '%s'\n", strings.TrimSuffix(command, "\n"), mark)
	var text string
	eventually(t, "end of "+command, func() bool {
		var done bool
		text, _, done = strings.Cut(sh.out.String()[before:], mark)
		return done
	})
	return text
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"culvert/config"
)

// manCommand is for those who package culvert: pages from the same words as
// --help, so that they cannot differ.
func manCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the man pages below a directory, such as /usr/share/man",
		Hidden: true,
		Args:   takes(1, 1, "the directory to write to"),
		RunE: func(_ *cobra.Command, args []string) error {
			pages := map[string]string{"man5/culvert.toml.5": configPage()}
			addPages(pages, root)
			for name, text := range pages {
				if err := writePage(filepath.Join(args[0], name), text); err != nil {
					return failure(err)
				}
			}
			return nil
		},
	}
}

func addPages(pages map[string]string, c *cobra.Command) {
	pages["man1/"+pageName(c)+".1"] = manPage(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			addPages(pages, sub)
		}
	}
}

func writePage(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// configPage is that of the configuration, out of its reference.
func configPage() string {
	var b strings.Builder
	b.WriteString(".TH CULVERT.TOML 5\n.SH NAME\nculvert.toml \\- configuration of culvert\n.SH DESCRIPTION\nLengths of time have a unit: \"500ms\", \"30s\", \"10m\", \"4h\". Names of files are relative to the configuration's folder. A setting that nobody knows is an error;\n.BR culvert-check (1)\nsays what is wrong in a file.\n")
	for _, s := range config.Reference() {
		fmt.Fprintf(&b, ".SH %s\n", roff(s.Title))
		for _, k := range s.Settings {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(k.Key), roff(plain(sentences(k))))
		}
	}
	b.WriteString(".SH SEE ALSO\n.BR culvert (1),\n.BR culvert-check (1),\n.BR culvert-convert (1)\n")
	return b.String()
}

func sentences(k config.Setting) string {
	if k.Default == "-" || k.Default == "" {
		return k.Doc
	}
	return strings.TrimSuffix(k.Doc, ".") + ". Default: " + k.Default + "."
}

var markdownLink = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)

// plain is Markdown without its marks.
func plain(s string) string {
	return strings.ReplaceAll(markdownLink.ReplaceAllString(s, "$1"), "`", "")
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is a command's page in the man macros of roff.
func manPage(c *cobra.Command) string {
	var b strings.Builder
	name := pageName(c)
	fmt.Fprintf(&b, ".TH %s 1\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n", strings.ToUpper(name), roff(name), roff(c.Short), roff(c.UseLine()))
	long := c.Long
	if long == "" {
		long = c.Short
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", paragraphs(long))
	manOptions(&b, c.NonInheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	var also []string
	if c.HasParent() {
		also = append(also, pageName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			also = append(also, pageName(sub))
		}
	}
	if len(also) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", strings.Join(also, " (1),\n.BR "))
	}
	return b.String()
}

func manOptions(b *strings.Builder, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH OPTIONS\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR", roff("--"+f.Name))
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(b, "\n%s\n", roff(usage))
	})
}

// paragraphs keeps lines that are set in, as they are typed.
func paragraphs(s string) string {
	var parts []string
	for _, p := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if strings.HasPrefix(p, " ") {
			p = ".nf\n" + roff(p) + "\n.fi"
		} else {
			p = roff(p)
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, "\n.PP\n")
}

// roff escapes what roff would take for its own.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

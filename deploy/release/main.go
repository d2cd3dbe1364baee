// Command release builds what people download: for each target an archive with
// the program, its man pages, completions and examples, beside it the program's
// bill of materials (CycloneDX), and for all of them SHA256SUMS.
//
//	go run ./deploy/release -version v1.2.3 dist
//	go run ./deploy/release -version v1.2.3 -targets linux/amd64 dist
//
// The same commit, Go and version give the same bytes, whoever builds where and
// when: docs/release.md says how to see for yourself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// targets are what is built, GOOS/GOARCH; armv7 is GOARCH=arm with GOARM=7.
const targets = "linux/amd64,linux/arm64,linux/armv7,linux/riscv64,darwin/arm64,darwin/amd64"

func main() {
	version := flag.String("version", "", "the release's `version`, such as v1.2.3")
	which := flag.String("targets", targets, "what to build, as `os/arch,...`")
	source := flag.String("source", ".", "the module's `directory`")
	flag.Parse()
	if err := run(*source, *version, *which, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(source, version, which string, args []string) error {
	if version == "" || len(args) != 1 {
		return errors.New("say which version, and the directory to write to: go run ./deploy/release -version v1.2.3 dist")
	}
	r, err := newRelease(source, args[0], version)
	if err != nil {
		return err
	}
	defer r.close()
	for target := range strings.SplitSeq(which, ",") {
		if err := r.build(target); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return r.sums()
}

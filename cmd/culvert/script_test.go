package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the files of testdata/script, which read as documentation
// of the command. Beside testscript's own words they have
//
//	culvert ARGS          it succeeds
//	exits N culvert ARGS  it ends with that exit code
//	gateways A B          gateways of these two files run in memory, connected
//	connected FILE        waits until that one is connected
//	refused FILE          waits until that one is refused by its peer
func TestScripts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	culvert := func(ts *testscript.TestScript, args []string, want int) {
		code := 0
		var exit *exec.ExitError
		if err := ts.Exec(self, args...); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else {
			ts.Check(err)
		}
		if code != want {
			ts.Fatalf("culvert ended with exit code %d, want %d", code, want)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv(asCulvert, "1")
			env.Setenv("CULVERT", self)
			env.Setenv("EXAMPLES", filepath.Join(here, "..", "..", "examples"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"gateways":  gateways,
			"connected": connected,
			"refused":   turnedAway,
			"culvert": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg {
					ts.Fatalf("say which exit code: exits N culvert ...")
				}
				culvert(ts, args, 0)
			},
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 || args[1] != "culvert" {
					ts.Fatalf("usage: exits N culvert ...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				culvert(ts, args[2:], want)
			},
		},
	})
}

package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// asCulvert in the environment makes this test binary run as the command
// itself, which is how tests start gateways.
const asCulvert = "CULVERT_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCulvert) != "" {
		os.Exit(run(os.Args[1:]))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // what is parallel here waits more than it works
		panic(err)
	}
	code := m.Run()
	if err := writeScenarios(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

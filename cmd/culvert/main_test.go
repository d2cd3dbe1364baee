package main

import (
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
	os.Exit(m.Run())
}

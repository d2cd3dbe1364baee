package lab

import (
	"testing"
	"time"
)

func TestProcessTime(t *testing.T) {
	const rest = " S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 4 0 12345 1 1 18446744073709551615"
	for _, name := range []string{"(charon)", "(a) 9 (b c)", "()"} {
		if got, err := processTime([]byte("42 " + name + rest)); err != nil || got != 3*time.Second {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, broken := range []string{"", "42 (x) S 1 2", "42 (x) S 1 42 42 0 -1 4194560 100 0 0 0 x 50 7"} {
		if got, err := processTime([]byte(broken)); err == nil {
			t.Errorf("%q is %v", broken, got)
		}
	}
}

func TestMachineTime(t *testing.T) {
	got, err := machineTime([]byte("cpu  100 10 200 99999 88888 5 15 77777 66 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))
	if err != nil || got != 3300*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, broken := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3", "cpu 1 2 x 4 5 6 7 8"} {
		if got, err := machineTime([]byte(broken)); err == nil {
			t.Errorf("%q is %v", broken, got)
		}
	}
}

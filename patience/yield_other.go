//go:build !linux

package patience

import "runtime"

func yield() { runtime.Gosched() }

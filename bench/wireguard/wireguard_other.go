//go:build !linux

package wireguard

import "culvert/bench/pipeline"

// Systems are none: the work is that of wireguard-go on Linux.
func Systems() []pipeline.System { return nil }

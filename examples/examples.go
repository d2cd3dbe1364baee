// Package examples is the two sides of the situation that culvert is for, in
// every form of configuration, as files to copy and for the demo to run.
package examples

import "embed"

// Files are the example configurations.
//
//go:embed *.toml *.vyos *.set *.swanctl.conf
var Files embed.FS

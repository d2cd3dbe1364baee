//go:build deps

package deps

import (
	_ "filippo.io/bigmod"
	_ "github.com/gaissmai/bart"
	_ "github.com/google/nftables"
	_ "github.com/pelletier/go-toml/v2"
	_ "github.com/pelletier/go-toml/v2/unstable"
	_ "github.com/pion/transport/v3/replaydetector"
	_ "github.com/pion/transport/v3/vnet"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/vishvananda/netlink"
	_ "github.com/vishvananda/netns"
	_ "golang.org/x/crypto/chacha20poly1305"
	_ "golang.org/x/net/bpf"
	_ "golang.org/x/net/ipv4"
	_ "golang.org/x/net/ipv6"
	_ "golang.org/x/net/route"
	_ "golang.org/x/sys/unix"
	_ "golang.zx2c4.com/wireguard/tun"
	_ "golang.zx2c4.com/wireguard/tun/netstack"
)

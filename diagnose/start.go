package diagnose

import "fmt"

// The ways in which a gateway cannot start.
const (
	NoDeviceFile = "no_tun"        // /dev/net/tun is not there
	NoRight      = "no_capability" // CAP_NET_ADMIN is missing
	PortTaken    = "port_taken"    // somebody else has the UDP port
	PortDenied   = "port_denied"   // ports below 1024 are not for us
	NotOurs      = "no_such_local" // the address to listen on is no address of this machine
)

// NoStart is a gateway that does not come up, because the system does not give it what it needs.
type NoStart struct {
	Why    string // one of the constants
	Device string // the TUN device's name
	Port   uint16 // the UDP port
	Addr   string // the address to listen on, empty for any
	At     Setting
	// Error is the system's word.
	Error string
}

// Report says what to make, to stop or to allow.
func (f NoStart) Report() Report {
	port := fmt.Sprintf("UDP port %d", f.Port)
	if f.Addr != "" {
		port += " of " + clean(f.Addr)
	}
	place := ""
	if f.At.Key != "" {
		place = fmt.Sprintf("It is set in %s.", f.At.place())
	}
	said := fmt.Sprintf("The system says: %s.", clean(f.Error))
	switch f.Why {
	case NoDeviceFile:
		return compose(f.Why, fmt.Sprintf("the TUN device %s cannot be made: this system has no /dev/net/tun", clean(f.Device)),
			"Load the kernel's module (`modprobe tun`), in a container hand the device in (`--device /dev/net/tun`), or make the file: `mkdir -p /dev/net; mknod /dev/net/tun c 10 200`.", said)
	case NoRight:
		return compose(f.Why, fmt.Sprintf("the TUN device %s cannot be made: this process may not", clean(f.Device)),
			"It needs the capability CAP_NET_ADMIN: run it as root, by its systemd unit, in a container with `--cap-add NET_ADMIN`, or give the program the capability (`setcap cap_net_admin,cap_net_bind_service+ep culvert`). Or have somebody else make the device, and set `device_prepared = true`.", said)
	case PortTaken:
		return compose(f.Why, port+" is taken",
			fmt.Sprintf("Another IKE daemon is probably running here (charon of strongSwan, pluto of libreswan, iked), or another culvert: `ss -lunp 'sport = %d'` says which. Stop it, or choose other ports.", f.Port), place, said)
	case PortDenied:
		return compose(f.Why, port+" cannot be opened: this process may not",
			"Ports below 1024 need root or the capability CAP_NET_BIND_SERVICE, or `sysctl net.ipv4.ip_unprivileged_port_start=500`.", said)
	case NotOurs:
		return compose(f.Why, port+" cannot be opened: no interface of this machine has that address",
			"Behind a NAT the public address is the NAT's and not this machine's: listen on `any`, or on an address that `ip addr` shows.", place, said)
	}
	return compose("no_start", "the gateway cannot start", said, place)
}

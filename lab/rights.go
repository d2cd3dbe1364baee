package lab

import "errors"

// ErrUnsupported is returned where there are no network namespaces.
var ErrUnsupported = errors.New("lab: networks out of namespaces need Linux")

// RightsKind is how far a process may go in building labs.
type RightsKind int

const (
	NoRights      RightsKind = iota // no lab
	UserNamespace                   // a lab after ReexecInUserNamespace
	Direct                          // a lab in this process
)

// Rights is what CheckRights found out.
type Rights struct {
	Kind   RightsKind
	Reason string // one sentence for the user
	Device error  // why TUN devices cannot be made; nil when they can
}

func (k RightsKind) String() string {
	return [...]string{"none", "user namespace", "direct"}[k]
}

//go:build !linux && !darwin

package gateway

import "errors"

func watchNetwork() (Network, error) { return nil, errors.ErrUnsupported }

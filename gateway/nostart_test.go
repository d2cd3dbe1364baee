package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"culvert/config"
)

// TestNoStart: an error in words is still the system's, and one that needs none
// stays as it is. What is said of which, real systems show (cmd/culvert).
func TestNoStart(t *testing.T) {
	cfg, err := config.Parse("a.toml", []byte(textA), config.Lookups{})
	noError(t, err)
	denied := noDevice(cfg, fmt.Errorf("ioctl: %w", fs.ErrPermission))
	if !errors.Is(denied, fs.ErrPermission) || !strings.Contains(denied.Error(), "CAP_NET_ADMIN") {
		t.Errorf("it hides what the system said: %v", denied)
	}
	if other := errors.New("something else"); noDevice(cfg, other) != other {
		t.Error("it changes an error that it does not know")
	}
}

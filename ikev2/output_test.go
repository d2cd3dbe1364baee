package ikev2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"culvert/ikev2/keymat"
)

// Whoever prints an output prints no key.
func TestOutputsKeepTheirSecrets(t *testing.T) {
	key := bytes.Repeat([]byte{0xa7}, 16)
	keys := ESPKeys{Encr: key, Integ: key}
	for _, o := range []any{
		keys, &keys, InstallInbound{Keys: keys}, InstallOutbound{Keys: keys}, &InstallInbound{Keys: keys},
		IKEKeys{Keys: keymat.IKEKeys{SKd: key}}, &IKEKeys{Keys: keymat.IKEKeys{SKd: key}}, []Output{IKEKeys{Keys: keymat.IKEKeys{SKd: key}}},
	} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			printed := strings.ToLower(fmt.Sprintf(format, o))
			for _, leak := range []string{"167", "a7a7", "0xa7", "\xa7", string(key)} {
				if strings.Contains(printed, leak) {
					t.Errorf("%T printed with %s: %s", o, format, printed)
				}
			}
		}
	}
}

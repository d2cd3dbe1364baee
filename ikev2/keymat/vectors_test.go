package keymat

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"
)

// hexBytes is a byte string that its JSON file writes in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// published.json holds vectors out of RFCs and of NIST, and names the source of each part.
type published struct {
	Groups []struct {
		Source               string
		Group                uint16
		I, R, Gi, Gr, Shared hexBytes
	}
	KDF []struct {
		PRF, Encr, KeyBits, Integ                                     uint16
		Ni, Nr, Spii, Spir, Gir, GirNew, Skeyseed, SkeyseedRekey, Dkm hexBytes
	}
	HMAC []map[string]hexBytes
	// ChaCha20 is the one published vector of a whole Encrypted payload.
	ChaCha20 struct{ Key, Salt, Packet, Plain hexBytes }
}

// independent.json is what independent.py computed with other implementations.
type independent struct {
	Derive []struct {
		OldPRF, PRF, Encr, KeyBits, Integ                                           uint16
		Ni, Nr, Shared, Spii, Spir, OldSKd, Keys, Rekeyed, Resumed, Child, ChildPFS hexBytes
	}
	Auth []struct {
		PRF                                                        uint16
		PSK, InitMessage, PeerNonce, Skp, IDBody, Auth, ResumeAuth hexBytes
	}
	Sealed []struct {
		Encr, KeyBits, Integ               uint16
		EncrKey, IntegKey, Plain, Datagram hexBytes
	}
	NAT []struct {
		Spii, Spir, Address, Hash hexBytes
		Port                      uint16
	}
}

// seeded is a source of bytes that gives the same ones each time.
func seeded(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = seeded(seed).Read(b)
	return b
}

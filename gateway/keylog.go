package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"culvert/ikev2"
	"culvert/ikev2/wire"
)

// keyLog writes Wireshark's tables of keys: ikev2_decryption_table and esp_sa,
// in the formats of its preferences. A nil keyLog writes nothing.
type keyLog struct {
	dir     string
	ikeFile *os.File
	espFile *os.File
}

// openKeyLog makes the tables in dir, readable by their owner alone even where
// they were there before. An empty dir is no key log.
func openKeyLog(dir string) (*keyLog, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("key log: %w", err)
	}
	k := &keyLog{dir: dir}
	for name, f := range map[string]**os.File{"ikev2_decryption_table": &k.ikeFile, "esp_sa": &k.espFile} {
		var err error
		if *f, err = os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			err = (*f).Chmod(0o600)
		}
		if err != nil {
			_ = k.Close()
			return nil, fmt.Errorf("key log: %w", err)
		}
	}
	return k, nil
}

// Close closes the tables.
func (k *keyLog) Close() error {
	if k == nil {
		return nil
	}
	return errors.Join(closeFile(k.ikeFile), closeFile(k.espFile))
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// row is one line of quoted fields.
func row(fields ...string) string {
	var line []byte
	for i, f := range fields {
		if i > 0 {
			line = append(line, ',')
		}
		line = append(append(append(line, '"'), f...), '"')
	}
	return string(line)
}

// ikeCiphers and ikeIntegrity are Wireshark's names (epan/dissectors/packet-isakmp.c).
var ikeCiphers = map[[2]uint16]string{
	{wire.EncrAESCBC, 128}: "AES-CBC-128 [RFC3602]", {wire.EncrAESCBC, 192}: "AES-CBC-192 [RFC3602]", {wire.EncrAESCBC, 256}: "AES-CBC-256 [RFC3602]",
	{wire.EncrAESGCM16, 128}: "AES-GCM-128 with 16 octet ICV [RFC5282]", {wire.EncrAESGCM16, 192}: "AES-GCM-192 with 16 octet ICV [RFC5282]",
	{wire.EncrAESGCM16, 256}: "AES-GCM-256 with 16 octet ICV [RFC5282]",
}

var ikeIntegrity = map[uint16]string{
	0: "NONE [RFC4306]", wire.IntegHMACSHA2256128: "HMAC_SHA2_256_128 [RFC4868]", wire.IntegHMACSHA2384192: "HMAC_SHA2_384_192 [RFC4868]",
	wire.IntegHMACSHA2512256: "HMAC_SHA2_512_256 [RFC4868]",
}

// ike writes the keys of an IKE SA, and once more after each additional key
// exchange (RFC 9370): Wireshark goes by the last row. It leaves out an SA whose cipher
// Wireshark has no name for, as it has none for ChaCha20-Poly1305: it would not
// read the table.
func (k *keyLog) ike(o ikev2.IKEKeys) {
	if row, known := ikeKeyRow(o); known && k != nil {
		_, _ = fmt.Fprintln(k.ikeFile, row)
	}
}

func ikeKeyRow(o ikev2.IKEKeys) (row string, known bool) {
	cipher, known := ikeCiphers[[2]uint16{o.Suite.Encr, o.Suite.KeyBits}]
	return fmt.Sprintf("%x,%x,%x,%x,%q,%x,%x,%q", o.ID.Initiator[:], o.ID.Responder[:],
		o.Keys.SKei, o.Keys.SKer, cipher,
		o.Keys.SKai, o.Keys.SKar, ikeIntegrity[o.Suite.Integ]), known
}

// espCiphers and espIntegrity are Wireshark's names (epan/dissectors/packet-ipsec.c).
// It has ChaCha20 since 4.2.
var espCiphers = map[uint16]string{
	wire.EncrAESCBC: "AES-CBC [RFC3602]", wire.EncrAESGCM16: "AES-GCM with 16 octet ICV [RFC4106]", wire.EncrChaCha20Poly1305: "ChaCha20 with Poly1305 [RFC7634]",
}

var espIntegrity = map[uint16]string{
	0: "NULL", wire.IntegHMACSHA2256128: "HMAC-SHA-256-128 [RFC4868]", wire.IntegHMACSHA2384192: "HMAC-SHA-384-192 [RFC4868]",
	wire.IntegHMACSHA2512256: "HMAC-SHA-512-256 [RFC4868]",
}

// esp writes an SA.
func (k *keyLog) esp(row string) {
	if k != nil {
		_, _ = fmt.Fprintln(k.espFile, row)
	}
}

// espKeyRow names an SA by its SPI alone: a capture from the other side of a NAT
// has other addresses.
func espKeyRow(outer netip.Addr, spi uint32, s ikev2.ESPSuite, keys ikev2.ESPKeys) string {
	family := "IPv4"
	if outer.Is6() {
		family = "IPv6"
	}
	fields := []string{family, "*", "*", fmt.Sprintf("0x%08x", spi), espCiphers[s.Encr], fmt.Sprintf("0x%x", keys.Encr), espIntegrity[s.Integ], optionalHex(keys.Integ)}
	if s.ESN {
		// Wireshark has this column since 4.2 and 32-bit is its default; older
		// ones discard it with a warning.
		fields = append(fields, "64-bit")
	}
	return row(fields...)
}

func optionalHex(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return fmt.Sprintf("0x%x", b)
}

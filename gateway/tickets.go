package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"culvert/config"
)

// ticketKeyLen is the length in octets of the key that seals tickets (RFC 5723)
// and makes the tokens of crash detection (RFC 6290).
const ticketKeyLen = 32

// ticketKey is the key in the configured file, which is made with the first
// start, so that peers can resume after a restart. Without a file it is good for
// this process.
func ticketKey(cfg *config.Config, random io.Reader) ([]byte, error) {
	if cfg.Gateway.ResumptionKeyFile == "" {
		return newTicketKey(random)
	}
	name := cfg.Path(cfg.Gateway.ResumptionKeyFile)
	key, err := readTicketKey(name)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeTicketKey(name, random)
	}
	if err != nil {
		return nil, fmt.Errorf("resumption_key_file: %w", err)
	}
	return key, nil
}

func newTicketKey(random io.Reader) ([]byte, error) {
	key := make([]byte, ticketKeyLen)
	_, err := io.ReadFull(random, key)
	return key, err
}

// readTicketKey takes a file of its owner's alone: who reads it can pass for any
// peer that holds a ticket.
func readTicketKey(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read %s: chmod 600 it, or remove it for a new key", name)
	case !info.Mode().IsRegular() || info.Size() != ticketKeyLen:
		return nil, fmt.Errorf("%s is not a file of %d bytes: remove it for a new key", name, ticketKeyLen)
	}
	return io.ReadAll(io.LimitReader(f, ticketKeyLen))
}

// makeTicketKey leaves either the whole file or none: it is linked into place
// when it is written.
func makeTicketKey(name string, random io.Reader) ([]byte, error) {
	key, err := newTicketKey(random)
	if err != nil {
		return nil, err
	}
	part := name + ".new"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, bytes.NewReader(key))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(part))
	}
	return key, nil
}

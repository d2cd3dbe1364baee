package keymat

import (
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"io"
)

// A kem is ML-KEM of one size (FIPS 203, draft-ietf-ipsecme-ikev2-mlkem): the initiator's Key Exchange Data is an encapsulation key, the
// responder's a ciphertext. The size of a key tells the two parameter sets apart.
type kem struct{ keyLen, ciphertextLen int }

func (k kem) publicLen() int { return k.keyLen }

// generate makes the initiator's key out of its seed d | z.
func (k kem) generate(id uint16, rand io.Reader) (KeyExchange, error) {
	seed := make([]byte, mlkem.SeedSize)
	defer clear(seed)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, ErrRandom
	}
	if k.keyLen == mlkem.EncapsulationKeySize768 {
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, ErrRandom
		}
		return &kemKey{id: id, public: key.EncapsulationKey().Bytes(), decapsulate: key.Decapsulate}, nil
	}
	key, err := mlkem.NewDecapsulationKey1024(seed)
	if err != nil {
		return nil, ErrRandom
	}
	return &kemKey{id: id, public: key.EncapsulationKey().Bytes(), decapsulate: key.Decapsulate}, nil
}

// respond holds the peer's encapsulation key to its length and its modulus (FIPS 203 7.2). The 32 bytes m that encapsulation takes come from rand;
// crypto/mlkem itself would take them from the system (docs/adr says why not here).
func (k kem) respond(_ uint16, peer []byte, rand io.Reader) (public, shared []byte, err error) {
	m := make([]byte, 32)
	defer clear(m)
	if _, err := io.ReadFull(rand, m); err != nil {
		return nil, nil, ErrRandom
	}
	if shared, public, err = k.encapsulate(peer, m); err != nil {
		return nil, nil, ErrPeerKey
	}
	return public, shared, nil
}

func (k kem) encapsulate(peer, m []byte) (shared, ciphertext []byte, err error) {
	if k.keyLen == mlkem.EncapsulationKeySize768 {
		key, err := mlkem.NewEncapsulationKey768(peer)
		if err != nil {
			return nil, nil, err
		}
		return mlkemtest.Encapsulate768(key, m)
	}
	key, err := mlkem.NewEncapsulationKey1024(peer)
	if err != nil {
		return nil, nil, err
	}
	return mlkemtest.Encapsulate1024(key, m)
}

type kemKey struct {
	redacted
	id          uint16
	public      []byte
	decapsulate func([]byte) ([]byte, error)
}

func (k *kemKey) Group() uint16 { return k.id }

func (k *kemKey) Public() []byte { return k.public }

// Shared refuses a ciphertext of the wrong length alone: any other one gives a secret, though not the peer's (FIPS 203 7.3).
func (k *kemKey) Shared(ciphertext []byte) ([]byte, error) {
	secret, err := k.decapsulate(ciphertext)
	if err != nil {
		return nil, ErrPeerKey
	}
	return secret, nil
}

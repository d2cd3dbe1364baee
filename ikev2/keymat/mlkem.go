package keymat

import (
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"io"

	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
)

// A kem is ML-KEM of one size (FIPS 203, draft-ietf-ipsecme-ikev2-mlkem): the initiator's Key Exchange Data is an encapsulation key, the
// responder's a ciphertext.
type kem struct {
	keyLen int
	// key makes a key out of its seed d | z, of mlkem.SeedSize.
	key func(seed []byte) (public []byte, decapsulate func(ciphertext []byte) ([]byte, error), err error)
	// encapsulate takes its 32 random bytes m from its caller; crypto/mlkem itself would take them from the system (docs/adr says why not here).
	encapsulate func(peer, m []byte) (shared, ciphertext []byte, err error)
}

var (
	mlkem768  = kem{mlkem.EncapsulationKeySize768, key768, encapsulate768}
	mlkem1024 = kem{mlkem.EncapsulationKeySize1024, key1024, encapsulate1024}
	// The standard library has no ML-KEM-512.
	mlkemSmall = kem{mlkem512.PublicKeySize, key512, encapsulate512}
)

func key768(seed []byte) ([]byte, func([]byte) ([]byte, error), error) {
	key, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, nil, err
	}
	return key.EncapsulationKey().Bytes(), key.Decapsulate, nil
}

func encapsulate768(peer, m []byte) (shared, ciphertext []byte, err error) {
	key, err := mlkem.NewEncapsulationKey768(peer)
	if err != nil {
		return nil, nil, err
	}
	return mlkemtest.Encapsulate768(key, m)
}

func key1024(seed []byte) ([]byte, func([]byte) ([]byte, error), error) {
	key, err := mlkem.NewDecapsulationKey1024(seed)
	if err != nil {
		return nil, nil, err
	}
	return key.EncapsulationKey().Bytes(), key.Decapsulate, nil
}

func encapsulate1024(peer, m []byte) (shared, ciphertext []byte, err error) {
	key, err := mlkem.NewEncapsulationKey1024(peer)
	if err != nil {
		return nil, nil, err
	}
	return mlkemtest.Encapsulate1024(key, m)
}

func key512(seed []byte) ([]byte, func([]byte) ([]byte, error), error) {
	public, private := mlkem512.Scheme().DeriveKeyPair(seed)
	b, err := public.MarshalBinary()
	decapsulate := func(ciphertext []byte) ([]byte, error) { return mlkem512.Scheme().Decapsulate(private, ciphertext) }
	return b, decapsulate, err
}

func encapsulate512(peer, m []byte) (shared, ciphertext []byte, err error) {
	key, err := mlkem512.Scheme().UnmarshalBinaryPublicKey(peer)
	if err != nil {
		return nil, nil, err
	}
	ciphertext, shared, err = mlkem512.Scheme().EncapsulateDeterministically(key, m)
	return shared, ciphertext, err
}

func (k kem) publicLen() int { return k.keyLen }

// generate makes the initiator's key.
func (k kem) generate(id uint16, rand io.Reader) (KeyExchange, error) {
	seed := make([]byte, mlkem.SeedSize)
	defer clear(seed)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, ErrRandom
	}
	public, decapsulate, err := k.key(seed)
	if err != nil {
		return nil, ErrRandom
	}
	return &kemKey{id: id, public: public, decapsulate: decapsulate}, nil
}

// respond holds the peer's encapsulation key to its length and its modulus (FIPS 203 7.2).
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

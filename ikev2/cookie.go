package ikev2

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"culvert/ikev2/wire"
)

const (
	// cookieSecretTime is the age at which the secret is replaced. A cookie is
	// good until the next replacement: for one to two of these.
	cookieSecretTime = 30 * time.Second
	// cookieCalm is how long no IKE_SA_INIT may have come before cookies are no
	// longer asked for. An initiator that is between its two requests must not
	// get an SA for both.
	cookieCalm = 10 * time.Second
)

// cookies are what a responder under load wants returned before it does
// anything for a stranger (RFC 7296 section 2.6): the proof that the stranger
// receives at its address, which costs the responder no state.
//
//	cookie = version of the secret | HMAC-SHA-256(secret, SPIi | IPi | port | Ni)
//
// The KE payload is not in it, so that it stays good when INVALID_KE_PAYLOAD asks
// for another one (section 2.6.1).
type cookies struct {
	secret, last cookieSecret
	// until: they are asked for, however few half-open SAs there are.
	until time.Time
}

type cookieSecret struct {
	version byte
	made    time.Time // zero: there is none
	key     [sha256.Size]byte
}

// wantsCookie says whether an IKE_SA_INIT that comes now has to bring one.
func (e *Engine) wantsCookie() bool {
	wants := e.halfOpen.total+1 >= e.limits.CookieThreshold || e.now.Before(e.cookies.until)
	if wants {
		e.cookies.until = e.now.Add(cookieCalm)
	}
	return wants
}

// checkCookie asks for a cookie unless the request brings a good one.
func (e *Engine) checkCookie(h wire.Header, d Datagram) bool {
	in, ok := wire.ScanInitial(d.Payload)
	if !ok {
		e.drop(dropMalformed)
		return false
	}
	if e.cookies.refresh(e.now, e.rand) != nil {
		e.drop(dropRandom)
		return false
	}
	if e.cookies.good(in, h.InitiatorSPI, d.Path.Remote) {
		return true
	}
	e.drop(dropCookie)
	h.Flags = wire.FlagResponse
	e.replyClear(h, d, &wire.Notify{NotifyType: wire.NotifyCookie, Data: e.cookies.secret.bake(in.Nonce, h.InitiatorSPI, d.Path.Remote)})
	return false
}

// refresh replaces a secret that is too old.
func (c *cookies) refresh(now time.Time, rand io.Reader) error {
	age := now.Sub(c.secret.made)
	if !c.secret.made.IsZero() && age < cookieSecretTime {
		return nil
	}
	fresh := cookieSecret{version: c.secret.version + 1, made: now}
	if _, err := io.ReadFull(rand, fresh.key[:]); err != nil {
		return err
	}
	if c.last = c.secret; age >= 2*cookieSecretTime {
		c.last = cookieSecret{}
	}
	c.secret = fresh
	return nil
}

// good looks at the secret of the version that a cookie names.
func (c *cookies) good(in wire.Initial, spi wire.SPI, from netip.AddrPort) bool {
	for _, s := range []*cookieSecret{&c.secret, &c.last} {
		if !s.made.IsZero() && len(in.Cookie) > 0 && in.Cookie[0] == s.version {
			return hmac.Equal(in.Cookie, s.bake(in.Nonce, spi, from))
		}
	}
	return false
}

func (s *cookieSecret) bake(nonce []byte, spi wire.SPI, from netip.AddrPort) []byte {
	mac := hmac.New(sha256.New, s.key[:])
	addr := from.Addr().As16()
	mac.Write(spi[:])
	mac.Write(addr[:])
	mac.Write(binary.BigEndian.AppendUint16(nil, from.Port()))
	mac.Write(nonce)
	return mac.Sum([]byte{s.version})
}

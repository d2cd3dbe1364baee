"""Writes independent.json: what keymat computes, computed by Python's hmac and hashlib and by pyca/cryptography (48.0.0).

Run it in its folder. The output is the same each time.
"""
import hashlib, hmac, json, struct
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

HASHES = {5: "sha256", 6: "sha384", 7: "sha512"}
INTEG = {12: (5, 16), 13: (6, 24), 14: (7, 32)}


def stream(label, n):
    return hashlib.shake_128(label.encode()).digest(n)


def prf(h, key, data):
    return hmac.new(key, data, HASHES[h]).digest()


def plus(h, key, seed, n):
    out = block = b""
    i = 1
    while len(out) < n:
        block = prf(h, key, block + seed + bytes([i]))
        out += block
        i += 1
    return out[:n]


def derive():
    for number, (old, new, encr, bits, integ, enclen, intlen) in enumerate([
        (5, 5, 20, 128, 0, 20, 0), (6, 7, 20, 256, 0, 36, 0), (7, 6, 28, 0, 0, 36, 0),
        (5, 5, 12, 128, 12, 16, 32), (5, 6, 12, 192, 13, 24, 48), (6, 7, 12, 256, 14, 32, 64),
    ]):
        s = lambda label, n: stream(f"derive {number} {label}", n)
        ni, nr, gir, spii, spir, oldd = s("ni", 32 + number), s("nr", 48), s("gir", 66), s("spii", 8), s("spir", 8), s("old", 64)
        size = hashlib.new(HASHES[new]).digest_size
        n = 3 * size + 2 * enclen + 2 * intlen
        keys = plus(new, prf(new, ni + nr, gir), ni + nr + spii + spir, n)
        rekeyed = plus(new, prf(old, oldd, gir + ni + nr), ni + nr + spii + spir, n)
        skd = keys[:size]
        yield dict(oldPRF=old, prf=new, encr=encr, keyBits=bits, integ=integ, ni=ni.hex(), nr=nr.hex(), shared=gir.hex(),
                   spii=spii.hex(), spir=spir.hex(), oldSKd=oldd.hex(), keys=keys.hex(), rekeyed=rekeyed.hex(),
                   resumed=plus(new, prf(new, oldd, b"Resumption" + ni + nr), ni + nr + spii + spir, n).hex(),
                   child=plus(new, skd, ni + nr, 200).hex(), childPFS=plus(new, skd, gir + ni + nr, 72).hex())


def auth():
    for h in HASHES:
        for n in (1, 63, 64, 65, 127, 128, 129, 200):
            s = lambda label, n: stream(f"auth {h} {n} {label}", n)
            psk, message, nonce, skp, body = s("psk", n), s("message", 300), s("nonce", 32), s("skp", 64), b"\x02\x00\x00\x07foo"
            key = prf(h, psk, b"Key Pad for IKEv2")
            yield dict(prf=h, psk=psk.hex(), initMessage=message.hex(), peerNonce=nonce.hex(), skp=skp.hex(), idBody=body.hex(),
                       auth=prf(h, key, message + nonce + prf(h, skp, body)).hex(),
                       resumeAuth=prf(h, skp, message + nonce + prf(h, skp, body)).hex())


def datagram(first, body):
    n = 28 + 4 + len(body)
    return stream("spi", 16) + bytes([46, 0x20, 35, 0x08]) + struct.pack(">II", 1, n) + bytes([first, 0]) + struct.pack(">H", n - 28)


def sealed():
    for encr, bits, keylen in ((20, 128, 20), (20, 192, 28), (20, 256, 36), (28, 0, 36)):
        for plain in (0, 1, 100):
            for pad in (0, 5, 255):
                key, iv, data = stream(f"key {encr} {bits}", keylen), stream("iv", 8), stream("plain", plain)
                head = datagram(41, bytes(8 + plain + pad + 1 + 16))
                a = ChaCha20Poly1305(key[:-4]) if encr == 28 else AESGCM(key[:-4])
                body = iv + a.encrypt(key[-4:] + iv, data + stream("pad", pad) + bytes([pad]), head)
                yield dict(encr=encr, keyBits=bits, integ=0, encrKey=key.hex(), integKey="", plain=data.hex(), datagram=(head + body).hex())
    for bits in (128, 192, 256):
        for integ, (h, icv) in INTEG.items():
            for plain in (0, 15, 16, 100):
                least = -(plain + 1) % 16
                for pad in (least, least + 16, least + 240):
                    key, iv, data = stream(f"key {bits}", bits // 8), stream("iv", 16), stream("plain", plain)
                    ikey = stream(f"ikey {integ}", hashlib.new(HASHES[h]).digest_size)
                    text = data + stream("pad", pad) + bytes([pad])
                    e = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
                    covered = datagram(41, bytes(16 + len(text) + icv)) + iv + e.update(text) + e.finalize()
                    yield dict(encr=12, keyBits=bits, integ=integ, encrKey=key.hex(), integKey=ikey.hex(), plain=data.hex(),
                               datagram=(covered + prf(h, ikey, covered)[:icv]).hex())


def nat():
    for address, port in (("c000020a", 500), ("ac100001", 4500), ("20010db8000000000000000000000001", 65535)):
        b = stream("nat", 16) + bytes.fromhex(address) + struct.pack(">H", port)
        yield dict(spii=b[:8].hex(), spir=b[8:16].hex(), address=address, port=port, hash=hashlib.sha1(b).hexdigest())


with open("independent.json", "w") as f:
    parts = dict(derive=derive(), auth=auth(), sealed=sealed(), nat=nat())
    f.write("{" + ",\n".join(f'"{k}":[\n' + ",\n".join(json.dumps(x, separators=(",", ":")) for x in v) + "]" for k, v in parts.items()) + "}\n")

"""Keys that sign: read from PEM, used on digests, and told to the world as a DNS record (RFC 6376 §3.6, RFC 8463).

In:   a domain, a selector, the text of a PEM file.
Out:  a SigningKey; the text of its record.
Never: raises anything but KeyTrouble, whatever the file holds; shows a part of a private key.
"""

from __future__ import annotations

import base64
import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from msgspec import Struct

from ekiden.auth.dkim.signature import key_name
from ekiden.dns.name import dns_name, host_name

RSA_BITS_MINIMUM = 1024  # RFC 8301 §3.2: signers MUST use at least that much
RSA_BITS_ADVISED = 2048  # the same: they SHOULD use at least that much
RSA_BITS_UNDERSTOOD = 4096  # verifiers need not be able to verify more (RFC 8301 §3.2)

RSA_SHA256, ED25519_SHA256 = "rsa-sha256", "ed25519-sha256"
ALGORITHMS = (RSA_SHA256, ED25519_SHA256)

_PEM_BYTES = 64 * 1024  # of a key of 16384 bits it is a fifth
_TXT_STRING_BYTES = 255  # RFC 1035 §3.3
_PADDING, _SHA256 = PKCS1v15(), Prehashed(hashes.SHA256())
# RFC 6376 §3.1   selector = sub-domain *( "." sub-domain )
_SELECTOR = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_RAW_ED25519 = re.compile(rb"\s*[A-Za-z0-9+/]{43}=\s*")


class KeyTrouble(ValueError):
    """No key, or one that must not sign; one line for the administrator."""


class SigningKey(Struct, frozen=True):
    domain: str  # d=, in A-labels and lower case
    selector: str  # s=
    algorithm: str  # one of ALGORITHMS
    private: RSAPrivateKey | Ed25519PrivateKey
    bits: int

    def __repr__(self) -> str:
        return f"<SigningKey {self.record_name} {self.algorithm}>"

    @property
    def record_name(self) -> str:
        """Where the record is to be found (RFC 6376 §3.6.2.1)."""
        return key_name(self.domain, self.selector)

    @property
    def record(self) -> str:
        """The text of the record."""
        return f"v=DKIM1; k={self.algorithm.removesuffix('-sha256')}; p={self.public_text}"

    @property
    def public_text(self) -> str:
        """p=: SubjectPublicKeyInfo for RSA (RFC 6376 §3.6.1), the 32 octets for Ed25519 (RFC 8463 §4)."""
        public = self.private.public_key()
        if self.algorithm == ED25519_SHA256:
            data = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        else:
            data = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(data).decode()

    @property
    def advice(self) -> str:
        """What should be better about the key; "" when nothing."""
        if self.algorithm == RSA_SHA256 and self.bits < RSA_BITS_ADVISED:
            return f"the RSA key has {self.bits} bits; signers should use at least {RSA_BITS_ADVISED} (RFC 8301 §3.2)"
        if self.bits > RSA_BITS_UNDERSTOOD:
            return f"the RSA key has {self.bits} bits; not all verifiers take more than {RSA_BITS_UNDERSTOOD}"
        return ""

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest. Ed25519 signs the digest as its message (RFC 8463 §3)."""
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(digest)
        return self.private.sign(digest, _PADDING, _SHA256)


def signing_key(domain: str, selector: str, pem: bytes) -> SigningKey:
    """``pem``: PKCS#1 or PKCS#8; or what dknewkey writes for Ed25519, the seed in base64. Raises KeyTrouble."""
    d = host_name(domain)
    if d is None:
        raise KeyTrouble(f"{domain[:80]!r} is not the name of a domain")
    s = selector_name(selector)
    if dns_name(key_name(d, s)) is None:
        raise KeyTrouble(f"selector and domain are too long for a name in DNS: {s}._domainkey.{d}")
    private = private_key(pem)
    if isinstance(private, Ed25519PrivateKey):
        return SigningKey(d, s, ED25519_SHA256, private, 256)
    return SigningKey(d, s, RSA_SHA256, private, private.key_size)


def selector_name(selector: str) -> str:
    """In A-labels and lower case. Raises KeyTrouble."""
    name = dns_name(selector)
    if not name or _SELECTOR.fullmatch(name) is None:
        raise KeyTrouble(f"{selector[:80]!r} is not a selector: letters, digits, hyphens and dots, as in a domain")
    return name


def private_key(pem: bytes) -> RSAPrivateKey | Ed25519PrivateKey:
    """Raises KeyTrouble."""
    if len(pem) > _PEM_BYTES:
        raise KeyTrouble("no private key: the file is too large")
    if _RAW_ED25519.fullmatch(pem):
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(pem.strip()))
    if b"-----BEGIN " not in pem:
        raise KeyTrouble("no private key in PEM form")
    if b"PRIVATE KEY-----" not in pem:
        raise KeyTrouble("no private key in it")
    if b"ENCRYPTED" in pem:
        raise KeyTrouble("the private key is protected by a password: a server has nobody to ask for it")
    try:
        # OpenSSL's own check of the numbers takes tens of milliseconds, in which no mail moves; see _prove.
        found = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyTrouble("the private key cannot be read: it is damaged or of a kind that is not known") from error
    if isinstance(found, Ed25519PrivateKey):
        return found
    if not isinstance(found, RSAPrivateKey):
        raise KeyTrouble("the private key is neither RSA nor Ed25519: DKIM has no other")
    if found.key_size < RSA_BITS_MINIMUM:
        raise KeyTrouble(f"the RSA key has {found.key_size} bits, and no verifier takes less than {RSA_BITS_MINIMUM}")
    _prove(found)
    return found


def _prove(key: RSAPrivateKey) -> None:
    """What it signs holds: wrong numbers in a key make signatures that fail, and can give the key away."""
    digest = bytes(32)
    try:
        key.public_key().verify(key.sign(digest, _PADDING, _SHA256), digest, _PADDING, _SHA256)
    except (InvalidSignature, ValueError) as error:
        raise KeyTrouble("the private key is damaged: what it signs does not verify") from error


def new_private_key(algorithm: str, *, bits: int = RSA_BITS_ADVISED) -> bytes:
    """A new key as PEM (PKCS#8). Raises KeyTrouble for an RSA key of too few bits."""
    if algorithm == ED25519_SHA256:
        made: RSAPrivateKey | Ed25519PrivateKey = Ed25519PrivateKey.generate()
    elif bits < RSA_BITS_MINIMUM:
        raise KeyTrouble(f"no verifier takes an RSA key of less than {RSA_BITS_MINIMUM} bits")
    else:
        made = generate_private_key(65537, bits)
    return made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def zone_lines(name: str, text: str) -> str:
    """A TXT record as zone files have it (RFC 1035 §5.1), its text in strings that are short enough."""
    strings = [text[at : at + _TXT_STRING_BYTES] for at in range(0, len(text), _TXT_STRING_BYTES)] or [""]
    quoted = ['"' + string.replace("\\", "\\\\").replace('"', '\\"') + '"' for string in strings]
    if len(quoted) == 1:
        return f"{name}. IN TXT {quoted[0]}\n"
    lines = "\n".join(f"    {string}" for string in quoted)
    return f"{name}. IN TXT (\n{lines} )\n"

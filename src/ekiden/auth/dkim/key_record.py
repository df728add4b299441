"""The public key of a selector, as its TXT record has it (RFC 6376 §3.6.1, RFC 8301 §3.2, RFC 8463 §4).

In:   the text of a TXT record; the signer that it is asked about.
Out:  a KeyRecord with the key loaded; whether the key may be used for what was signed, and if not, why.
Never: raises anything but KeyRecordError; loads a key twice that it has seen lately.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from msgspec import Struct

from ekiden.auth.tags import TagError, base64_value, list_value, parse_tags

RECORD_OCTETS_LIMIT = 8192  # an RSA key of 16384 bits takes a third of it
_KEYS_CACHED = 512
# An exponent as long as the key makes a check cost as much as a signature; those in use have 17 bits.
_EXPONENT_BITS_LIMIT = 64
_ED25519_OCTETS = 32
_ED25519_BITS = 256

# RFC 6376 §3.6.1: v= is the first tag where it is there at all.
_OURS = re.compile(rb"[ \t]*v[ \t]*=[ \t]*DKIM1[ \t]*(?:;|\Z)")
_PADDING, _SHA256 = PKCS1v15(), SHA256()
_DIGEST = Prehashed(_SHA256)


class KeyRecordError(ValueError):
    """A key record that breaks its grammar, or whose key is none."""


class NotKeyRecord(KeyRecordError):
    """A record that is about something else: as if it were not there."""


class KeyRecord(Struct, frozen=True):
    key_type: str = "rsa"  # k=
    rsa: RSAPublicKey | None = None  # neither of the two, and no bits: revoked (an empty p=)
    ed25519: Ed25519PublicKey | None = None
    bits: int = 0  # of the key
    hashes: tuple[str, ...] | None = None  # h=; None: all
    services: tuple[str, ...] = ("*",)  # s=
    testing: bool = False  # t=y
    strict: bool = False  # t=s: i= is d=, not below it

    @property
    def key(self) -> RSAPublicKey | Ed25519PublicKey | None:
        return self.ed25519 if self.rsa is None else self.rsa

    def unfit(self, key_type: str, hash_name: str, *, is_below: bool) -> str:
        """Why this key is not for signatures made so (RFC 6376 §6.1.2), "" where it is.

        ``is_below``: for an identity (i=) in a domain below that which signs.
        """
        if not self.bits:
            return "the key is revoked"
        if self.key_type != key_type:
            return f"the key is for {self.key_type}, the signature for {key_type}"
        if self.hashes is not None and hash_name not in self.hashes:
            return f"the key is not for {hash_name} (h=)"
        if "*" not in self.services and "email" not in self.services:
            return "the key is not for mail (s=)"
        if self.strict and is_below:
            return "the key is for its own domain only (t=s), and i= names one below"
        return ""

    def holds(self, signature: bytes, digest: bytes) -> bool:
        """``signature`` is that of a SHA-256 ``digest`` (RFC 6376 §3.3.2, RFC 8463 §3)."""
        try:
            if self.rsa is not None:
                self.rsa.verify(signature, digest, _PADDING, _DIGEST)
            elif self.ed25519 is not None:
                self.ed25519.verify(signature, digest)
            else:
                return False
        except (InvalidSignature, ValueError):
            return False
        return True

    def made(self, signature: bytes) -> bool | None:
        """The key did sign something with it; None where that cannot be told (Ed25519)."""
        if self.rsa is None:
            return None
        try:
            self.rsa.recover_data_from_signature(signature, _PADDING, _SHA256)
        except (InvalidSignature, ValueError):
            return False
        return True


def parse_key_record(text: bytes) -> KeyRecord:
    """Raises KeyRecordError; NotKeyRecord for what was never meant as one."""
    if len(text) > RECORD_OCTETS_LIMIT:
        raise KeyRecordError("the key record is too long")
    found = _parsed(text)
    if isinstance(found, KeyRecord):
        return found
    raise (NotKeyRecord if found.foreign else KeyRecordError)(found.reason)


class _Broken(Struct, frozen=True):
    reason: str
    foreign: bool


@lru_cache(maxsize=_KEYS_CACHED)
def _parsed(text: bytes) -> KeyRecord | _Broken:
    ours = _OURS.match(text) is not None
    try:
        tags = parse_tags(text)
    except TagError as error:
        return _Broken(f"the key record is broken: {error}", not ours)
    if not ours and ("p" not in tags or next(iter(tags)) == "v"):
        return _Broken("the record is not about a key", True)
    if not ours and "v" in tags:
        return _Broken("the key record is broken: v= is not its first tag", False)
    try:
        return _record(tags)
    except TagError as error:
        return _Broken(f"the key record is broken: {error}", False)


def _record(tags: dict[str, str]) -> KeyRecord:
    """Raises TagError."""
    key_type = tags.get("k", "rsa")
    if key_type not in ("rsa", "ed25519"):
        raise TagError(f"key type {key_type[:20]!r} is not known")
    octets = base64_value(tags, "p")
    flags = list_value(tags.get("t", ""))
    rsa, ed25519, bits = None, None, 0
    if octets and key_type == "ed25519":
        ed25519, bits = _ed25519_key(octets), _ED25519_BITS
    elif octets:
        rsa = _rsa_key(octets)
        bits = rsa.key_size
    return KeyRecord(
        key_type,
        rsa,
        ed25519,
        bits,
        list_value(tags["h"]) if "h" in tags else None,
        list_value(tags.get("s", "*")),
        "y" in flags,
        "s" in flags,
    )


def _ed25519_key(octets: bytes) -> Ed25519PublicKey:
    if len(octets) != _ED25519_OCTETS:
        raise TagError("p= is not an Ed25519 key")
    return Ed25519PublicKey.from_public_bytes(octets)


def _rsa_key(octets: bytes) -> RSAPublicKey:
    """SubjectPublicKeyInfo, or the bare RSAPublicKey that RFC 6376 §3.6.1 names."""
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise TagError("p= is not an RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise TagError("p= is not an RSA key")
    if key.public_numbers().e.bit_length() > _EXPONENT_BITS_LIMIT:
        raise TagError("p= is an RSA key with a giant exponent")
    return key

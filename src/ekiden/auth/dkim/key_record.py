"""The public key of a selector, as its TXT record has it (RFC 6376 §3.6.1, RFC 8301 §3.2, RFC 8463 §4).

In:   the text of a TXT record; the signature that it is asked about.
Out:  a KeyRecord with the key loaded; whether the key may be used for the signature, and if not, why.
Never: raises anything but KeyRecordError; loads a key twice that it has seen lately.
"""

from __future__ import annotations

import hashlib
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

from ekiden.auth.dkim.signature import Signature
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
    key: RSAPublicKey | Ed25519PublicKey | None  # None: revoked (an empty p=)
    key_type: str = "rsa"  # k=
    bits: int = 0
    hashes: tuple[str, ...] | None = None  # h=; None: all
    services: tuple[str, ...] = ("*",)  # s=
    testing: bool = False  # t=y
    strict: bool = False  # t=s: i= is d=, not below it

    def unfit(self, signature: Signature) -> str:
        """Why this key is not for ``signature`` (RFC 6376 §6.1.2), "" where it is."""
        if self.key is None:
            return "the key is revoked"
        if self.key_type != signature.key_type:
            return f"the key is for {self.key_type}, the signature for {signature.key_type}"
        if self.hashes is not None and signature.hash_name not in self.hashes:
            return f"the key is not for {signature.hash_name} (h=)"
        if "*" not in self.services and "email" not in self.services:
            return "the key is not for mail (s=)"
        if self.strict and signature.identity_domain != signature.domain:
            return "the key is for its own domain only (t=s), and i= names one below"
        return ""

    def holds(self, signature: bytes, data: bytes) -> bool:
        """``signature`` is that of SHA-256 over ``data`` (RFC 6376 §3.3.2, RFC 8463 §3)."""
        return self.holds_digest(signature, hashlib.sha256(data).digest())

    def holds_digest(self, signature: bytes, digest: bytes) -> bool:
        """``digest`` is of SHA-256."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, _PADDING, _DIGEST)
            elif self.key is not None:
                self.key.verify(signature, digest)
            else:
                return False
        except (InvalidSignature, ValueError):
            return False
        return True

    def made(self, signature: bytes) -> bool | None:
        """The key did sign something with it; None where that cannot be told (Ed25519)."""
        if not isinstance(self.key, RSAPublicKey):
            return None
        try:
            self.key.recover_data_from_signature(signature, _PADDING, _SHA256)
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
    key: RSAPublicKey | Ed25519PublicKey | None = None
    bits = 0
    if octets and key_type == "ed25519":
        key, bits = _ed25519_key(octets), _ED25519_BITS
    elif octets:
        key = _rsa_key(octets)
        bits = key.key_size
    return KeyRecord(
        key,
        key_type,
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

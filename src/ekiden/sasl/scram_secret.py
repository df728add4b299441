"""What a server keeps for SCRAM in place of a password (RFC 5802 §3, RFC 7677), and its text form (RFC 5803 §3).

    SCRAM-SHA-256$10000:BASE64(salt)$BASE64(StoredKey):BASE64(ServerKey)

Deriving takes as long as the count says: call it from a thread.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from types import MappingProxyType

from msgspec import Struct

from ekiden.sasl.accounts import HashName, ScramPair

MINIMUM_ITERATIONS = 4096  # RFC 7677 §4
MAXIMUM_ITERATIONS = 10_000_000
_NAMES: MappingProxyType[str, HashName] = MappingProxyType({"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"})
_LABELS = MappingProxyType({name: label for label, name in _NAMES.items()})
_SIZES = MappingProxyType({"sha1": 20, "sha256": 32})
_BASE64 = r"([A-Za-z0-9+/]{4,200}={0,2})"
_TEXT = re.compile(rf"(SCRAM-SHA-1|SCRAM-SHA-256)\$([0-9]{{1,8}}):{_BASE64}\$({_BASE64[1:-1]}):({_BASE64[1:-1]})")


class ScramSecret(Struct, frozen=True):
    hash_name: HashName
    salt: bytes
    iterations: int
    pair: ScramPair

    def __repr__(self) -> str:
        return "ScramSecret(***)"

    def fits(self, password: str) -> bool:
        """Whether it is of this (prepared) password."""
        other = derive(self.hash_name, password, self.salt, self.iterations)
        return hmac.compare_digest(other.pair.stored_key, self.pair.stored_key)

    @property
    def text(self) -> str:
        salt, stored, server = (
            base64.b64encode(part).decode("ascii") for part in (self.salt, self.pair.stored_key, self.pair.server_key)
        )
        return f"{_LABELS[self.hash_name]}${self.iterations}:{salt}${stored}:{server}"


def derive(hash_name: HashName, password: str, salt: bytes, iterations: int) -> ScramSecret:
    """Of a password that saslprep has prepared."""
    salted = hashlib.pbkdf2_hmac(hash_name, password.encode("utf-8", "surrogateescape"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return ScramSecret(
        hash_name, salt, iterations, ScramPair(stored_key, hmac.digest(salted, b"Server Key", hash_name))
    )


def parse_secret(text: str) -> ScramSecret:
    """Raises ValueError, which does not show the text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError("not a SCRAM verifier")
    hash_name = _NAMES[found[1]]
    try:
        salt, stored, server = (base64.b64decode(part, validate=True) for part in found.groups()[2:])
    except binascii.Error:
        raise ValueError("not base64 in a SCRAM verifier") from None
    return secret_of(hash_name, int(found[2]), salt, stored, server)


def secret_of(hash_name: HashName, iterations: int, salt: bytes, stored_key: bytes, server_key: bytes) -> ScramSecret:
    """Raises ValueError for what cannot be right."""
    size = _SIZES[hash_name]
    if len(stored_key) != size or len(server_key) != size or not salt:
        raise ValueError("a SCRAM verifier of the wrong length")
    if not MINIMUM_ITERATIONS <= iterations <= MAXIMUM_ITERATIONS:
        raise ValueError(f"a SCRAM count that is not from {MINIMUM_ITERATIONS} to {MAXIMUM_ITERATIONS}")
    return ScramSecret(hash_name, salt, iterations, ScramPair(stored_key, server_key))

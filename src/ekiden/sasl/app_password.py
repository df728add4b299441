"""Passwords for one program each: made by us, shown once, revoked one by one.

They are random (94 bits), so nothing is gained by hashing them slowly; a salted SHA-256 keeps them out of the file, and
an account may have many without each login costing an argon2 run for each.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from msgspec import Struct

_ALPHABET = "abcdefghijkmnopqrstuvwxyz"  # without l
_LETTERS, _GROUP = 20, 5
_STORED = re.compile(r"sha256\$([0-9a-f]{32})\$([0-9a-f]{64})")


class AppPassword(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``scram`` are verifiers of the password as it was shown (sasl.scram_secret)."""

    name: str
    created: str  # the day, as 2026-11-29
    digest: str
    scram: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"AppPassword({self.name!r}, created={self.created!r}, ***)"

    def fits(self, password: str) -> bool:
        """People type it with or without the dashes, in capitals, with blanks."""
        found = _STORED.fullmatch(self.digest)
        return found is not None and hmac.compare_digest(_digest(bytes.fromhex(found[1]), password), found[2])


def new_app_password() -> str:
    """As it is shown: ``abcde-fghij-kmnop-qrstu``."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    return "-".join(letters[at : at + _GROUP] for at in range(0, _LETTERS, _GROUP))


def stored_digest(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"sha256${salt.hex()}${_digest(salt, password)}"


def is_stored_digest(text: str) -> bool:
    return _STORED.fullmatch(text) is not None


def _digest(salt: bytes, password: str) -> str:
    plain = re.sub(r"[\s-]", "", password).lower()
    return hashlib.sha256(salt + plain.encode("utf-8", "surrogateescape")).hexdigest()

"""Stored passwords in the forms that mail systems have them: ``{SCHEME}text``, crypt(5) and SCRAM verifiers.

In:   the text of a passwd-style file, a directory or a table; the schemes that are allowed.
Out:  StoredPassword, whose ``fits`` takes its time: call it from a thread.
Never: shows the text in an error, compares in a time that depends on the password.

Old hashes need libraries that are no part of the core: ``pip install 'ekiden[legacy-hashes]'``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import verify_secret
from msgspec import Struct

from ekiden.config.parameters.accounts import SCHEMES
from ekiden.sasl.scram_secret import ScramSecret, parse_secret, secret_of

# One who can write a hash must not be able to stop the server with it.
_ARGON2_MEMORY_KIB = 1_048_576
_ARGON2_TIME = 100
_CRYPT_ROUNDS = 2_000_000
_BCRYPT_ROUNDS = 16
_TEXT_LIMIT = 4096
_BCRYPT_BYTES = 72  # the rest of a password never counted

# Parameters of RFC 9106 §4, the second recommended choice: 64 MiB, 3 passes, 4 lanes.
_hasher = PasswordHasher()

Check = Callable[[bytes], bool]


class SchemeTrouble(ValueError):
    """A stored password that cannot be used; the text does not show it."""


class StoredPassword(Struct, frozen=True):
    """``scram`` where it is a SCRAM verifier; ``plain`` where the password itself is stored."""

    scheme: str
    check: Check
    scram: ScramSecret | None = None
    plain: str | None = None

    def __repr__(self) -> str:
        return f"StoredPassword({self.scheme})"

    def fits(self, password: str) -> bool:
        """Raises SchemeTrouble where only the check shows that the text is no hash."""
        data = password.encode("utf-8", "surrogateescape")
        return b"\0" not in data and self.check(data)


def new_hash(password: str) -> str:
    """argon2id of a password, with a salt of its own."""
    return _hasher.hash(password.encode("utf-8", "surrogateescape"))


# Of no password: what an account that does not exist is checked against, so that it takes as long as one that does.
DUMMY = "$argon2id$v=19$m=65536,t=3,p=4$" + "A" * 22 + "$" + "A" * 43


def never(_password: bytes) -> bool:
    return False


def parse_stored(text: str, allowed: Collection[str] = SCHEMES) -> StoredPassword:
    """The stored password of a text. Raises SchemeTrouble.

    One that is empty or locked (``*``, ``!...``) fits nothing.
    """
    if len(text) > _TEXT_LIMIT:
        raise SchemeTrouble(f"a stored password of {len(text)} characters")
    text = text.strip()
    name, body = _split(text)
    if not body or body[0] in "*!":
        return StoredPassword("locked", never)
    scheme = _ALIASES.get(name, name) if name else "crypt"
    if scheme == "crypt":
        scheme = _crypt_scheme(body)
    if scheme not in SCHEMES:
        raise SchemeTrouble(f"the password scheme {scheme[:30]!r} is not known")
    if scheme not in allowed:
        raise SchemeTrouble(f"the password scheme {scheme} is not among sasl_password_schemes")
    return _parse(scheme, name, body)


def _split(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"\{([A-Za-z0-9.-]{1,30})\}(.*)", text, re.DOTALL)
    return (found[1].lower(), found[2]) if found else ("", text)


_ALIASES = MappingProxyType({
    "blf-crypt": "bcrypt", "bcrypt": "bcrypt", "sha1": "sha", "clear": "plain", "cleartext": "plain",
    "ssha1": "ssha", "ldap-md5": "md5", "smd5": "smd5",
    **{f"{name}.b64": name for name in ("sha", "sha256", "sha512", "ssha", "ssha256", "ssha512")},
    **{f"{name}.hex": name for name in ("sha", "sha256", "sha512", "ssha", "ssha256", "ssha512")},
})  # fmt: skip


def _crypt_scheme(text: str) -> str:
    """By the prefixes of crypt(5)."""
    for prefix, scheme in (
        ("$argon2id$", "argon2id"), ("$argon2i$", "argon2i"), ("$2a$", "bcrypt"), ("$2b$", "bcrypt"),
        ("$2y$", "bcrypt"), ("$5$", "sha256-crypt"), ("$6$", "sha512-crypt"), ("$1$", "md5-crypt"),
        ("SCRAM-SHA-256$", "scram-sha-256"), ("SCRAM-SHA-1$", "scram-sha-1"),
    ):  # fmt: skip
        if text.startswith(prefix):
            return scheme
    if text.startswith("$"):
        raise SchemeTrouble(f"hashes that begin with ${text[1:].partition('$')[0][:10]}$ are not known")
    if re.fullmatch(r"[./0-9A-Za-z]{13}", text):
        return "des-crypt"
    raise SchemeTrouble(
        "a password that is neither {SCHEME}... nor a hash of crypt(5); write {PLAIN} before a plain one"
    )


def _parse(scheme: str, name: str, body: str) -> StoredPassword:
    if scheme in ("argon2id", "argon2i"):
        return StoredPassword(scheme, _argon2(scheme, body))
    if scheme in _CRYPTS:
        return StoredPassword(scheme, _CRYPTS[scheme](body))
    if scheme in ("scram-sha-256", "scram-sha-1"):
        return _scram(scheme, body)
    if scheme == "plain":
        wanted = body.encode("utf-8", "surrogateescape")
        return StoredPassword(scheme, lambda data: hmac.compare_digest(data, wanted), plain=body)
    return StoredPassword(scheme, _digest(scheme, body, hexadecimal=name.endswith(".hex")))


def _argon2(scheme: str, text: str) -> Check:
    try:
        cost = extract_parameters(text)
    except (InvalidHashError, ValueError):
        raise SchemeTrouble(f"a hash of {scheme} that cannot be read") from None
    kind = {"argon2id": Type.ID, "argon2i": Type.I}[scheme]
    if cost.type is not kind or cost.memory_cost > _ARGON2_MEMORY_KIB or cost.time_cost > _ARGON2_TIME:
        raise SchemeTrouble(f"a hash of {scheme} whose cost is out of bounds")
    encoded = text.encode("ascii", "replace")

    def check(data: bytes) -> bool:
        try:
            return verify_secret(encoded, data, kind)
        except Argon2Error:  # VerifyMismatchError among them
            return False

    return check


def _digest(scheme: str, body: str, *, hexadecimal: bool) -> Check:
    """RFC 2307 §5.3: the digest, with ``s`` in front the digest of password and salt, and the salt."""
    salted = scheme.startswith("ssha")
    algorithm = {"": "sha1", "256": "sha256", "512": "sha512"}[scheme.removeprefix("s" if salted else "")[3:]]
    try:
        raw = bytes.fromhex(body) if hexadecimal else base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise SchemeTrouble(f"a hash of {scheme} that is not {'hexadecimal' if hexadecimal else 'base64'}") from None
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    wanted, salt = raw[:size], raw[size:]
    if len(wanted) < size or bool(salt) is not salted:
        raise SchemeTrouble(f"a hash of {scheme} of the wrong length")
    return lambda data: hmac.compare_digest(hashlib.new(algorithm, data + salt).digest(), wanted)


def _scram(scheme: str, body: str) -> StoredPassword:
    """Ours (RFC 5803), or Dovecot's: ``{SCRAM-SHA-256}4096,salt,stored,server``."""
    label = scheme.upper()
    try:
        if body.startswith(f"{label}$"):
            secret = parse_secret(body)
        else:
            count, *parts = body.split(",")
            salt, stored, server = (base64.b64decode(part, validate=True) for part in parts)
            hash_name = "sha1" if label == "SCRAM-SHA-1" else "sha256"
            secret = secret_of(hash_name, int(count), salt, stored, server)  # type: ignore[arg-type]
    except (ValueError, binascii.Error):
        raise SchemeTrouble(f"a {label} verifier that cannot be read") from None
    return StoredPassword(scheme, lambda data: secret.fits(data.decode("utf-8", "surrogateescape")), scram=secret)


# --- crypt(5): libpass and bcrypt


def _bcrypt(text: str) -> Check:
    found = re.fullmatch(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", text)
    if found is None or not 4 <= int(found[1]) <= _BCRYPT_ROUNDS:
        raise SchemeTrouble("a hash of bcrypt that cannot be read, or whose cost is out of bounds")
    try:
        import bcrypt
    except ImportError:
        raise _missing("bcrypt") from None
    # $2y$ is the same as $2b$ (crypt(5)).
    encoded = ("$2b$" + text[4:]).encode("ascii")
    return lambda data: bcrypt.checkpw(data[:_BCRYPT_BYTES], encoded)


def _sha_crypt(scheme: str, pattern: str) -> Callable[[str], Check]:
    compiled = re.compile(pattern)

    def parse(text: str) -> Check:
        found = compiled.fullmatch(text)
        if found is None or (found.groups() and found[1] is not None and int(found[1]) > _CRYPT_ROUNDS):
            raise SchemeTrouble(f"a hash of {scheme} that cannot be read, or whose cost is out of bounds")
        try:
            from passlib import hash as hashes
        except ImportError:
            raise _missing(scheme) from None
        handler = getattr(hashes, scheme.replace("-", "_"))

        def check(data: bytes) -> bool:
            try:
                return bool(handler.verify(data, text))
            except ValueError as error:
                raise SchemeTrouble(f"a hash of {scheme} that cannot be read") from error

        return check

    return parse


_ROUNDS = r"(?:rounds=([0-9]{1,9})\$)?"
_CHARS = "[./0-9A-Za-z]"

_CRYPTS: Mapping[str, Callable[[str], Check]] = MappingProxyType({
    "bcrypt": _bcrypt,
    "sha512-crypt": _sha_crypt("sha512-crypt", rf"\$6\${_ROUNDS}{_CHARS}{{0,16}}\${_CHARS}{{86}}"),
    "sha256-crypt": _sha_crypt("sha256-crypt", rf"\$5\${_ROUNDS}{_CHARS}{{0,16}}\${_CHARS}{{43}}"),
    "md5-crypt": _sha_crypt("md5-crypt", rf"\$1\${_CHARS}{{0,8}}\${_CHARS}{{22}}"),
    "des-crypt": _sha_crypt("des-crypt", rf"{_CHARS}{{13}}"),
})  # fmt: skip


def _missing(scheme: str) -> SchemeTrouble:
    return SchemeTrouble(f"hashes of {scheme} need a library that is not there: pip install 'ekiden[legacy-hashes]'")

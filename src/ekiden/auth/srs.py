"""The Sender Rewriting Scheme: an envelope sender of our own for mail that is forwarded, and the way back from it.

The next host checks whether we may send for the domain of the envelope sender (RFC 7208 §2.4). For somebody else's
domain we may not, so forwarded mail leaves with an address of ours that holds the sender's:

    SRS0=HHHH=TT=host=user@forwarder                      of user@host
    SRS1=HHHH=first=<what followed "SRS0">@forwarder      of SRS0=...@first, and of SRS1=...=first=...@second

No RFC has it. This is Shevek's scheme as libsrs2, postsrsd and pysrs speak it, so that hosts which share a secret take
each other's addresses. HHHH begins the base64 of an HMAC-SHA1 over what follows, in lower case and without separators;
TT is the day, modulo 1024, as two digits to the base 32. Hosts on the way may change the case of a local part
(against RFC 5321 §2.4), so nothing here depends on it.

In:   an address, secrets, the time.
Out:  an address; or SrsError, which says in plain words what is wrong.
Never: keeps anything; signs an address that reverse() would not give back; compares hashes in a time that tells them.
"""

from __future__ import annotations

import base64
import enum
import hmac
import re
from collections.abc import Sequence

from ekiden.dns.name import dns_name
from ekiden.message.address import Address

LOCAL_OCTETS = 64  # RFC 5321 §4.5.3.1.1: what every host must take; some take no more
HASH_LENGTH = 4
# Base64 of the 20 octets of SHA-1, without its padding.
HASH_LENGTH_LIMIT = 27
SEPARATORS = "=+-"
# Days are counted modulo 1024; one of them is for hosts whose clocks are ahead of ours.
DAYS = 1024
MAX_AGE_LIMIT = DAYS - 2

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DAY_S = 86400
_SRS = re.compile(r"SRS([01])([=+-])", re.IGNORECASE | re.ASCII)
_LITERAL = re.compile(r"\[[0-9A-Fa-f:.IPv]+\]")


class SrsFlaw(enum.Enum):
    NOT_SRS = "no SRS address"
    MALFORMED = "malformed SRS address"
    FORGED = "SRS address with a wrong hash"
    EXPIRED = "SRS address has expired"
    UNUSABLE = "no address that SRS can hold"
    TOO_LONG = "local part would be too long"


class SrsError(ValueError):
    """An address that cannot be rewritten, or is none of ours. The text repeats nothing of it."""

    def __init__(self, flaw: SrsFlaw, detail: str = "") -> None:
        super().__init__(f"{flaw.value}{detail}")
        self.flaw = flaw


# Whether a local part looks like one of this scheme, whoever made it: then it is a match, as nearly none is.
is_srs = _SRS.match


class Srs:
    """The first of ``secrets`` signs, all of them verify: an old one stays behind the new one until its mail is old.

    ``max_age_days`` counts whole days. A hash of at least ``hash_minimum`` characters is taken. ``local_limit`` is in
    octets; 0: none.
    """

    __slots__ = ("_hash_length", "_hash_minimum", "_local_limit", "_max_age", "_secrets", "_separator", "domain")

    def __init__(
        self,
        secrets: Sequence[bytes],
        domain: str,
        *,
        max_age_days: int = 21,
        hash_length: int = HASH_LENGTH,
        hash_minimum: int = HASH_LENGTH,
        separator: str = "=",
        local_limit: int = LOCAL_OCTETS,
    ) -> None:
        """Raises ValueError for what cannot work."""
        if not secrets or not all(secrets):
            raise ValueError("SRS needs a secret that is not empty")
        if not 1 <= hash_minimum <= hash_length <= HASH_LENGTH_LIMIT:
            raise ValueError(f"lengths of SRS hashes must be 1 <= minimum <= length <= {HASH_LENGTH_LIMIT}")
        if separator not in SEPARATORS or len(separator) != 1:
            raise ValueError(f"the separator of SRS is one of {' '.join(SEPARATORS)}")
        if not 0 <= max_age_days <= MAX_AGE_LIMIT:
            raise ValueError(f"the age of SRS addresses is between 0 and {MAX_AGE_LIMIT} days")
        self._secrets = tuple(secrets)
        self.domain = domain
        self._max_age = max_age_days
        self._hash_length = hash_length
        self._hash_minimum = hash_minimum
        self._separator = separator
        self._local_limit = local_limit

    def forward(self, sender: Address, now: float) -> Address:
        """The sender of forwarded mail. The null sender and addresses of ``domain`` stay. Raises SrsError."""
        if sender.is_null or sender.domain.lower() == self.domain.lower():
            return sender
        host = _host(sender.domain)
        if host is None:
            raise SrsError(SrsFlaw.UNUSABLE)
        found = _SRS.match(sender.local)
        if found is not None and (chain := _chain(sender.local, found, host)) is not None:
            first, opaque = chain
            local = f"SRS1{self._separator}{self._hash(self._secrets[0], first, opaque)}={first}={opaque}"
        else:
            stamp = _stamp(now)
            hashed = self._hash(self._secrets[0], stamp, host, sender.local)
            local = f"SRS0{self._separator}{hashed}={stamp}={host}={sender.local}"
        octets = len(local.encode("utf-8", "surrogateescape"))
        if self._local_limit and octets > self._local_limit:
            raise SrsError(SrsFlaw.TOO_LONG, f" ({octets} octets, the limit is {self._local_limit})")
        return Address(local, self.domain)

    def reverse(self, recipient: Address, now: float) -> Address:
        """Whom an address of ours stands for; its domain has been looked at before. Raises SrsError."""
        found = _SRS.match(recipient.local)
        if found is None:
            raise SrsError(SrsFlaw.NOT_SRS)
        rest = recipient.local[found.end() :]
        return self._reverse0(rest, now) if found[1] == "0" else self._reverse1(rest)

    def _reverse0(self, rest: str, now: float) -> Address:
        parts = rest.split("=", 3)
        if len(parts) != 4:
            raise SrsError(SrsFlaw.MALFORMED)
        hashed, stamp, host, user = parts
        self._verify(hashed, stamp, host, user)
        day = _day(stamp)
        if day is None or not _is_host(host):
            raise SrsError(SrsFlaw.MALFORMED)
        age = (int(now // _DAY_S) - day) % DAYS
        if age > self._max_age and age != DAYS - 1:
            raise SrsError(SrsFlaw.EXPIRED, f" ({age} days old, the limit is {self._max_age})")
        return Address(user, host)

    def _reverse1(self, rest: str) -> Address:
        # How old it may be is for the first host to say, whose SRS0 address this gives back.
        parts = rest.split("=", 2)
        if len(parts) != 3:
            raise SrsError(SrsFlaw.MALFORMED)
        hashed, host, opaque = parts
        self._verify(hashed, host, opaque)
        if not _is_host(host) or opaque[:1] not in tuple(SEPARATORS):
            raise SrsError(SrsFlaw.MALFORMED)
        return Address(f"SRS0{opaque}", host)

    def _verify(self, given: str, *parts: str) -> None:
        if not self._hash_minimum <= len(given) <= HASH_LENGTH_LIMIT:
            raise SrsError(SrsFlaw.FORGED)
        asked = given.encode("utf-8", "surrogateescape").lower()
        valid = False
        for secret in self._secrets:
            wanted = _digest(secret, parts)[: len(given)].lower()
            valid |= hmac.compare_digest(wanted, asked)
        if not valid:
            raise SrsError(SrsFlaw.FORGED)

    def _hash(self, secret: bytes, *parts: str) -> str:
        return _digest(secret, parts)[: self._hash_length].decode("ascii")


def _digest(secret: bytes, parts: Sequence[str]) -> bytes:
    # bytes.lower() knows ASCII only, as the C programs do.
    text = "".join(parts).encode("utf-8", "surrogateescape").lower()
    return base64.b64encode(hmac.digest(secret, text, "sha1"))


def _chain(local: str, found: re.Match[str], host: str) -> tuple[str, str] | None:
    """The first forwarder and what it put behind "SRS0"; None when a local part only looks like SRS1."""
    if found[1] == "0":
        return host, local[found.end() - 1 :]
    parts = local[found.end() :].split("=", 2)
    if len(parts) != 3 or not _is_host(parts[1]) or parts[2][:1] not in tuple(SEPARATORS):
        return None
    return parts[1], parts[2]


def _host(domain: str) -> str | None:
    """A domain as an address may hold it: A-labels make an address of ASCII where the local part is ASCII."""
    if domain.isascii():
        return domain if _is_host(domain) else None
    return dns_name(domain)


def _is_host(domain: str) -> bool:
    if "=" in domain or "@" in domain:
        return False
    return bool(dns_name(domain)) or _LITERAL.fullmatch(domain) is not None


def _stamp(now: float) -> str:
    day = int(now // _DAY_S) % DAYS
    return _DIGITS[day >> 5] + _DIGITS[day & 31]


def _day(stamp: str) -> int | None:
    if len(stamp) != 2:
        return None
    high, low = (_DIGITS.find(char) for char in stamp.upper())
    return None if high < 0 or low < 0 else high << 5 | low

"""dkimpy as the judge of signatures, and a world of its keys in DNS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dkim

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import SigningKey
from ekiden.auth.dkim.sign import DEFAULT_OPTIONS, DkimSigning, SigningOptions

NOW = 1_790_000_000.0


def records(*keys: SigningKey) -> dict[str, str]:
    return {key.record_name: key.record for key in keys}


def signed(
    header: bytes,
    body: bytes,
    keys: Sequence[SigningKey],
    options: SigningOptions = DEFAULT_OPTIONS,
    *,
    now: float = NOW,
    chunk: int = 0,
) -> bytes:
    """The fields that we make for a message."""
    hashes = BodyHashes()
    signing = DkimSigning(header, hashes, keys, now=now, options=options)
    for at in range(0, len(body), chunk or max(1, len(body))):
        hashes.feed(body[at : at + (chunk or len(body))])
    hashes.finish()
    return signing.fields()


def verifies(message: bytes, dns: Mapping[str, str], *, index: int = 0) -> bool:
    """Whether dkimpy takes a signature, the topmost or a later one. Raises its ValidationError for a malformed one."""

    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        record = dns.get(name.decode().rstrip("."))
        return None if record is None else record.encode()

    return bool(dkim.DKIM(message).verify(index, dnsfunc=txt))

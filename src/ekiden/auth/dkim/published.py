"""Whether the DNS says of a signing key what it should, for those who set it up (RFC 6376 §3.6)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from msgspec import Struct

from ekiden.auth.dkim.key_record import KeyRecord, KeyRecordError, parse_key_record
from ekiden.auth.dkim.keys import SigningKey
from ekiden.dns.resolver import DnsTrouble, Resolver


class Published(enum.Enum):
    RIGHT = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # the DNS did not answer


class Finding(Struct, frozen=True):
    state: Published
    text: str = ""  # why, for people; also what is noteworthy about a record that is right


async def look(resolver: Resolver, key: SigningKey) -> Finding:
    try:
        answer = await resolver.txt(key.record_name)
    except DnsTrouble as trouble:
        return Finding(Published.UNKNOWN, str(trouble))
    return compare(key, answer.records)


def compare(key: SigningKey, texts: Sequence[bytes]) -> Finding:
    """``texts``: the TXT records of key.record_name."""
    if not texts:
        return Finding(Published.MISSING, "there is no TXT record of this name")
    if len(texts) > 1:
        return Finding(Published.WRONG, f"{len(texts)} TXT records have this name, of which verifiers take any one")
    try:
        record = parse_key_record(texts[0])
    except KeyRecordError as error:
        return Finding(Published.WRONG, str(error))
    if record.key is None:
        return Finding(Published.WRONG, "the key is revoked: p= is empty")
    if record.key != key.private.public_key():
        return Finding(Published.WRONG, "p= is that of another key")
    if record.hashes is not None and "sha256" not in record.hashes:
        return Finding(Published.WRONG, "h= does not let sha256 be used")
    if "*" not in record.services and "email" not in record.services:
        return Finding(Published.WRONG, "s= does not let the key be used for mail")
    return Finding(Published.RIGHT, _note(record))


def _note(record: KeyRecord) -> str:
    return "t=y: the domain is only testing, and verifiers may pass over its signatures" if record.testing else ""

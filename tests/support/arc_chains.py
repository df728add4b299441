"""Messages with ARC chains of our making, and what is found of them."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from ekiden.auth.arc.seal import ArcSealing
from ekiden.auth.arc.verify import ArcVerification
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import SigningKey, new_private_key, signing_key
from ekiden.auth.verdict import ArcVerdict
from support.fake_resolver import FakeResolver, Zone

NOW = 1_700_000_000.0


@lru_cache
def pem(algorithm: str) -> bytes:
    return new_private_key(algorithm, bits=1024)


def key(domain: str, algorithm: str = "rsa-sha256") -> SigningKey:
    return signing_key(domain, "s", pem(algorithm))


def zone(*keys: SigningKey) -> dict[tuple[str, str], object]:
    return {("TXT", one.record_name): [one.record.encode()] for one in keys}


def divided(message: bytes) -> tuple[bytes, bytes]:
    """The header without the empty line, the body; a message may lack either."""
    if message.startswith(b"\r\n"):
        return b"", message[2:]
    header, empty, body = message.partition(b"\r\n\r\n")
    return (header + b"\r\n" if empty else header), body


def verified(message: bytes, records: Zone, now: float = NOW) -> ArcVerdict:
    async def verdict() -> ArcVerdict:
        header, body = divided(message)
        hashes = BodyHashes()
        verification = ArcVerification(header, hashes, resolver=FakeResolver(records), now=now)
        verification.start()
        hashes.feed(body)
        hashes.finish()
        return await verification.verdict()

    return asyncio.run(verdict())


def sealed(message: bytes, by: SigningKey, chain: ArcVerdict, results: str) -> bytes:
    header, body = divided(message)
    hashes = BodyHashes()
    sealing = ArcSealing(header, hashes, by, authserv_id=f"mx.{by.domain}", now=NOW)
    hashes.feed(body)
    hashes.finish()
    return sealing.fields(chain, results) + message

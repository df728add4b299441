"""A message that its author's domain signs, and the zone that has the key: for tests of what checks find."""

from __future__ import annotations

from functools import cache

from ekiden.auth.arc.seal import ArcSealing
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import SigningKey, new_private_key, signing_key
from ekiden.auth.dkim.sign import DkimSigning, SigningOptions
from ekiden.auth.verdict import ArcVerdict, Result

HEADER = b"From: A <a@a.test>\r\nTo: b@b.test\r\nSubject: hello\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n"
BODY = b"One line.\r\nAnother.\r\n"


@cache
def key_of(domain: str, selector: str = "one") -> SigningKey:
    return signing_key(domain, selector, new_private_key("ed25519-sha256"))


def signed(domain: str = "a.test", *, now: float, header: bytes = HEADER, body: bytes = BODY) -> bytes:
    """The whole message, its signature on top."""
    hashes = BodyHashes()
    signing = DkimSigning(header, hashes, [key_of(domain)], now=now, options=SigningOptions())
    hashes.feed(body)
    hashes.finish()
    return signing.fields() + header + b"\r\n" + body


def sealed(message: bytes, domain: str, *, now: float) -> bytes:
    """``message`` as ``domain`` forwards it, the first who seals it (RFC 8617 §5.1)."""
    header, _, body = message.partition(b"\r\n\r\n")
    hashes = BodyHashes()
    sealing = ArcSealing(header + b"\r\n", hashes, key_of(domain), authserv_id=domain, now=now)
    hashes.feed(body)
    hashes.finish()
    return sealing.fields(ArcVerdict(Result.NONE), "dkim=pass") + message

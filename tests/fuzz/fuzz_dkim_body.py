"""Any body in any chunking has the hash and the length of its canonical form as the letter of RFC 6376 makes it."""

from __future__ import annotations

import hashlib

from ekiden.auth.dkim.body_hash import BodyHashes
from support.plain_dkim import canonical_body

# The first byte says how the rest is cut, and what l= is.
SEEDS = [
    b"\x00 C \r\nD \t E\r\n\r\n\r\n",
    b"\x11Hello  there, \r\n\r\nthis is it.\r\n\r\n",
    b"\x22\r \r\n\r\r\n \n\n\r\n",
    b"\x33a\r\n \t \r\n \t    x      \t\t\r\n\r\n\r\n \r\n",
    b"\x44\r\n\r\n\r\n\r\n\r\n",
    b"\x75text without an end \t",
    b"\x06",
]


def one_input(data: bytes) -> None:
    how, body = data[:1] or b"\0", data[1:]
    size, length = (how[0] & 15) or len(body) + 1, (how[0] >> 4) * 4 or None
    hashes = BodyHashes()
    simple = hashes.want("simple", "sha256", length)
    relaxed = hashes.want("relaxed", "sha256", length)
    for at in range(0, len(body), size):
        hashes.feed(body[at : at + size])
    hashes.finish()
    for got in (simple, relaxed):
        canonical = canonical_body(body, got.canonicalization)
        assert got.octets == len(canonical)
        assert got.digest == hashlib.sha256(canonical[:length]).digest()

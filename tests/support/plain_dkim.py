"""DKIM by the letter of RFC 6376, line by line: what the fast one is compared with, and what signs for its tests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.verify import DEFAULT_LIMITS, DkimLimits, DkimVerification
from ekiden.auth.verdict import DkimVerdict
from ekiden.cleanup.header_scan import HeaderScan
from support.fake_resolver import FakeResolver


def canonical_body(body: bytes, canonicalization: str) -> bytes:
    lines = body.split(b"\r\n")
    if canonicalization == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    text = b"".join(line + b"\r\n" for line in lines)
    return text or (b"\r\n" if canonicalization == "simple" else b"")


def canonical_field(raw: bytes, canonicalization: str) -> bytes:
    if canonicalization == "simple":
        return raw
    name, _, value = raw.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.lower().rstrip(b" \t") + b":" + value + b"\r\n"


def signed(
    header: list[bytes], body: bytes, key: RSAPrivateKey | Ed25519PrivateKey, changes: Mapping[str, str] = {}
) -> bytes:
    """The message with a DKIM-Signature by ``key`` at its top. A tag that ``changes`` has as "" is left away."""
    names = [raw.partition(b":")[0].decode() for raw in header]
    tags = {
        "v": "1",
        "a": "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256",
        "c": "relaxed/relaxed",
        "d": "x.test",
        "s": "sel",
        "h": ":".join(reversed(names)),
        **changes,
    }
    header_form, _, body_form = tags["c"].partition("/")
    canonical = canonical_body(body, body_form or "simple")
    length = int(tags["l"]) if tags.get("l") else None
    tags.setdefault("bh", base64.b64encode(hashlib.sha256(canonical[:length]).digest()).decode())
    text = "; ".join(f"{name}={value}" for name, value in tags.items() if value)
    field = f"DKIM-Signature: {text}; b=".encode()
    left = list(header)
    data = b""
    for name in tags["h"].lower().encode().split(b":"):
        for raw in reversed(left):
            if raw.partition(b":")[0].strip().lower() == name.strip():
                left.remove(raw)
                data += canonical_field(raw, header_form)
                break
    data += canonical_field(field + b"\r\n", header_form)[:-2]
    if isinstance(key, RSAPrivateKey):
        signature = key.sign(data, PKCS1v15(), SHA256())
    else:
        signature = key.sign(hashlib.sha256(data).digest())
    return field + base64.b64encode(signature) + b"\r\n" + b"".join(header) + b"\r\n" + body


def key_record(key: RSAPrivateKey | Ed25519PrivateKey, extra: str = "") -> str:
    public = key.public_key()
    if isinstance(public, Ed25519PublicKey):
        octets, kind = public.public_bytes(Encoding.Raw, PublicFormat.Raw), "ed25519"
    else:
        octets, kind = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "rsa"
    return f"v=DKIM1; k={kind}; {extra}p={base64.b64encode(octets).decode()}"


def verdicts_of(
    message: bytes,
    resolver: FakeResolver,
    *,
    now: float,
    limits: DkimLimits = DEFAULT_LIMITS,
    piece: int = 4096,
) -> tuple[DkimVerdict, ...]:
    """By the parts that a session uses, the body in pieces."""
    scan = HeaderScan(1 << 22)
    rest = (scan.feed(message) + scan.finish()).removeprefix(b"\r\n")
    hashes = BodyHashes()

    async def run() -> tuple[DkimVerdict, ...]:
        verification = DkimVerification(scan.header, hashes, resolver=resolver, limits=limits, now=now)
        verification.start()
        for at in range(0, len(rest), piece):
            hashes.feed(rest[at : at + piece])
        hashes.finish()
        return await verification.verdicts()

    return asyncio.run(run())

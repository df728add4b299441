"""Any header gives no ARC chain, one whose sets have numbers, or what is wrong with it; without keys none holds."""

from __future__ import annotations

import asyncio
import atexit

from ekiden.auth.arc.chain import SETS_LIMIT, collect
from ekiden.auth.arc.seal import unsealable
from ekiden.auth.arc.verify import ArcVerification
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.verdict import Result
from support.fake_resolver import FakeResolver

_SIGNATURE = b"ARC-Message-Signature: i=%d; a=rsa-sha256; d=a.test; s=s; h=from:to;\r\n bh=%s; b=AAAA\r\n"
_SEAL = b"ARC-Seal: i=%d; a=rsa-sha256; cv=%s; d=a.test; s=s; t=1; b=AAAA\r\n"
_RESULTS = b"ARC-Authentication-Results: i=%d; mx.a.test; spf=pass smtp.mailfrom=b.test\r\n"
_EMPTY = b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def _set(instance: int, validation: bytes) -> bytes:
    return _SEAL % (instance, validation) + _SIGNATURE % (instance, _EMPTY) + _RESULTS % instance


SEEDS = [
    _set(1, b"none") + b"From: a@b\r\n",
    _set(2, b"pass") + _set(1, b"none"),
    _set(2, b"fail") + _set(1, b"none"),
    _set(1, b"none") + _set(1, b"none"),
    _SEAL % (50, b"pass") + _RESULTS % 49,
]
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)
_NO_KEYS = FakeResolver({})


def one_input(data: bytes) -> None:
    header = SignableHeader(data)
    chain = collect(header)
    assert 0 <= chain.highest <= SETS_LIMIT + 1
    assert [one.instance for one in chain.sets] == list(range(1, len(chain.sets) + 1))
    assert not (chain.sets and chain.trouble)
    for one in chain.sets:
        assert one.seal.validation == ("none" if one.instance == 1 else "pass")
        assert one.signature.signer.domain.isascii()
    if chain.sets:
        hashes = BodyHashes()
        verification = ArcVerification(header, hashes, resolver=_NO_KEYS, now=0.0)
        hashes.finish()
        verdict = _LOOP.run_until_complete(verification.verdict())
        assert verdict.result is Result.FAIL
        assert verdict.reason
        assert not unsealable(header, verdict) or chain.highest == SETS_LIMIT
    elif chain.failed:
        assert chain.trouble

"""Which sets can be a chain, and what hostile ones cost (RFC 8617 §4.2, §5.2)."""

from __future__ import annotations

import asyncio
import time

import pytest

from ekiden.auth.arc.chain import collect
from ekiden.auth.arc.verify import ArcVerification
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.verdict import ArcVerdict, Result
from support.fake_resolver import FakeResolver

HASH = b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # of an empty body


def results(instance: int) -> bytes:
    return b"ARC-Authentication-Results: i=%d; mx.a.test; none\r\n" % instance


def signature(instance: int, domain: bytes = b"a.test", more: bytes = b"") -> bytes:
    form = b"ARC-Message-Signature: i=%d; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=s; h=From; bh=%s; b=AAAA%s\r\n"
    return form % (instance, domain, HASH, more)


def seal(instance: int, validation: bytes = b"", domain: bytes = b"a.test") -> bytes:
    validation = validation or (b"none" if instance == 1 else b"pass")
    return b"ARC-Seal: i=%d; a=rsa-sha256; cv=%s; d=%s; s=s; b=AAAA\r\n" % (instance, validation, domain)


def whole(instance: int, domain: bytes = b"a.test") -> bytes:
    return seal(instance, domain=domain) + signature(instance, domain) + results(instance)


def trouble(header: bytes) -> str:
    return collect(SignableHeader(header)).trouble


def test_the_order_of_the_fields_does_not_matter() -> None:
    header = results(2) + whole(1) + b"From: a@b\r\n" + signature(2) + seal(2)
    assert [one.instance for one in collect(SignableHeader(header)).sets] == [1, 2]


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        (whole(2), "there is no ARC-Authentication-Results i=1"),
        (whole(1) + whole(3), "there is no ARC-Authentication-Results i=2"),
        (whole(1) + seal(1), "there is more than one ARC-Seal i=1"),
        (whole(1) + whole(1), "there is more than one ARC-Authentication-Results i=1"),
        (seal(1) + results(1), "there is no ARC-Message-Signature i=1"),
        (signature(1) + results(1), "there is no ARC-Seal i=1"),
        (seal(1, b"pass") + signature(1) + results(1), "the seal i=1 says cv=pass, where only none can be"),
        (whole(1) + seal(2, b"none") + signature(2) + results(2), "the seal i=2 says cv=none, where only pass can be"),
        (whole(1) + seal(2, b"fail"), "a.test, which sealed it last (i=2), found that it had failed"),
        (seal(1, b"fail"), "a.test, which sealed it last (i=1), found that it had failed"),
        (seal(0) + signature(1) + results(1), "an ARC-Seal is broken: i= is not a number from 1 to 50"),
        (whole(51), "an ARC-Authentication-Results does not say which set it is of"),
        (b"".join(map(whole, range(1, 52))), "it has more than 50 sets"),
        (whole(1) * 1000, "it has more than 50 sets"),
        (
            seal(1) + results(1) + signature(1, more=b"; x=\x00"),
            "an ARC-Message-Signature is broken: it holds control characters",
        ),
        (
            seal(1) + results(1) + signature(1).replace(b"h=From", b"h=From:ARC-Seal"),
            "an ARC-Message-Signature is broken: it covers ARC-Seal fields",
        ),
    ],
)
def test_what_is_no_chain(header: bytes, wrong: str) -> None:
    chain = collect(SignableHeader(header))
    assert (chain.trouble, chain.sets) == (wrong, ())


def verdict_of(header: bytes, resolver: FakeResolver) -> ArcVerdict:
    async def verdict() -> ArcVerdict:
        hashes = BodyHashes()
        verification = ArcVerification(header, hashes, resolver=resolver, now=1e9)
        verification.start()
        hashes.finish()
        return await verification.verdict()

    return asyncio.run(verdict())


def test_a_broken_chain_asks_dns_nothing() -> None:
    resolver = FakeResolver({})
    assert verdict_of(whole(1) * 1000, resolver).result is Result.FAIL
    assert verdict_of(whole(1) + seal(2, b"fail"), resolver).result is Result.FAIL
    assert resolver.asked == []


def test_names_that_are_asked_for_are_limited() -> None:
    resolver = FakeResolver({})
    header = b"".join(whole(instance, b"d%d.test" % instance) for instance in range(1, 51))
    assert verdict_of(header, resolver).reason == "it names more than 30 keys"
    assert resolver.asked == []
    header = b"".join(whole(instance, b"d%d.test" % (instance % 25)) for instance in range(1, 51))
    assert verdict_of(header, resolver).result is Result.FAIL
    assert len(resolver.asked) == 25


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ((b"ARC-Seal: i=1; a=rsa-sha256", b"ARC-Seal: i=1; a=rsa-sha1"), "ARC-Seal i=1 is by rsa-sha1"),
        ((b"b=AAAA\r\nARC-A", b"b=AAAA; x=5\r\nARC-A"), "its newest message signature has expired (x=5)"),
        ((b"d=a.test", b"d=" + b"a" * 63 + b"." + b"b" * 63 + b"." + b"c" * 63 + b"." + b"d" * 60), "too long"),
        ((b"From:", b"From: x\r\nFrom:"), "leaves a From field out"),
        ((b"i=1;", b"i=1; l=7;"), "does not hold: the body differs"),
    ],
)
def test_what_fails_without_a_key(changed: tuple[bytes, bytes], reason: str) -> None:
    header = whole(1) + b"From: a@b\r\n"
    verdict = verdict_of(header.replace(*changed), FakeResolver({}))
    assert verdict.result is Result.FAIL
    assert reason in verdict.reason


@pytest.mark.parametrize(
    "unit",
    [whole(1), signature(1), seal(1), results(1), b"\tx=y;\r\n", b"From: x\r\n", b"h=a:" * 20 + b"\r\n "],
)
def test_collecting_is_linear(unit: bytes) -> None:
    def seconds(size: int) -> float:
        header = whole(1) + whole(2).removesuffix(b"\r\n") + b";\r\n " + unit * (size // len(unit)) + b"\r\n"
        began = time.process_time()
        verdict_of(header, FakeResolver({}))
        return time.process_time() - began

    assert seconds(400_000) < 100 * seconds(40_000) + 0.5

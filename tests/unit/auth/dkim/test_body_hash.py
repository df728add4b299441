"""Body hashes are those of the canonical body, in any chunking (RFC 6376 §3.4.3, §3.4.4, §3.5)."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ekiden.auth.dkim.body_hash import BodyHash, BodyHashes
from support.plain_dkim import canonical_body


def fed(parts: list[bytes], *requests: tuple[str, int | None]) -> list[BodyHash]:
    hashes = BodyHashes()
    wanted = [hashes.want(canonicalization, "sha256", length) for canonicalization, length in requests]
    for part in parts:
        hashes.feed(part)
    hashes.finish()
    return wanted


def expect(body: bytes, parts: list[bytes], lengths: list[int | None]) -> None:
    requests = [(form, length) for form in ("simple", "relaxed") for length in lengths]
    for (form, length), got in zip(requests, fed(parts, *requests), strict=True):
        canonical = canonical_body(body, form)
        assert got.octets == len(canonical)
        assert got.digest == hashlib.sha256(canonical[:length]).digest(), (form, length)


BODY = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"  ", b"    ", b"a", b"word", b".", b"\x0b", b"\xe9"]),
    max_size=40,
).map(b"".join)


@settings(max_examples=400)
@example(b"\r \r", [1, 1, 1])
@example(b"a\r\r\n\r\n", [2])
@example(b" \r\n\r\n x\n\n\r\n", [3, 4])
@given(BODY, st.lists(st.integers(1, 5), max_size=30))
def test_any_chunking_gives_the_hash_of_the_canonical_body(body: bytes, cuts: list[int]) -> None:
    parts, at = [], 0
    for cut in cuts:
        parts.append(body[at : at + cut])
        at += cut
    parts.append(body[at:])
    expect(body, parts, [None, 0, 1, 7])


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 4096])
def test_the_example_of_the_rfc(chunk: int) -> None:
    body = b" C \r\nD \t E\r\n\r\n\r\n"  # RFC 6376 §3.4.5
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    simple, relaxed = fed(parts, ("simple", None), ("relaxed", None))
    assert simple.digest == hashlib.sha256(b" C \r\nD \t E\r\n").digest()
    assert relaxed.digest == hashlib.sha256(b" C\r\nD E\r\n").digest()


def test_the_empty_body() -> None:
    simple, relaxed = fed([], ("simple", None), ("relaxed", None))
    assert (simple.octets, relaxed.octets) == (2, 0)
    assert simple.digest == hashlib.sha256(b"\r\n").digest()
    assert relaxed.digest == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("unit", [b" ", b"\r\n", b" \r\n", b"\t", b"\r", b"  x", b"     \t"])
def test_long_runs_take_no_memory(unit: bytes) -> None:
    """10 MB that may all be the end of the body, or not: nothing of it is kept."""
    chunk = unit * (65536 // len(unit))
    hashes = BodyHashes()
    for form in ("simple", "relaxed"):
        hashes.want(form, "sha256", None)
    hashes.feed(b"begin")
    tracemalloc.start()
    for _ in range(160):
        hashes.feed(chunk)
    hashes.feed(b"x")
    hashes.finish()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize("unit", [b" ", b"\r\n", b" \r\n", b"\t", b"a  b", b"word ", b"\r\n\r\n \t"])
def test_large_chunks_and_views_are_hashed_alike(unit: bytes) -> None:
    body = b"x" + unit * (400_000 // len(unit)) + b"y\r\n"
    expect(body, [body], [None, 100_000])
    hashes = BodyHashes()
    wanted = hashes.want("relaxed", "sha256", None)
    hashes.feed(memoryview(body))
    hashes.finish()
    assert wanted.digest == hashlib.sha256(canonical_body(body, "relaxed")).digest()


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_every_length_of_a_body(chunk: int) -> None:
    body = b"Hello  there, \r\n\r\nthis is it.\r\n\r\n"
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    expect(body, parts, [*range(40, 0, -2), *range(1, 40, 2), 0, 10**76])


def test_the_same_request_gives_the_same_object() -> None:
    hashes = BodyHashes()
    wanted = hashes.want("relaxed", "sha256", 5)
    assert hashes.want("relaxed", "sha256", 5) is wanted
    assert hashes.want("relaxed", "sha256", None) is not wanted
    hashes.feed(b"x\r\n")
    assert hashes.want("relaxed", "sha256", 5) is wanted
    assert wanted.digest == b""
    for late in (("simple", None), ("relaxed", 6)):
        with pytest.raises(ValueError, match="too late"):
            hashes.want(late[0], "sha256", late[1])
    hashes.finish()
    first = wanted.digest
    hashes.finish()
    assert wanted.digest == first == hashlib.sha256(b"x\r\n").digest()


def test_only_what_is_known_is_hashed() -> None:
    hashes = BodyHashes()
    with pytest.raises(ValueError, match="sha1"):
        hashes.want("simple", "sha1", None)
    with pytest.raises(ValueError, match="nowsp"):
        hashes.want("nowsp", "sha256", None)

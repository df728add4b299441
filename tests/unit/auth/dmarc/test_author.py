"""The author's domains (RFC 9989 §5.3.1)."""

from __future__ import annotations

import time

import pytest

from ekiden.auth.dmarc.author import SPELLINGS_LIMIT, UNREAD, author_domains


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("a@x.test", ("x.test",)),
        ("A <a@X.Test>", ("x.test",)),
        ('"A, B" <a@x.test>', ("x.test",)),
        ('"b@victim.test" <a@x.test>', ("x.test",)),
        ("=?utf-8?q?b=40victim.test?= <a@x.test>", ("x.test",)),
        ("(b@victim.test) A (c) <a@x.test> (d@y.test)", ("x.test",)),
        ("a@x.test (A)", ("x.test",)),
        ("a@x.test, b@y.test", ("x.test", "y.test")),
        ("a@x.test, B <b@X.TEST>", ("x.test",)),
        ("<a@x.test> <b@y.test>", ("x.test", "y.test")),
        ("a@x.test b@y.test", ("x.test", "y.test")),
        ("Us: a@x.test, b@y.test; , c@z.test", ("x.test", "y.test", "z.test")),
        ("nobody:;", ()),
        ("", ()),
        ("Nobody", ()),
        ("a@", ()),
        ("a@[192.0.2.1]", ()),
        ("a@192.0.2.1", ()),
        ('"a b"@x.test', ("x.test",)),
        ("<@route.test:a@x.test>", ("x.test",)),
        ("a@b@x.test", ("x.test",)),
        ("a@x . test", ("x.test",)),
        ("a@x.(hidden)test", ("x.test",)),
        ("a@b\u00fccher.test", ("xn--bcher-kva.test",)),
        ("a@B\u00dcCHER.test", ("xn--bcher-kva.test",)),
        ("a@xn--bcher-kva.test", ("xn--bcher-kva.test",)),
        ("a@x.test.", ("x.test",)),
        ("a@x..test", ()),
        ("A\r\n <a@x.test>", ("x.test",)),
        ("A\r\n <a\r\n @\r\n x.test>", ("x.test",)),
        ('"unclosed <a@x.test>', ()),
        ("A <a@x.test", ("x.test",)),
    ],
)
def test_domains_of_one_field(value: str, domains: tuple[str, ...]) -> None:
    assert author_domains(f"To: v@other.test\r\nFrom: {value}\r\nSubject: x\r\n".encode()) == domains


@pytest.mark.parametrize(
    ("header", "domains"),
    [
        (b"To: a@x.test\r\n", ()),
        (b"", ()),
        (b"From: a@x.test\r\nFROM : b@y.test\r\nfrom:c@z.test\r\n", ("x.test", "y.test", "z.test")),
        (b"From: a@x.test", ("x.test",)),
        (b"X-From: a@x.test\r\nFrom-X: b@y.test\r\n", ()),
        (b"Subject: x\r\n From: a@x.test\r\n", ()),
        (b'From: "open\r\nFrom: b@y.test\r\n', ("y.test",)),
    ],
)
def test_fields(header: bytes, domains: tuple[str, ...]) -> None:
    assert author_domains(header) == domains


def test_nobody_hides_behind_many_others() -> None:
    same = b"From: " + b"a@x.test," * 5000 + b"b@victim.test\r\n"
    assert author_domains(same) == ("x.test", UNREAD)
    wrong = b"From: " + b",".join(b"a@x..%d" % number for number in range(SPELLINGS_LIMIT)) + b",b@victim.test\r\n"
    assert author_domains(wrong) == (UNREAD,)
    fields = b"".join(b"From: a@x%d.test\r\n" % number for number in range(2 * SPELLINGS_LIMIT))
    assert len(author_domains(fields)) == SPELLINGS_LIMIT + 1
    assert author_domains(b"From: " + b"a@x.test," * 500 + b"b@victim.test\r\n") == ("x.test", "victim.test")


@pytest.mark.parametrize(
    "piece", [b"a@b.test,", b"<", b"(", b'"', b"a@b", b"\\", b"@", b"\r\n ", b"[", b"a:;", b"=?x?q?"]
)
def test_hostile_fields_take_linear_time(piece: bytes) -> None:
    def seconds(size: int) -> float:
        header = b"From: " + piece * (size // len(piece)) + b"\r\n"
        start = time.process_time()
        author_domains(header)
        return time.process_time() - start

    small = min(seconds(20_000) for _ in range(3))
    assert min(seconds(160_000) for _ in range(3)) < 40 * small + 0.02

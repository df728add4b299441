"""cleanup.header_scan: the same bytes and facts in every chunking, and never a body that loses its first line."""

from __future__ import annotations

import pytest

from ekiden.cleanup.header_scan import HeaderScan, message_id


def scanned(data: bytes, chunk: int, limit: int = 100_000) -> tuple[bytes, HeaderScan]:
    scan = HeaderScan(limit)
    rest = b"".join(scan.feed(data[at : at + chunk]) for at in range(0, len(data), chunk)) + scan.finish()
    return scan.header + rest, scan


CASES = [
    pytest.param(b"A: b\r\n\r\nbody\r\n", b"A: b\r\n\r\nbody\r\n", id="ordinary"),
    pytest.param(b"A: b\r\n", b"A: b\r\n\r\n", id="header only gets its empty line"),
    pytest.param(b"\r\nbody\r\n", b"\r\nbody\r\n", id="no header"),
    pytest.param(b"no header here\r\n", b"\r\nno header here\r\n", id="body without header"),
    pytest.param(b"A: b\r\nbody\r\n\r\nmore\r\n", b"A: b\r\n\r\nbody\r\n\r\nmore\r\n", id="missing empty line"),
    pytest.param(b"A: b\r\n folded\r\n\tmore\r\n\r\nx", b"A: b\r\n folded\r\n\tmore\r\n\r\nx", id="folded"),
    pytest.param(b"From a@b\r\nA: b\r\n\r\n", b"X-Mailbox-Line: From a@b\r\nA: b\r\n\r\n", id="mbox line"),
    pytest.param(b">From a@b\r\nA: b\r\n\r\n", b"X-Mailbox-Line: >From a@b\r\nA: b\r\n\r\n", id="quoted mbox line"),
    pytest.param(b"", b"\r\n", id="nothing"),
]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize(("data", "stored"), CASES)
def test_what_is_stored(data: bytes, stored: bytes, chunk: int) -> None:
    assert scanned(data, chunk)[0] == stored


@pytest.mark.parametrize("chunk", [1, 5, 4096])
def test_facts(chunk: int) -> None:
    header = b"Received: one\r\nreceived : two\r\nMESSAGE-ID:\r\n <a@b>\r\nX: Received: no\r\n\r\nReceived: body\r\n"
    _, scan = scanned(header, chunk)
    assert scan.hops == 2
    assert message_id(scan.header) == "<a@b>"


@pytest.mark.parametrize("chunk", [1, 100, 4096])
def test_a_header_over_the_limit_is_noticed_and_memory_stays_bounded(chunk: int) -> None:
    field = b"X: " + b"a" * 90 + b"\r\n"
    _, scan = scanned(field * 20, chunk, limit=1000)
    assert scan.too_long
    _, scan = scanned(b"X: " + b"a" * 2000, chunk, limit=1000)
    assert scan.too_long


def test_a_long_body_after_a_missing_empty_line_is_no_long_header() -> None:
    data = b"A: b\r\n" + b"line of a body that has no empty line\r\n" * 100
    out, scan = scanned(data, 64, limit=1000)
    assert not scan.too_long
    assert out == b"A: b\r\n\r\n" + data[6:]


@pytest.mark.parametrize(
    ("header", "identifier", "hops", "tls_is_optional"),
    [
        (b"", "", 0, False),
        (b"Message-ID: <1@x>\r\nMESSAGE-ID: <2@x>\r\n", "<1@x>", 0, False),
        (b"Message-ID:\r\n\t<1@x>\r\nRECEIVED : x\r\nreceived: y\r\n", "<1@x>", 2, False),
        # An empty Message-ID: must hide no field that follows.
        (b"Message-ID:\r\nReceived: x\r\nTLS-Required: no\r\n", "Received: x", 1, True),
        (b"TLS-Required:\r\n no \r\nReceived: x\r\nSubject: received: y\r\n", "", 1, True),
        (b"TLS-Required: none\r\nX-Received: x\r\n", "", 0, False),
    ],
)
def test_what_the_server_must_know_is_found_in_one_walk(
    header: bytes, identifier: str, hops: int, tls_is_optional: bool
) -> None:
    for cut in range(len(header) + 1):
        scan = HeaderScan(1000)
        scan.feed(header[:cut])
        scan.feed(header[cut:] + b"\r\nMessage-ID: <body@x>\r\nReceived: z\r\n")
        assert scan.header == header
        assert (scan.message_id, scan.hops, scan.tls_is_optional) == (identifier, hops, tls_is_optional)
        assert message_id(scan.header) == identifier

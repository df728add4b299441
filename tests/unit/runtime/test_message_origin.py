"""What a header tells of where its message came from."""

from __future__ import annotations

import time

import pytest

from ekiden.cleanup.received import received_field
from ekiden.message.envelope import Client
from ekiden.runtime.message_origin import HeaderOrigin, origin_of


@pytest.mark.parametrize(
    ("received", "address", "helo"),
    [
        (
            "from h.test (name.test [192.0.2.1])\r\n\t(using TLSv1.3)\r\n\tby mx.test (Postfix) with ESMTPS",
            "192.0.2.1",
            "h.test",
        ),
        ("from h.test (unknown [IPv6:2001:db8::1]) by mx.test", "2001:db8::1", "h.test"),
        ("from name.test ([192.0.2.1] helo=h.test) by mx.test with esmtps (Exim 4.98)", "192.0.2.1", "h.test"),
        ("from [192.0.2.1] (helo=h.test) by mx.test with smtp (Exim 4.98)", "192.0.2.1", "h.test"),
        ("from h.test (name.test [192.0.2.1] (may be forged)) by mx.test (8.17/8.17)", "192.0.2.1", "h.test"),
        ("from h.test (192.0.2.1) by mx.test (2603:10a6::1) with Microsoft SMTP Server", "192.0.2.1", "h.test"),
        ("from h.test (h.test. [192.0.2.1]) by mx.test with ESMTPS id x", "192.0.2.1", "h.test"),
        ("by 2002:a05:6402:0:0:0:0:1 with SMTP id x", "", ""),
        ("from userid 1000 by mx.test", "", ""),
        ("from h.test (name.test [999.0.2.1]) by mx.test", "", ""),
    ],
)
def test_fields_of_many_servers(received: str, address: str, helo: str) -> None:
    found = origin_of(f"Received: {received}; date\r\nFrom: x@y.test\r\n".encode())
    assert (found.address, found.helo, found.received, found.sender) == (address, helo, int(bool(address)), None)


def test_our_own() -> None:
    client = Client(name="n.test", address="2001:db8::1", helo="h.test", is_ipv6=True)
    field = received_field(client=client, queue_id="x", recipients=(), hostname="mx", mail_name="Ekiden", at=0.0)
    assert origin_of(field) == HeaderOrigin("2001:db8::1", "h.test", 1)


def test_the_topmost_from_outside_counts() -> None:
    header = (
        b"Received: by store.test with LMTP; date\r\n"
        b"Received: from filter.test (localhost [127.0.0.1]) by mx.test; date\r\n"
        b"Return-Path: <s@a.test>\r\n"
        b"Received: from inner.test (inner.test [10.0.0.9]) by mx.test; date\r\n"
        b"Received: from h.test (n.test [192.0.2.1]) by mx.test; date\r\n"
        b"Received: from forged.test (n.test [198.51.100.1]) by h.test; date\r\n"
        b"Return-Path: <forged@a.test>\r\n"
    )
    assert origin_of(header) == HeaderOrigin("192.0.2.1", "h.test", 4, "s@a.test")
    assert origin_of(header.partition(b"Received: from inner")[0]) == HeaderOrigin(
        "127.0.0.1", "filter.test", 2, "s@a.test"
    )
    assert origin_of(b"Return-Path: <>\r\nFrom: x@y.test\r\n") == HeaderOrigin(sender="")
    assert origin_of(b"") == HeaderOrigin()


def test_hostile_headers_take_linear_time() -> None:
    began = time.process_time()
    for filler in (b"(", b"()", b"from a (", b"[", b"\r\n ", b"Received: from a ([::1"):
        origin_of((b"Received: from a " + filler * 200_000 + b"\r\n") * 2)
    assert time.process_time() - began < 2.0

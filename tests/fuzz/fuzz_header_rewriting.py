"""Any header: addresses are found in order inside it, rewriting ends at once and changes nothing the second time.

What the quick look lets pass, the careful way would not have changed either.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ekiden.cleanup.cleanup import Arrival, Cleanup
from ekiden.cleanup.header_scan import HeaderScan
from ekiden.cleanup.way import HeaderSource, Way
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.address_list import parse_addresses
from ekiden.message.header_fields import ADDRESS_FIELDS, fields

SEEDS = [
    b'From: a@b.test\r\nTo: user, "q, r" <host!user> (c (d)), g: x, y@z;, <@a,@b:c@d>\r\n',
    b"Date: x\r\nFrom: <a@b.test>\r\nMessage-ID: <1@x>\r\nCc: =?utf-8?q?x?= <e@f.test>,\r\n\tg@h.test\r\n",
    b'resent-to: a b c\r\nBcc : x\r\n y\r\nReply-To: "a\\"b"@[1.2.3.4]., c@d.\r\n',
    b"To: Foo <a, b>, x@y:z, a\\ b, (unclosed\r\n",
    "To: Jöe <jöe>\r\n".encode(),
    b'To: user, "q, r"!x, "q r"%y, g: z, <@a,@b:c>, d;\r\nCc: =?ut[-8?q?x?= <e@f.test>, "unclosed\r\n',
    b'Cc: a\\\r\n b, [c\\\r\n d, "e\\\r\n f"\r\n',
]


async def _is_local(_domain: str) -> bool:
    return False


_SETTINGS = {"myhostname": "mx.here.test", "header_address_token_limit": "1000000", "header_size_limit": "1000000"}
# The second has a map that never fits, so that it never takes the quick way.
_QUICK = Cleanup(Parameters(_SETTINGS), is_local=_is_local)
_CAREFUL = Cleanup(Parameters({**_SETTINGS, "canonical_maps": "inline:{ a@never.invalid=b@x }"}), is_local=_is_local)
_LOCAL = Way(HeaderSource.LOCAL)
_ARRIVAL = Arrival("QID", Address("me", "client.test"), 1_750_000_000.0)


def _result(coroutine: Coroutine[Any, Any, object]) -> bytes:
    """Of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return bytes(end.value)
    raise AssertionError("it waits")


def one_input(data: bytes) -> None:
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n")  # as content always is
    scan = HeaderScan(1_000_000)
    scan.feed(data)
    scan.finish()
    header = scan.header
    listed = list(fields(header))
    assert b"".join(header[field.start : field.end] for field in listed) == header
    for field in listed:
        if field.name in ADDRESS_FIELDS:
            at = 0
            for mailbox in parse_addresses(header[field.value : field.end]).mailboxes:
                assert at <= mailbox.start < mailbox.end <= field.end - field.value
                at = mailbox.end
    once = _result(_QUICK.header(header, _ARRIVAL, _LOCAL))
    assert once == _result(_CAREFUL.header(header, _ARRIVAL, _LOCAL))
    assert once == _result(_QUICK.header(once, _ARRIVAL, _LOCAL))

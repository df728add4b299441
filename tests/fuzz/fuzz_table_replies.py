"""Any bytes of a table's server give the same replies or a ValueError in any chunking, and take no more than they are.

Netstrings (socketmap), tcp_table lines, memcached's text protocol, RESP of Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ekiden.protocol.memcache import parse_stored, parse_values
from ekiden.protocol.netstring import netstring, parse_netstring
from ekiden.protocol.resp import parse_reply, request
from ekiden.tables import tcp

SEEDS = [
    b"5:hello,0:,12:OK some text,",
    b"05:hello,",
    b"200 text%20x\n500 no\n400 later\r\n",
    b"VALUE key 0 5\r\nhello\r\nVALUE k2 7 0 99\r\n\r\nEND\r\n",
    b"STORED\r\nNOT_STORED\r\nERROR\r\nSERVER_ERROR out of memory\r\n",
    b"$5\r\nhello\r\n+OK\r\n-ERR no\r\n:42\r\n$-1\r\n*3\r\n$1\r\na\r\n$-1\r\n:1\r\n*-1\r\n*0\r\n",
    b"*2\r\n*1\r\n:1\r\n:2\r\n",
]

Parser = Callable[[bytes | bytearray], tuple[object, int] | None]
PARSERS: tuple[Parser, ...] = (
    partial(parse_netstring, limit=20),
    tcp.parse_reply,
    partial(parse_values, line_limit=64, data_limit=20),
    partial(parse_stored, line_limit=64),
    partial(parse_reply, value_limit=20),
)


def heard(parse: Parser, data: bytes, chunk: int) -> list[str]:
    found: list[str] = []
    buffer = bytearray()
    for at in range(0, len(data), chunk):
        buffer += data[at : at + chunk]
        while True:
            try:
                reply = parse(buffer)
            except ValueError:
                return [*found, "trouble"]
            if reply is None:
                break
            assert 0 < reply[1] <= len(buffer)
            found.append(repr(reply[0]))
            del buffer[: reply[1]]
    return found


def one_input(data: bytes) -> None:
    for parse in PARSERS:
        whole = heard(parse, data, max(1, len(data)))
        for chunk in (1, 3, 64):
            pieces = heard(parse, data, chunk)
            # What is too long may be refused before it is whole, or answered when it comes at once.
            assert pieces == whole or (pieces[-1:] == ["trouble"] and pieces[:-1] == whole[: len(pieces) - 1])
    assert parse_netstring(netstring(data), len(data)) == (data, len(netstring(data)))
    assert parse_reply(request([data]), len(data)) == ([data], len(request([data])))

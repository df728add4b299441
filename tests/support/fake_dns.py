"""A name server that does what a test says, over UDP and TCP on one loopback port: it fails, lies, or is silent.

Questions and answers are bytes (RFC 1035 §4.1): a test changes what it wants to be wrong.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

# A question as it came, and whether over TCP -> the packets to send back (none: silence).
Behaviour = Callable[[bytes, bool], list[bytes]]

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
A, PTR, MX, TXT, AAAA = 1, 12, 15, 16, 28


def question_of(packet: bytes) -> bytes:
    """The question section: name, type and class."""
    at = 12
    while packet[at]:
        at += packet[at] + 1
    return packet[12 : at + 5]


def type_of(packet: bytes) -> int:
    return int.from_bytes(question_of(packet)[-4:-2], "big")


def wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".") if label) + b"\0"


def answer(
    packet: bytes,
    *records: tuple[int, bytes],
    rcode: int = NOERROR,
    truncated: bool = False,
    question: bytes | None = None,
    number: int | None = None,
    ttl: int = 60,
) -> bytes:
    """An answer to ``packet``: records are (type, data) of the name that was asked for."""
    question = question_of(packet) if question is None else question
    number = int.from_bytes(packet[:2], "big") if number is None else number
    flags = 0x8180 | rcode | (0x0200 if truncated else 0)
    head = struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data for kind, data in records)
    return head + question + body


def ipv4(address: str) -> tuple[int, bytes]:
    return A, socket.inet_aton(address)


class FakeDns:
    """``async with FakeDns(behaviour) as server``; ``server.address`` is for dns_resolvers."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.questions: list[tuple[bytes, bool]] = []
        self.address = ""
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> FakeDns:
        loop = asyncio.get_running_loop()
        while True:
            self._server = await asyncio.start_server(self._tcp, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            try:
                self._transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Udp(self), local_addr=("127.0.0.1", port)
                )
            except OSError:  # free for TCP only: another port
                self._server.close()
                continue
            self.address = f"127.0.0.1:{port}"
            return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        assert self._server is not None
        self._transport.close()
        self._server.close()
        await self._server.wait_closed()

    def answers(self, packet: bytes, tcp: bool) -> list[bytes]:
        self.questions.append((question_of(packet), tcp))
        return self.behaviour(packet, tcp)

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                for packet in self.answers(await reader.readexactly(size), True):
                    writer.write(len(packet).to_bytes(2, "big") + packet)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: FakeDns) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for packet in self._server.answers(data, False):
            self._transport.sendto(packet, addr)

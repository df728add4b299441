"""The resolver that can tell what is authentic: a stub that asks a validating resolver and reads the AD bit.

In:   names, the servers and limits of DnsParameters; a source of random numbers, the running event loop.
Out:  typed answers whose ``authentic`` is the AD bit of a server that we trust; DnsTrouble for SERVFAIL (which is also
      what a validating resolver says of bogus data, RFC 4035 §5.5), REFUSED, time-outs, answers that cannot be read.
Never: validates by itself, keeps answers (dns.cache does), believes the AD bit of a server across the network unless
       the administrator said so, takes an answer to another question or from another address.

It is for what DANE needs (RFC 7672 §2.1.1); the ordinary look-ups are those of dns.cares. Every question has a socket,
and with it a port, of its own, and a random id (RFC 5452 §9.2).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from ekiden.config.snapshot import Parameters
from ekiden.dns import wire
from ekiden.dns.name import dns_name, host_name
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Srv, Tlsa
from ekiden.dns.reverse import reverse_name
from ekiden.dns.system_servers import NameServer, name_servers

R = TypeVar("R")

_NXDOMAIN: Final[Answer[Any]] = Answer(Found.NXDOMAIN)
_PAYLOAD = 1232  # bytes of a UDP answer that no path breaks into pieces
_QUESTIONS_AT_ONCE = 200  # each has a socket

_TYPE_NAMES = {
    wire.A: "A",
    wire.AAAA: "AAAA",
    wire.CNAME: "CNAME",
    wire.MX: "MX",
    wire.PTR: "PTR",
    wire.SRV: "SRV",
    wire.TLSA: "TLSA",
    wire.TXT: "TXT",
}
_PROBE_TYPES = {
    "A": wire.A,
    "AAAA": wire.AAAA,
    "MX": wire.MX,
    "NS": wire.NS,
    "SOA": wire.SOA,
    "TXT": wire.TXT,
}
_RCODES = {
    1: "name server did not understand the query (FORMERR)",
    2: "server failure (SERVFAIL)",
    4: "not implemented by the name server (NOTIMP)",
    5: "query refused (REFUSED)",
}


class StubResolver:
    """A Resolver. ``new_id`` gives a number below 65536 that nobody can guess.

    ``warn`` hears, once, that the name server does not seem to validate (dnssec_probe).
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        new_id: Callable[[], int] = lambda: secrets.randbelow(65536),
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._servers = name_servers(parameters.dns_resolvers, resolv_conf)
        self._new_id = new_id
        self._tcp_only = parameters.dns_transport == "tcp"
        self._payload = _PAYLOAD if parameters.dns_edns else 0
        self._timeout_s = parameters.dns_timeout
        self._tries = parameters.dns_tries
        self._limit_s = parameters.dns_lookup_time_limit
        self._partial_ttl_s = parameters.dns_trouble_ttl
        protocols = parameters.inet_protocols
        every = "all" in protocols
        self._types = tuple(
            kind for kind, protocol in ((wire.AAAA, "ipv6"), (wire.A, "ipv4")) if every or protocol in protocols
        )
        self._room = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        self._probe = parameters.dnssec_probe
        self._warn = warn
        self._probing: asyncio.Task[None] | None = None

    async def mx(self, name: str) -> Answer[Mx]:
        """Records whose exchange is no host name keep it as written: the router says why it skips them."""
        return await self._ask(name, wire.MX, _of(wire.read_mx, Mx))

    async def srv(self, name: str) -> Answer[Srv]:
        return await self._ask(name, wire.SRV, _of(wire.read_srv, Srv))

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._ask(name, wire.TXT, wire.read_txt)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._ask(name, wire.TLSA, _of(wire.read_tlsa, Tlsa))

    async def cname(self, name: str) -> Answer[str]:
        return await self._ask(name, wire.CNAME, wire.read_name)

    async def ptr(self, address: str) -> Answer[str]:
        name = reverse_name(address)
        if name is None:
            return _NXDOMAIN

        def read(packet: bytes, record: wire.Record) -> str | None:
            return host_name(wire.read_name(packet, record) or "")

        return await self._ask(name, wire.PTR, read)

    async def addresses(self, name: str) -> Answer[str]:
        """Both kinds are asked for at once. They are authentic when all that was found is, and is of one name."""
        questions = [asyncio.ensure_future(self._ask(name, kind, wire.read_address)) for kind in self._types]
        try:
            outcomes = await asyncio.gather(*questions, return_exceptions=True)
        finally:
            for question in questions:
                question.cancel()
        answers: list[Answer[str]] = []
        trouble: DnsTrouble | None = None
        for outcome in outcomes:
            if isinstance(outcome, DnsTrouble):
                trouble = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                answers.append(outcome)
        found = [answer for answer in answers if answer.found is Found.RECORDS]
        if found:
            ttl_s = min(answer.ttl_s for answer in found)
            return Answer(
                Found.RECORDS,
                tuple(record for answer in found for record in answer.records),
                authentic=all(answer.authentic and answer.canonical == found[0].canonical for answer in found),
                # What is missing will be asked for again soon.
                ttl_s=ttl_s if trouble is None else min(ttl_s, self._partial_ttl_s),
                canonical=found[0].canonical,
                partial=trouble is not None,
            )
        if trouble is not None:
            raise trouble
        absent = next((answer for answer in answers if answer.found is Found.NXDOMAIN), answers[0])
        return Answer(absent.found, authentic=all(answer.authentic for answer in answers), ttl_s=absent.ttl_s)

    async def close(self) -> None:
        """Questions that are open end by themselves."""
        if self._probing is not None:
            self._probing.cancel()

    async def _look_for_dnssec(self) -> None:
        """Is it the zone that is not signed, or is nothing here ever proven?"""
        kind, _, name = self._probe.partition(":")
        try:
            async with asyncio.timeout(self._limit_s):
                reply, trusted = await self._look_up(dns_name(name) or "", _PROBE_TYPES[kind.upper()])
        except (DnsTrouble, TimeoutError):
            why = "received no response"
        else:
            if trusted and reply.authentic:
                return
            why = "received a response that is not DNSSEC validated"
        self._warn(f"DNSSEC validation may be unavailable: dnssec_probe '{self._probe}' {why}")

    async def _ask(self, name: str, kind: int, read: Callable[[bytes, wire.Record], R | None]) -> Answer[R]:
        asked = dns_name(name)
        if not asked:
            return _NXDOMAIN
        try:
            async with asyncio.timeout(self._limit_s), self._room:
                reply, trusted = await self._look_up(asked, kind)
        except TimeoutError:
            raise DnsTrouble(f"{asked} {_TYPE_NAMES[kind]}: timed out") from None
        records = reply.values(read)
        canonical = reply.canonical if reply.canonical != asked else ""
        authentic = trusted and reply.authentic
        if not authentic and self._probe and self._probing is None:
            self._probing = asyncio.create_task(self._look_for_dnssec())
        if records:
            return Answer(Found.RECORDS, records, authentic, float(reply.ttl_s), canonical)
        found = Found.NXDOMAIN if reply.rcode == wire.NXDOMAIN else Found.NODATA
        # Records of which none can be read are no proof that there is none.
        return Answer(found, (), authentic and not reply.records, float(reply.ttl_s), canonical)

    async def _look_up(self, name: str, kind: int) -> tuple[wire.Reply, bool]:
        """The reply of the first server that gives one that counts, and whether that server is trusted."""
        why = "no name server"
        for attempt in range(self._tries):
            for server in self._servers:
                number = self._new_id()
                question = wire.encode_question(number, name, kind, payload=self._payload)
                try:
                    async with asyncio.timeout(self._timeout_s * 2**attempt):
                        reply = await self._exchange(server, question, number, name, kind)
                except TimeoutError:
                    why = "timed out"
                    continue
                except OSError as error:
                    why = f"could not contact the name servers: {error.strerror or error}"
                    continue
                except wire.WireError as error:
                    why = f"malformed answer: {error}"
                    continue
                if reply.rcode in (wire.NOERROR, wire.NXDOMAIN):
                    return reply, server.trusted
                why = _RCODES.get(reply.rcode, f"response code {reply.rcode}")
            if not why.startswith("timed out"):
                break  # every server that answered has said no: asking again would get the same
        raise DnsTrouble(f"{name or '.'} {_TYPE_NAMES.get(kind, kind)}: {why}")

    async def _exchange(self, server: NameServer, question: bytes, number: int, name: str, kind: int) -> wire.Reply:
        """One question to one server. Raises OSError, WireError (over TCP; what is wrong over UDP may be forged)."""
        if not self._tcp_only:
            loop = asyncio.get_running_loop()
            transport, waiting = await loop.create_datagram_endpoint(
                lambda: _Datagrams(lambda packet: wire.decode_reply(packet, number, name, kind), loop.create_future()),
                remote_addr=(server.address, server.port),
            )
            try:
                transport.sendto(question)
                reply = await waiting.reply
            finally:
                transport.close()
            if not reply.truncated:
                return reply
        reply = wire.decode_reply(await _over_tcp(server, question), number, name, kind)
        if reply.truncated:
            raise wire.WireError("cut short over TCP")
        return reply


class _Datagrams(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers; what does not is somebody else's and passes (RFC 5452 §9.1)."""

    def __init__(self, decode: Callable[[bytes], wire.Reply], reply: asyncio.Future[wire.Reply]) -> None:
        self._decode = decode
        self.reply = reply

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.reply.done():
            try:
                self.reply.set_result(self._decode(data))
            except wire.WireError:
                return

    def error_received(self, exc: Exception) -> None:
        """The system's word on an unreachable server."""
        if not self.reply.done():
            self.reply.set_exception(exc)


async def _over_tcp(server: NameServer, question: bytes) -> bytes:
    """RFC 1035 §4.2.2. Raises OSError."""
    reader, writer = await asyncio.open_connection(server.address, server.port)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    except EOFError as error:
        raise ConnectionResetError("the name server closed the connection") from error
    finally:
        writer.close()


def _of(read: Callable[[bytes, wire.Record], tuple[Any, ...] | None], make: Callable[..., R]) -> Any:
    def value(packet: bytes, record: wire.Record) -> R | None:
        fields = read(packet, record)
        return None if fields is None else make(*fields)

    return value

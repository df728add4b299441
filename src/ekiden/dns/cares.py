"""The resolver that asks name servers, by way of c-ares: the only module that knows pycares.

In:   names (U-labels are converted), the servers and limits of DnsParameters, the running event loop.
Out:  typed answers; DnsTrouble for SERVFAIL, REFUSED, time-outs and answers that cannot be read.
Never: starts a thread that calls back, blocks, keeps answers (dns.cache does), or trusts what an answer says about
       names: hosts that no host name can be are left out.

c-ares matches ids, ports and questions of answers, asks again over TCP what was cut short, and moves on to the
next server. What it does not give us are the header flags, so ``authentic`` is always False here (dns.stub has them).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pycares

from ekiden.config.snapshot import Parameters
from ekiden.dns.name import dns_name, host_name
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Srv, Tlsa
from ekiden.dns.reverse import reverse_name

R = TypeVar("R")

# What c-ares said: (DNSResult, None) or (None, status).
_Outcome = tuple[Any, int | None]

_NODATA: Final[Answer[Any]] = Answer(Found.NODATA)
_NXDOMAIN: Final[Answer[Any]] = Answer(Found.NXDOMAIN)

# c-ares remembers answers by itself for up to an hour, without a limit and without a switch that pycares would
# pass on. A channel is therefore given up after this many questions, and its memory with it.
_QUESTIONS_A_CHANNEL = 4096

_TROUBLES = {
    pycares.errno.ARES_ESERVFAIL: "server failure (SERVFAIL)",
    pycares.errno.ARES_EREFUSED: "query refused (REFUSED)",
    pycares.errno.ARES_ENOTIMP: "not implemented by the name server (NOTIMP)",
    pycares.errno.ARES_EFORMERR: "name server did not understand the query (FORMERR)",
    pycares.errno.ARES_ETIMEOUT: "timed out",
    pycares.errno.ARES_ECONNREFUSED: "could not contact the name servers",
    pycares.errno.ARES_EBADRESP: "malformed answer",
    pycares.errno.ARES_ECANCELLED: "the resolver was closed",
    pycares.errno.ARES_EDESTRUCTION: "the resolver was closed",
}
_TYPE_NAMES = {
    pycares.QUERY_TYPE_A: "A",
    pycares.QUERY_TYPE_AAAA: "AAAA",
    pycares.QUERY_TYPE_CNAME: "CNAME",
    pycares.QUERY_TYPE_MX: "MX",
    pycares.QUERY_TYPE_PTR: "PTR",
    pycares.QUERY_TYPE_SRV: "SRV",
    pycares.QUERY_TYPE_TLSA: "TLSA",
    pycares.QUERY_TYPE_TXT: "TXT",
}


class CaresResolver:
    """A Resolver for one event loop: the one that runs at the first question."""

    def __init__(self, parameters: Parameters) -> None:
        self._flags = pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES
        if parameters.dns_edns:
            self._flags |= pycares.ARES_FLAG_EDNS
        if parameters.dns_transport == "tcp":
            self._flags |= pycares.ARES_FLAG_USEVC
        self._servers = parameters.dns_resolvers
        if self._servers and all(server.startswith(("127.", "[::1]")) for server in self._servers):
            # A port of its own for every question guards against forged answers, at a third of a look-up's cost;
            # nobody outside of this host can send an answer from the loopback.
            self._flags |= pycares.ARES_FLAG_STAYOPEN
        self._timeout_s = parameters.dns_timeout
        self._tries = parameters.dns_tries
        self._limit_s = parameters.dns_lookup_time_limit
        self._partial_ttl_s = parameters.dns_trouble_ttl
        protocols = parameters.inet_protocols
        every = "all" in protocols
        self._types = tuple(
            kind
            for kind, protocol in ((pycares.QUERY_TYPE_AAAA, "ipv6"), (pycares.QUERY_TYPE_A, "ipv4"))
            if every or protocol in protocols
        )
        self._channel: _Channel | None = None
        self._closed = False

    async def mx(self, name: str) -> Answer[Mx]:
        """Records whose exchange is no host name keep it as written: the router says why it skips them."""
        return await self._ask(
            name,
            pycares.QUERY_TYPE_MX,
            # "." and "" are both the root, which RFC 7505 §3 gives a meaning.
            lambda data: Mx(int(data.priority), _text(data.exchange).removesuffix(".").lower()),
        )

    async def srv(self, name: str) -> Answer[Srv]:
        """As mx(): a target that is no host name is kept as written, and the root is ""."""
        return await self._ask(
            name,
            pycares.QUERY_TYPE_SRV,
            lambda data: Srv(
                int(data.priority), int(data.weight), int(data.port), _text(data.target).removesuffix(".").lower()
            ),
        )

    async def txt(self, name: str) -> Answer[bytes]:
        """Each record's strings joined (RFC 7208 §3.3)."""
        return await self._ask(name, pycares.QUERY_TYPE_TXT, lambda data: bytes(data.data))

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._ask(
            name,
            pycares.QUERY_TYPE_TLSA,
            lambda data: Tlsa(
                int(data.cert_usage), int(data.selector), int(data.matching_type), bytes(data.cert_association_data)
            ),
        )

    async def cname(self, name: str) -> Answer[str]:
        return await self._ask(name, pycares.QUERY_TYPE_CNAME, lambda data: host_name(_text(data.cname)))

    async def ptr(self, address: str) -> Answer[str]:
        """Names that no host can have (blanks, control characters, HTML ...) are left out."""
        name = reverse_name(address)
        if name is None:
            return _NXDOMAIN
        return await self._ask(name, pycares.QUERY_TYPE_PTR, lambda data: host_name(_text(data.dname)))

    async def addresses(self, name: str) -> Answer[str]:
        """Both kinds are asked for at once. Addresses of one are good even where the other is in trouble."""
        asked = dns_name(name)
        if not asked:
            return _NXDOMAIN
        questions = [(self._start(asked, kind), kind) for kind in self._types]
        answers: list[Answer[str]] = []
        trouble: DnsTrouble | None = None
        for question, kind in questions:
            try:
                answers.append(_answer(await question, asked, kind, _address))
            except DnsTrouble as problem:
                trouble = problem
        found = [answer for answer in answers if answer.found is Found.RECORDS]
        if found:
            ttl_s = min(answer.ttl_s for answer in found)
            return Answer(
                Found.RECORDS,
                tuple(record for answer in found for record in answer.records),
                # What is missing will be asked for again soon.
                ttl_s=ttl_s if trouble is None else min(ttl_s, self._partial_ttl_s),
                partial=trouble is not None,
            )
        if trouble is not None:
            raise trouble
        # NXDOMAIN is about the name, whatever the type (RFC 8020 §2).
        return _NXDOMAIN if any(answer.found is Found.NXDOMAIN for answer in answers) else _NODATA

    async def close(self) -> None:
        self._closed = True
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _ask(self, name: str, kind: int, record: Callable[[Any], R | None]) -> Answer[R]:
        asked = dns_name(name)
        if not asked:
            return _NXDOMAIN
        return _answer(await self._start(asked, kind), asked, kind, record)

    def _start(self, name: str, kind: int) -> asyncio.Future[_Outcome]:
        channel = self._channel
        if channel is None or channel.asked >= _QUESTIONS_A_CHANNEL:
            channel = self._renew()
        return channel.ask(name, kind, self._limit_s)

    def _renew(self) -> _Channel:
        if self._closed:
            raise DnsTrouble("the resolver was closed")
        if self._channel is not None:
            self._channel.retire()
        self._channel = _Channel(
            flags=self._flags, timeout=self._timeout_s, tries=self._tries, servers=self._servers or None
        )
        return self._channel


class _Channel:
    """One c-ares channel, its sockets watched and its time-outs kept by the event loop."""

    def __init__(self, *, timeout: float, tries: int, asks_again: bool = True, **options: Any) -> None:
        self.asked = 0
        self._options = {"timeout": timeout, "tries": tries, **options}
        # To give up in less time than this is too early. c-ares takes longer when it keeps to its options.
        self._patience_s = timeout * tries / 2 if asks_again else 0.0
        self._again: set[_Channel] = set()  # that ask again what this one gave up too early
        self._loop = asyncio.get_running_loop()
        self._open: set[asyncio.Future[Any]] = set()
        self._watched: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._retired = self._closed = False
        try:
            self._cares = pycares.Channel(sock_state_cb=self._socket_changed, **self._options)
        except pycares.AresError as error:
            raise DnsTrouble(f"the resolver cannot be set up: {error}") from error

    def ask(self, name: str, kind: int, limit_s: float) -> asyncio.Future[_Outcome]:
        """Ask now; the outcome comes later, and a future that is cancelled only stops listening. Never raises."""
        loop = self._loop
        waiting: asyncio.Future[_Outcome] = loop.create_future()
        self._open.add(waiting)
        self.asked += 1
        limit: asyncio.TimerHandle | None = None
        patience_ends = loop.time() + self._patience_s

        def answered(result: Any, status: int | None) -> None:
            self._open.discard(waiting)
            if (
                status == pycares.errno.ARES_ETIMEOUT
                and loop.time() < patience_ends
                and not waiting.done()
                and self._ask_again(name, kind, limit_s, answered)
            ):
                return
            if limit is not None:
                limit.cancel()
            if not waiting.done():
                waiting.set_result((result, status))
            if self._retired and self._is_idle:
                loop.call_soon(self.close)

        def late() -> None:
            if not waiting.done():
                waiting.set_result((None, pycares.errno.ARES_ETIMEOUT))

        try:
            self._cares.query(name, kind, callback=answered)
        except pycares.AresError as error:
            # The callback may have been called with the same status already.
            answered(None, error.args[0])
        if waiting in self._open:
            limit = loop.call_later(limit_s, late)
            self._set_timer()
        return waiting

    def _ask_again(self, name: str, kind: int, limit_s: float, tell: Callable[[Any, int | None], None]) -> bool:
        """Ask by a channel of its own, which gives every try its whole time; False where it cannot be had.

        c-ares turns its time-outs down to a few times of what answers took lately, and no option stops it. But a
        name server that answers at once what it knows may need seconds for what it must ask others.
        """
        try:
            channel = _Channel(**self._options, asks_again=False)
        except DnsTrouble:
            return False
        self._again.add(channel)

        def done(future: asyncio.Future[_Outcome]) -> None:
            self._again.discard(channel)
            tell(*future.result())

        channel.ask(name, kind, limit_s).add_done_callback(done)
        channel.retire()
        return True

    @property
    def _is_idle(self) -> bool:
        return not self._open and not self._again

    def retire(self) -> None:
        """No more questions come: close when the open ones are answered."""
        self._retired = True
        if self._is_idle:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        # Everything that calls back does so here and now: what pycares does later it does in a thread of its own.
        self._cares.cancel()
        self._closed = True
        for channel in tuple(self._again):
            channel.close()
        if self._timer is not None:
            self._timer.cancel()
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._watched.clear()
        self._cares.close()

    def _socket_changed(self, descriptor: int, readable: bool, writable: bool) -> None:
        if self._closed:
            return
        loop = self._loop
        if readable or writable:
            self._watched.add(descriptor)
        else:
            self._watched.discard(descriptor)
        if readable:
            loop.add_reader(descriptor, self._process, descriptor, pycares.ARES_SOCKET_BAD)
        else:
            loop.remove_reader(descriptor)
        if writable:
            loop.add_writer(descriptor, self._process, pycares.ARES_SOCKET_BAD, descriptor)
        else:
            loop.remove_writer(descriptor)

    def _process(self, readable: int, writable: int) -> None:
        if not self._closed:
            self._cares.process_fd(readable, writable)
            if self._open:
                self._set_timer()

    def _set_timer(self) -> None:
        """Wake up when c-ares next wants to try again. A timer that is early enough stays."""
        wait_s: float = self._cares.timeout()  # type: ignore[no-untyped-call]
        now = time.monotonic()
        if self._timer is not None:
            if self._timer_at <= now + wait_s:
                return
            self._timer.cancel()
        self._timer_at = now + wait_s
        self._timer = self._loop.call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._process(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)


def _answer(outcome: _Outcome, name: str, kind: int, record: Callable[[Any], R | None]) -> Answer[R]:
    """The typed answer of an outcome; ``record`` makes a value of a record, or None to leave it out."""
    result, status = outcome
    if status is not None:
        if status == pycares.errno.ARES_ENOTFOUND:
            return _NXDOMAIN
        if status == pycares.errno.ARES_ENODATA:
            return _NODATA
        raise DnsTrouble(
            f"{name} {_TYPE_NAMES[kind]}: {_TROUBLES.get(status) or _text(pycares.errno.strerror(status))}"
        )
    if not result.answer:
        # "No error, no record" would be ENODATA: this is a response code that c-ares has no word for.
        raise DnsTrouble(f"{name} {_TYPE_NAMES[kind]}: unexpected answer")
    records: list[R] = []
    ttl_s: int | None = None
    for answer in result.answer:
        # A CNAME leads to the records and is none of them; they are together as good as the shortest-lived.
        ttl_s = answer.ttl if ttl_s is None else min(ttl_s, answer.ttl)
        if answer.type == kind and (value := record(answer.data)) is not None:
            records.append(value)
    return Answer(Found.RECORDS, tuple(records), ttl_s=float(ttl_s or 0)) if records else _NODATA


def _text(name: object) -> str:
    # pycares gives bytes where a name is not ASCII: a name that no host has.
    if isinstance(name, bytes):
        return name.decode("latin-1")
    return name if isinstance(name, str) else ""


def _address(data: Any) -> str:
    return str(data.addr)

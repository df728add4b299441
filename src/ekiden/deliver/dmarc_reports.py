"""Our aggregate reports: one a day to each domain that asks for it (RFC 9990).

In:   the counts, a Resolver for who wants reports where, a way to queue mail.
Out:  mail; every report to every place once, tried again for two days.
Never: sends a report on a day that is not over, sends one to a place outside that has not agreed, or from a host that
       has no domain of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from ekiden.auth.dmarc.discovery import Discovery
from ekiden.auth.dmarc.record import record_name, records_in
from ekiden.config.snapshot import Parameters
from ekiden.dns.name import dns_name, host_name
from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.clock import Clock
from ekiden.observe.events import Note, Observer
from ekiden.queue.store import StoreTrouble
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.aggregate_compose import Reporting, compose
from ekiden.reports.aggregate_write import AggregateMail, compose_mail, compressed
from ekiden.reports.collect import AggregateCounts
from ekiden.reports.destinations import Destination, Destinations, destinations
from ekiden.reports.mail_text import header_text
from ekiden.tls.tlsrpt import day_of

P = ParamSpec("P")
R = TypeVar("R")

_DAY_S = 86400.0
_DAYS_OF_TRIES = 2
_ASKED_AT_ONCE = 20  # domains; those whose servers do not answer are not to keep the others waiting
_CLAIM_S = 600.0  # a process that dies while it sends leaves its report to another after this long

# Sender, recipient, content in wire form; returns when the message is durable. Raises StoreTrouble.
Submit = Callable[[str, str, bytes], Awaitable[None]]

# Names that are nobody's on the Internet (RFC 2606, RFC 6761, RFC 6762): what comes from there cannot be authentic.
_NOBODYS = ("localdomain", "localhost", "local", "internal", "invalid", "lan", "home.arpa")


def sender_trouble(sender: str) -> str:
    """Why no report can leave with this sender; "" where one can."""
    domain = host_name(sender.rpartition("@")[2]) if "@" in sender else None
    if domain is None:
        return "is no address"
    if "." not in domain or any(f".{domain}".endswith(f".{name}") for name in _NOBODYS):
        return "is in no domain of the Internet"
    return ""


def reporting_of(parameters: Parameters) -> Reporting:
    return Reporting(
        parameters.dmarc_report_organization_name,
        parameters.dmarc_report_contact_info,
        parameters.myhostname,
        parameters.dmarc_report_extra_contact_info,
    )


def is_excluded(parameters: Parameters, domain: str) -> bool:
    """dmarc_report_excluded_domains has it, or one above it."""
    return any(
        f".{domain}".endswith(f".{name.lower().strip('.')}") for name in parameters.dmarc_report_excluded_domains
    )


class DmarcReporter:
    """Sends what is due."""

    def __init__(
        self,
        parameters: Parameters,
        counts: AggregateCounts,
        resolver: Resolver,
        submit: Submit,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._parameters = parameters
        self._counts = counts
        self._resolver = resolver
        self._submit = submit
        self._clock = clock
        self._observer = observer
        self._reporting = reporting_of(parameters)
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._composing = asyncio.Semaphore(1)  # a report of many records takes memory
        self.is_unfinished = False  # something is to be tried again

    async def send_due(self) -> int:
        """Report every day that is over; gives how many reports went out."""
        today = day_of(self._clock.time())
        due = await _aside(self._counts.due, today)
        if due and (trouble := sender_trouble(self._parameters.dmarc_report_sender)):
            self._note(f"no reports are sent: dmarc_report_sender {trouble}", "warning")
            for day, domain in due:
                await self._finish(day, domain)
            return 0
        sent = sum(await asyncio.gather(*(self._report(day, domain) for day, domain in due)))
        self.is_unfinished = bool(await _aside(self._counts.due, today))
        return sent

    async def _report(self, day: str, domain: str) -> int:
        if is_excluded(self._parameters, domain):
            await self._finish(day, domain)
            return 0
        try:
            async with self._asking:
                wanted = await self._destinations(domain)
        except DnsTrouble as trouble:
            self._note(f"report on {domain} of {day} waits: {trouble}")
            await self._give_up_if_old(day, domain, str(trouble))
            return 0
        async with self._composing:
            return await self._report_to(wanted, day, domain)

    async def _report_to(self, wanted: Destinations, day: str, domain: str) -> int:
        for refused in wanted.refused:
            self._note(f"no report on {domain} to {refused.uri[:200]}: {refused.reason}")
        counted = await _aside(self._counts.counted, day, domain) if wanted.accepted else None
        if counted is None or not counted.records:
            await self._finish(day, domain)
            return 0
        report = await _aside(compose, counted, self._reporting)
        packed = await _aside(compressed, report)
        sent, open_places = 0, 0
        for destination in wanted.accepted:
            went, is_open = await self._send(report, packed, day, domain, destination)
            sent += went
            open_places += is_open
        if open_places:
            await self._give_up_if_old(day, domain, "")
        else:
            await self._finish(day, domain)
        return sent

    async def _destinations(self, domain: str) -> Destinations:
        """Those of now: who has taken the wish back gets no more. Raises DnsTrouble."""
        name = dns_name(record_name(domain))
        records = records_in((await self._resolver.txt(name)).records) if name else []
        places = records[0].rua if len(records) == 1 else ()
        discovery = Discovery(self._resolver)
        return await destinations(self._resolver, places, domain, tag="rua", discovery=discovery)

    async def _send(
        self, report: AggregateReport, packed: bytes, day: str, domain: str, destination: Destination
    ) -> tuple[bool, bool]:
        """Whether it went out now; whether it is to be tried again."""
        counts, sender, to = self._counts, self._parameters.dmarc_report_sender, destination.mailbox
        now = self._clock.time()
        content = compose_mail(AggregateMail(report, sender, (to,), self._parameters.myhostname, now), packed)
        if not destination.takes(len(content)):
            self._note(f"report on {domain} of {day} to {to}: its {len(content)} bytes are more than are wanted there")
            return False, False
        if not await _aside(counts.claim, day, domain, to, now=now, lease_s=_CLAIM_S):
            return False, not await _aside(counts.was_sent, day, domain, to)
        try:
            await self._submit(sender, to, content)
        except StoreTrouble as trouble:
            await _aside(counts.release, day, domain, to)
            self._note(f"report on {domain} of {day} to {to}: {trouble}", "warning")
            return False, True
        await _aside(counts.sent, day, domain, to)
        self._note(f"report on {domain} of {day} sent to {to}: {report.messages} messages")
        return True, False

    async def _give_up_if_old(self, day: str, domain: str, why: str) -> None:
        if day < day_of(self._clock.time() - _DAYS_OF_TRIES * _DAY_S):
            self._note(f"report on {domain} of {day} is given up {why}".rstrip(), "warning")
            await self._finish(day, domain)

    async def _finish(self, day: str, domain: str) -> None:
        await _aside(self._counts.finish, day, domain, now=self._clock.time())

    def _note(self, text: str, level: str = "info") -> None:
        self._observer.emit(Note("dmarc", header_text(text), level))


async def _aside(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What would hold up the mail of this worker for more than a moment: the file, large reports."""
    return await asyncio.to_thread(work, *args, **kwargs)

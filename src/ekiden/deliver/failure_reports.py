"""Our failure reports: single messages that did not authenticate, told to domains that ask for it (RFC 9991).

In:   messages as their checks end, with their headers; a Resolver; a way to queue mail.
Out:  mail, within the limits of a domain and of the day; messages that fail alike within an hour are one report.
Never: waits for a message; keeps more than a few of them; shows local parts or names where redaction is on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from msgspec import Struct

from ekiden.auth.dmarc.discovery import Discovery
from ekiden.config.snapshot import Parameters
from ekiden.deliver.dmarc_reports import is_excluded, sender_trouble
from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.clock import Clock
from ekiden.observe.events import Note, Observer
from ekiden.queue.store import StoreTrouble
from ekiden.reports.collect import AggregateCounts, Evaluated
from ekiden.reports.destinations import destinations
from ekiden.reports.failure_write import HEADER_LIMIT_BYTES, Failure, FailureMail, compose_failure, failure_of
from ekiden.reports.mail_text import header_text
from ekiden.reports.redaction import Redaction
from ekiden.reports.request import parsed

_WAITING_LIMIT = 100
_ALIKE_LIMIT = 1000  # ways to fail that are remembered
_ALIKE_S = 3600.0

# Policy domain, client, what failed.
_Way = tuple[str, str, Failure]


class _Waiting(Struct, frozen=True):
    evaluated: Evaluated
    failure: Failure
    header: bytes
    incidents: int


class _Alike(Struct):
    """Messages that failed in one way since a report on one of them began to wait."""

    until: float
    since: int = 0


class FailureReporter:
    """``add`` notes what is to be told, ``send`` tells it."""

    def __init__(
        self,
        parameters: Parameters,
        counts: Callable[[], AggregateCounts],
        resolver: Resolver,
        submit: Callable[[str, str, bytes], Awaitable[None]],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._parameters = parameters
        self._counts = counts
        self._resolver = resolver
        self._submit = submit
        self._clock = clock
        self._observer = observer
        self._waiting: deque[_Waiting] = deque()
        self._alike: OrderedDict[_Way, _Alike] = OrderedDict()

    def add(self, evaluated: Evaluated, header: bytes) -> None:
        failure = failure_of(evaluated)
        dmarc = evaluated.verdicts.dmarc
        if failure is None or dmarc is None or is_excluded(self._parameters, dmarc.policy_domain):
            return
        incidents = self._incidents((dmarc.policy_domain, evaluated.client_address, failure))
        if incidents and len(self._waiting) < _WAITING_LIMIT:
            self._waiting.append(_Waiting(evaluated, failure, header[: HEADER_LIMIT_BYTES + 1], incidents))

    def _incidents(self, way: _Way) -> int:
        """How many messages a report would speak for; 0 where one of this hour already does (RFC 9991 §2)."""
        now = self._clock.monotonic()
        alike = self._alike.get(way)
        if alike is not None and now < alike.until:
            alike.since += 1
            return 0
        incidents = 1 if alike is None else alike.since + 1
        self._alike[way] = _Alike(now + _ALIKE_S)
        self._alike.move_to_end(way)
        if len(self._alike) > _ALIKE_LIMIT:
            self._alike.popitem(last=False)
        return incidents

    async def send(self) -> int:
        """Send what waits, as far as the limits allow; gives how many reports went out."""
        sent = 0
        while self._waiting:
            sent += await self._report(self._waiting.popleft())
        return sent

    async def _report(self, waiting: _Waiting) -> int:
        parameters = self._parameters
        dmarc = waiting.evaluated.verdicts.dmarc
        record = parsed(dmarc.record) if dmarc is not None else None
        if dmarc is None or record is None:
            return 0
        sender, domain = parameters.dmarc_report_sender, dmarc.policy_domain
        if trouble := sender_trouble(sender):
            self._note(f"no failure reports are sent: dmarc_report_sender {trouble}", "warning")
            return 0
        try:
            wanted = await destinations(
                self._resolver, record.ruf, domain, tag="ruf", discovery=Discovery(self._resolver)
            )
        except DnsTrouble as trouble_of_dns:
            self._note(f"no failure report on {domain}: {trouble_of_dns}")
            return 0
        redaction = await self._redaction()
        if not wanted.accepted or (redaction is None and parameters.dmarc_failure_report_redaction):
            return 0
        if not await asyncio.to_thread(
            self._counts().may_report_failure,
            domain,
            now=self._clock.time(),
            limit=parameters.dmarc_failure_report_limit,
            total=parameters.dmarc_failure_report_total_limit,
        ):
            return 0
        sent = 0
        for destination in wanted.accepted:
            content = await asyncio.to_thread(
                compose_failure,
                FailureMail(
                    waiting.evaluated,
                    waiting.failure,
                    waiting.header,
                    sender,
                    destination.mailbox,
                    parameters.myhostname,
                    parameters.authserv_id,
                    self._clock.time(),
                    redaction,
                    waiting.incidents,
                ),
            )
            if not destination.takes(len(content)):
                continue
            try:
                await self._submit(sender, destination.mailbox, content)
            except StoreTrouble as store_trouble:
                self._note(f"failure report on {domain} to {destination.mailbox}: {store_trouble}", "warning")
                continue
            sent += 1
            self._note(f"failure report on {domain} sent to {destination.mailbox}")
        return sent

    async def _redaction(self) -> Redaction | None:
        if not self._parameters.dmarc_failure_report_redaction:
            return None
        key = await asyncio.to_thread(self._counts().secret)
        return None if key is None else Redaction(key)

    def _note(self, text: str, level: str = "info") -> None:
        self._observer.emit(Note("dmarc", header_text(text), level))

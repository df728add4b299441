"""The delivery agent of mail that holds reports of others: DMARC aggregate and failure, complaints, TLS.

In:   messages to an address that asks for reports (rua=, ruf=, a feedback loop).
Out:  the reports, kept once (``ekiden reports``); what holds none goes back to its sender with the reason.
Never: keeps the event loop from its other work while it reads a large one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ekiden.config.snapshot import Parameters
from ekiden.deliver.agent import Agent
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, delivered, failed
from ekiden.message.status import OK, Status
from ekiden.queue.content import read
from ekiden.queue.store import StoreTrouble
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.archive import ArchiveLimits
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.proof import dmarc_proof
from ekiden.reports.received import Kept, ReceivedReport, ReceivedReports
from ekiden.reports.recognise import Found, ReportLimits, Steps, in_message
from ekiden.tls.tlsrpt import ReportError
from ekiden.tls.tlsrpt_store import Received, TlsrptStore

_SHOWN_CHARACTERS = 100


def report_limits(parameters: Parameters) -> ReportLimits:
    return ReportLimits(
        archive=ArchiveLimits(
            packed_bytes=parameters.received_report_size_limit,
            unpacked_bytes=parameters.received_report_unpacked_limit,
        ),
        records=parameters.received_report_record_limit,
        tls_bytes=parameters.tlsrpt_report_size_limit,
    )


class ReportsAgent(Agent):
    """``name`` is the transport's, for the log. Reports on TLS go to a store of their own."""

    def __init__(
        self, parameters: Parameters, reports: ReceivedReports, on_tls: TlsrptStore, clock: Clock, *, name: str
    ) -> None:
        self._size_limit = parameters.received_report_size_limit
        self._limits = report_limits(parameters)
        self._reports = reports
        self._on_tls = on_tls
        self._clock = clock
        self._authserv_id = parameters.authserv_id
        self._name = name

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        return [await self._deliver(request)] * len(request.recipients)

    async def _deliver(self, request: DeliveryRequest) -> DeliveryResult:
        size, name = request.content.size, self._name
        if size > self._size_limit:
            return failed(Status(5, 3, 4), f"a report of {size} bytes is too large", relay=name)
        try:
            content = await read(request.content)
        except StoreTrouble as trouble:
            return deferred(Status(4, 3, 0), f"cannot read the content: {trouble}", relay=name)
        try:
            found = await _in_turns(in_message(content, self._limits))
        except ReportError as error:
            return failed(Status(5, 6, 0), _shown(str(error)), relay=name)
        sender = str(request.envelope.sender)
        proven = dmarc_proof(content, self._authserv_id)
        outcomes = [(each, self._keep(each, sender, proven)) for each in found]
        text = "; ".join(f"{_title(each)} {outcome.value}" for each, outcome in outcomes)
        if any(outcome is Kept.TROUBLE for _, outcome in outcomes):
            return deferred(Status(4, 3, 0), text, relay=name)  # those that are kept are known when it comes again
        return delivered(OK, text, relay=name)

    def _keep(self, found: Found, sender: str, proven: bool | None) -> Kept:
        report, now = found.report, self._clock.time()
        if isinstance(report, AggregateReport | FeedbackReport):
            return self._reports.receive(ReceivedReport(now, sender, report, found.problems, proven))
        return Kept.KEPT if self._on_tls.receive(Received(now, sender, report)) else Kept.TROUBLE

    async def close(self) -> None:
        """The stores are not ours."""


async def _in_turns(steps: Steps) -> tuple[Found, ...]:
    """Raises ReportError."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found: tuple[Found, ...] = stop.value
            return found
        await asyncio.sleep(0)


def _title(found: Found) -> str:
    report = found.report
    if isinstance(report, AggregateReport):
        text = f"aggregate report {report.report_id!r} on {report.policy.domain}"
    elif isinstance(report, FeedbackReport):
        text = f"report {report.feedback_type} on {report.domain or 'a message'}"
    else:
        text = f"report {report.report_id!r} on TLS"
    return _shown(text)


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_SHOWN_CHARACTERS])

"""What one worker counts for reports of DMARC under one configuration, and the reports that leave it.

Nothing is opened or begun before something is to be counted or sent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.deliver.dmarc_reports import DmarcReporter
from ekiden.deliver.failure_reports import FailureReporter
from ekiden.dns.resolver import Resolver
from ekiden.message.clock import Clock
from ekiden.observe.events import Note, Observer
from ekiden.reports.collect import AggregateCounts, Evaluated

_REPORT_AGAIN_S = 3600.0  # between two tries of reports that could not be sent
_LATE_COUNTS_S = 300.0  # after midnight: by then every worker has written what it counted before
_DAY_S = 86400.0


def counts_of(parameters: Parameters, *, warn: Callable[[str], None]) -> AggregateCounts:
    """The file that all workers share."""
    return AggregateCounts(
        Path(parameters.queue_directory) / "reports" / "dmarc.sqlite",
        limit=parameters.dmarc_report_store_limit,
        record_limit=parameters.dmarc_report_record_limit,
        domain_limit=parameters.dmarc_report_domain_limit,
        warn=warn,
    )


class DmarcReports:
    def __init__(
        self,
        parameters: Parameters,
        *,
        resolver: Resolver,
        submit: Callable[[str, str, bytes], Awaitable[None]],
        clock: Clock,
        observer: Observer,
        rng: random.Random | None = None,
    ) -> None:
        self._parameters = parameters
        self._resolver = resolver
        self._submit = submit
        self._clock = clock
        self._observer = observer
        self._random = rng if rng is not None else random.Random()
        self._report_at = clock.time() + self._delay_s()
        self._reporting: asyncio.Task[int] | None = None
        self._failures: FailureReporter | None = None
        if parameters.dmarc_failure_reports:
            self._failures = FailureReporter(parameters, lambda: self.counts, resolver, submit, clock, observer)

    @cached_property
    def counts(self) -> AggregateCounts:
        return counts_of(self._parameters, warn=self._warn)

    @property
    def counts_mail(self) -> bool:
        """Whether anybody is told of any message."""
        return self._parameters.dmarc_aggregate_reports or self._failures is not None

    def add(self, evaluated: Evaluated, header: bytes = b"") -> None:
        """Count a message whose checks are done, with its header as it came. Never waits."""
        if self._parameters.dmarc_aggregate_reports:
            self.counts.add(evaluated)
        if self._failures is not None:
            self._failures.add(evaluated, header)

    async def tick(self, *, first: bool) -> None:
        """What is to be done from time to time. ``first``: of all workers this one does what one of them must."""
        await self.flush()
        if self._failures is not None:
            await self._failures.send()
        if not first or not self._parameters.dmarc_aggregate_reports or self._clock.time() < self._report_at:
            return
        if self._reporting is None or self._reporting.done():
            # Thousands of domains may want reports: what ticks for other reasons does not wait for all of them.
            self._reporting = asyncio.ensure_future(self.report())
            self._reporting.add_done_callback(self._ended)

    async def flush(self) -> None:
        """Write what was counted, without holding up mail."""
        if "counts" not in self.__dict__:
            return
        waiting = self.counts.take()
        if waiting.policies and not await asyncio.to_thread(self.counts.write, waiting):
            self.counts.put_back(waiting)

    async def report(self) -> int:
        """Send the reports that are due; gives their number."""
        await self.flush()
        reporter = DmarcReporter(
            self._parameters, self.counts, self._resolver, self._submit, self._clock, self._observer
        )
        now = self._clock.time()
        self._report_at = now + _REPORT_AGAIN_S
        sent = await reporter.send_due()
        if not reporter.is_unfinished:
            self._report_at = now - now % _DAY_S + _DAY_S + _LATE_COUNTS_S + self._delay_s()
        return sent

    async def close(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if "counts" in self.__dict__:
            self.counts.close()

    def _ended(self, reporting: asyncio.Task[int]) -> None:
        if not reporting.cancelled() and (error := reporting.exception()) is not None:
            self._warn(f"reports are tried again later: {type(error).__name__}: {error}")

    def _delay_s(self) -> float:
        return self._random.uniform(0, self._parameters.dmarc_report_delay_limit)

    def _warn(self, text: str) -> None:
        self._observer.emit(Note("dmarc", text, "warning"))

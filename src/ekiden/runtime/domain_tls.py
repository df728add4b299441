"""What one worker knows of TLS with other domains under one configuration: policies, and what is counted and reported.

Nothing is opened, asked or begun before an agent wants it.
"""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path

from ekiden import __version__
from ekiden.config.snapshot import Parameters
from ekiden.deliver.smtp_security import Policies
from ekiden.deliver.tls_policies import Configured, DomainPolicies, dane_rules
from ekiden.deliver.tlsrpt_reports import Reporter
from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.clock import Clock
from ekiden.observe.events import Note, Observer
from ekiden.protocol.http import HttpResponse
from ekiden.tls.https import HttpsClient, HttpsTrouble, authorities_context
from ekiden.tls.sts_cache import StsCache
from ekiden.tls.sts_discovery import StsDiscovery
from ekiden.tls.tlsrpt_store import TlsrptStore

REFRESH_S = 600.0  # between two looks for policies that are old
_REPORT_AGAIN_S = 3600.0  # between two tries of reports that could not be sent
_DAY_S = 86400.0


class DomainTls:
    """``resolver`` answers ordinary questions; ``secure_resolver`` gives the one that knows what is authentic."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        resolver: Resolver,
        secure_resolver: Callable[[], Resolver],
        submit: Callable[[str, str, bytes], Awaitable[None]],
        clock: Clock,
        observer: Observer,
        rng: random.Random | None = None,
        https_port: int = 443,
        makes_files: bool = True,
    ) -> None:
        """``makes_files`` False: what is not there already is kept in memory (a command may run as another user)."""
        self._parameters = parameters
        self._resolver = resolver
        self._secure_resolver = secure_resolver
        self._submit = submit
        self._clock = clock
        self._observer = observer
        self._https_port = https_port
        self._makes_files = makes_files
        self._random = rng if rng is not None else random.Random()
        self._directory = Path(parameters.queue_directory) / "tls"
        self._refresh_at = clock.monotonic() + REFRESH_S
        self._report_at = clock.time() + self._delay_s()
        self._context: ssl.SSLContext | None = None

    def policies(self, parameters: Parameters, prefix: str) -> Policies:
        """For an agent with these parameters; ``prefix``: smtp or lmtp. MTA-STS and reports are about SMTP alone."""
        rules = dane_rules(parameters, prefix)
        resolver = self._secure_resolver() if rules.has_dnssec else self._resolver
        mode = parameters.smtp_mta_sts_policy if prefix == "smtp" else "none"
        counts = self.store if prefix == "smtp" and parameters.smtp_tlsrpt_enable else None

        def in_front_of(configured: Configured) -> DomainPolicies:
            return DomainPolicies(
                configured,
                rules,
                resolver,
                sts=self.discovery if mode != "none" else None,
                only_tests=mode == "testing",
                counts=counts,
                counts_resumed=not parameters.smtp_tlsrpt_skip_reused_handshakes,
            )

        return in_front_of

    @cached_property
    def discovery(self) -> StsDiscovery:
        """The MTA-STS policies of domains."""
        limit = self._parameters.smtp_mta_sts_cache_limit
        path = self._directory / "mta-sts.sqlite"
        if not self._makes_files and not os.access(path, os.W_OK):
            path = Path(":memory:")
        cache = StsCache(path, limit=limit, warn=self._warn)
        return StsDiscovery(self._parameters, self._resolver, cache, self._fetch, self._clock, self._warn)

    @cached_property
    def store(self) -> TlsrptStore:
        """What is counted for reports."""
        parameters = self._parameters
        return TlsrptStore(
            self._directory / "tlsrpt.sqlite",
            limit=parameters.tlsrpt_store_limit,
            time=self._clock.time,
            warn=self._warn,
            received_s=parameters.received_report_retention_time,
            received_bytes=parameters.received_report_store_limit,
        )

    async def tick(self, *, first: bool) -> None:
        """What is to be done from time to time. ``first``: of all workers this one does what one of them must."""
        if "store" in self.__dict__:
            self.store.flush()
        if not first:
            return
        if "discovery" in self.__dict__ and self._clock.monotonic() >= self._refresh_at:
            self._refresh_at = self._clock.monotonic() + REFRESH_S
            await self.discovery.refresh()
        if self._parameters.smtp_tlsrpt_enable and self._clock.time() >= self._report_at:
            await self.report()

    async def report(self) -> int:
        """Send the reports that are due; gives their number."""
        try:
            client = self._client(self._parameters.tlsrpt_timeout)
        except HttpsTrouble as trouble:
            self._warn(str(trouble))
            self._report_at = self._clock.time() + _REPORT_AGAIN_S
            return 0
        reporter = Reporter(
            self._parameters, self.store, self._resolver, client, self._submit, self._clock, self._observer
        )
        sent = await reporter.send_due()
        now = self._clock.time()
        if reporter.is_unfinished:
            self._report_at = now + _REPORT_AGAIN_S
        else:
            self._report_at = now - now % _DAY_S + _DAY_S + self._delay_s()
        return sent

    async def close(self) -> None:
        if "discovery" in self.__dict__:
            await self.discovery.close()
        if "store" in self.__dict__:
            self.store.close()

    async def _fetch(self, host: str, path: str) -> HttpResponse:
        client = self._client(self._parameters.smtp_mta_sts_timeout)
        return await client.get(host, path, limit=self._parameters.smtp_mta_sts_size_limit)

    def _client(self, timeout_s: float) -> HttpsClient:
        """Raises HttpsTrouble."""
        if self._context is None:
            parameters = self._parameters
            try:
                self._context = authorities_context(parameters.smtp_tls_CAfile, parameters.smtp_tls_CApath)
            except OSError as error:  # ssl.SSLError is one
                raise HttpsTrouble(f"smtp_tls_CAfile or smtp_tls_CApath: {error}") from error
        return HttpsClient(
            self._context,
            self._addresses,
            timeout_s=timeout_s,
            port=self._https_port,
            agent=f"Ekiden/{__version__}",
        )

    async def _addresses(self, host: str) -> Sequence[str]:
        try:
            return (await self._resolver.addresses(host)).records
        except DnsTrouble as trouble:
            raise OSError(str(trouble)) from trouble

    def _delay_s(self) -> float:
        return self._random.uniform(0, self._parameters.tlsrpt_delay_limit)

    def _warn(self, text: str) -> None:
        self._observer.emit(Note("smtp", text, "warning"))

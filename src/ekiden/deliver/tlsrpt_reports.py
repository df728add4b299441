"""Our reports on TLS, one a day to each domain that asks for it (RFC 8460).

In:   the counts, a Resolver for who wants reports where, a way to queue mail, a way to post by HTTPS.
Out:  mail and posts; every report to every place once, tried again for two days.
Never: sends a report on a day that is not over, tells a domain of another.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Awaitable, Callable

from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.clock import Clock
from ekiden.observe.events import Note, Observer
from ekiden.queue.store import StoreTrouble
from ekiden.tls.https import HttpsClient, HttpsTrouble
from ekiden.tls.tlsrpt import Report, compose, compressed, day_of
from ekiden.tls.tlsrpt_mail import ReportMail, compose_mail
from ekiden.tls.tlsrpt_record import https_of, mailbox_of, record_name, report_places
from ekiden.tls.tlsrpt_store import TlsrptStore
from ekiden.tls.txt_fields import RecordError

_DAY_S = 86400.0
_DAYS_OF_TRIES = 2
_ANSWER_LIMIT_BYTES = 64 * 1024

# Sender, recipient, content in wire form; returns when the message is durable. Raises StoreTrouble.
Submit = Callable[[str, str, bytes], Awaitable[None]]


class Reporter:
    """Sends what is due."""

    def __init__(
        self,
        parameters: Parameters,
        store: TlsrptStore,
        resolver: Resolver,
        https: HttpsClient,
        submit: Submit,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._parameters = parameters
        self._store = store
        self._resolver = resolver
        self._https = https
        self._submit = submit
        self._clock = clock
        self._observer = observer
        self.is_unfinished = False  # something is to be tried again

    async def send_due(self) -> int:
        """Report every day that is over; gives how many reports went out."""
        self._store.flush()
        today = day_of(self._clock.time())
        sent = 0
        for day, domain in self._store.domains(today):
            sent += await self._report(day, domain)
        self.is_unfinished = bool(self._store.domains(today))
        return sent

    async def _report(self, day: str, domain: str) -> int:
        try:
            places = report_places((await self._resolver.txt(record_name(domain))).records)
        except DnsTrouble as trouble:
            self._give_up_if_old(day, domain, str(trouble))
            return 0
        except RecordError as error:
            self._note(f"{domain}: {error}")
            places = ()
        if not places:
            self._store.forget(day, domain)
            return 0
        parameters = self._parameters
        report = compose(
            day,
            domain,
            self._store.counts(day, domain),
            organization=parameters.tlsrpt_organization_name,
            contact=parameters.tlsrpt_contact_info,
            host=parameters.myhostname,
        )
        sent, open_places = 0, 0
        for place in places:
            if self._store.was_reported(day, domain, place):
                continue
            problem = await self._send(report, day, domain, place)
            if problem:
                open_places += 1
                self._note(f"report on {domain} of {day} to {place}: {problem}", "warning")
            else:
                sent += 1
                self._store.reported(day, domain, place)
                self._note(f"report on {domain} of {day} sent to {place}")
        if open_places:
            self._give_up_if_old(day, domain, "")
        else:
            self._store.forget(day, domain)
        return sent

    async def _send(self, report: Report, day: str, domain: str, place: str) -> str:
        """Why it failed; "" when it did not."""
        mailbox, https = mailbox_of(place), https_of(place)
        if mailbox is not None:
            begins = calendar.timegm(time.strptime(day, "%Y-%m-%d"))
            parameters = self._parameters
            mail = ReportMail(
                report,
                parameters.tlsrpt_sender,
                mailbox,
                parameters.myhostname,
                domain,
                self._clock.time(),
                begins,
                begins + int(_DAY_S) - 1,
            )
            try:
                await self._submit(parameters.tlsrpt_sender, mailbox, compose_mail(mail))
            except StoreTrouble as trouble:
                return str(trouble)
            return ""
        if https is None:
            return ""
        host, port, path = https
        try:
            answer = await self._https.post(
                host,
                path,
                compressed(report),
                limit=_ANSWER_LIMIT_BYTES,
                fields={"Content-Type": "application/tlsrpt+gzip"},
                port=port,
            )
        except HttpsTrouble as trouble:
            return str(trouble)
        return "" if 200 <= answer.status < 300 else f"{host}: status {answer.status}"

    def _give_up_if_old(self, day: str, domain: str, why: str) -> None:
        if day < day_of(self._clock.time() - _DAYS_OF_TRIES * _DAY_S):
            self._note(f"report on {domain} of {day} is given up {why}".rstrip(), "warning")
            self._store.forget(day, domain)

    def _note(self, text: str, level: str = "info") -> None:
        self._observer.emit(Note("tlsrpt", text, level))

"""Whether the stations of a worker can be made from a configuration, as start and reload make them.

Part of ``ekiden check``, beside config.check and tables.check, which know parameters and tables alone.

In:   a configuration.
Out:  problems of level error, each with the line to mend.
Never: opens a connection, starts anything, touches the queue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.problem import Level, Problem
from ekiden.config.services import LISTENING
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.pipe_service import parse_pipe_service
from ekiden.observe.events import Event
from ekiden.policy.client_limits import LocalCounts
from ekiden.runtime.client_tls_check import check_client_tls
from ekiden.runtime.dnssec_check import check_dnssec
from ekiden.runtime.stations import Doors, Stations
from ekiden.runtime.system_clock import SystemClock

_PARAMETER = re.compile(r"([a-z][a-z0-9_]*)(?: =|:)")


def check_stations(configuration: Configuration) -> list[Problem]:
    """All that is wrong with pipe services; with them right, what else keeps a station from being made."""
    found = list(_pipes(configuration)) or list(_stations(configuration))
    return found or [*check_client_tls(configuration), *check_dnssec(configuration)]


def _pipes(configuration: Configuration) -> Iterator[Problem]:
    for service in configuration.services:
        if service.command != "pipe":
            continue
        try:
            parse_pipe_service(service.name, service.args)
        except ConfigError as error:
            yield _problem(configuration, error, service)


def _stations(configuration: Configuration) -> Iterator[Problem]:
    try:
        stations = Stations(configuration, _closed_doors())
    except ConfigError as error:
        yield _problem(configuration, error)
        return
    for service in configuration.services:
        if service.command not in (*LISTENING, "pickup"):
            continue
        try:
            stations.smtp_service(service)
        except ConfigError as error:
            yield _problem(configuration, error, service)


def _problem(configuration: Configuration, error: ConfigError, service: Service | None = None) -> Problem:
    """At the line that the error names, or that sets the parameter which its text begins with, or of the service."""
    file, line = error.file, error.line
    named = _PARAMETER.match(error.text)
    overridden = service is not None and named is not None and named[1] in service.overrides
    if not file and named is not None and not overridden:
        file, line = configuration.place(named[1])
    if not file:
        place = (configuration.master_cf, service.line) if service is not None and service.line else None
        file, line = place or (configuration.main_cf, 0)
    return Problem(file, line, Level.ERROR, error.text)


def _closed_doors() -> Doors:
    """For stations that no mail goes through."""

    def closed(*_: object) -> NoReturn:
        raise AssertionError("stations that are only looked at move no mail")

    return Doors(
        intake=closed,
        content_writer=closed,
        has_space=closed,
        new_queue_id=closed,
        mailboxes=MailboxChannel(job_limit=1, restart_wait_s=0),
        counts=LocalCounts(),
        observer=_Silence(),
        clock=SystemClock(),
        flush_site=closed,
    )


class _Silence:
    def emit(self, event: Event) -> None:
        pass

"""What is added to every refusal, for the people who read it (smtpd_reject_footer, smtpd_reject_footer_maps)."""

from __future__ import annotations

import time

from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.macros import expand_macros
from ekiden.message.clock import Clock
from ekiden.message.envelope import Client
from ekiden.message.reply import Reply
from ekiden.observe.events import Note, Observer
from ekiden.tables.open import open_tables
from ekiden.tables.table import TableTrouble

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class RejectFooter:
    """Raises ConfigError when a table cannot be had."""

    def __init__(self, parameters: Parameters, clock: Clock, observer: Observer) -> None:
        self._template = parameters.smtpd_reject_footer
        self._maps = open_tables(parameters.smtpd_reject_footer_maps, parameters=parameters)
        self._hostname = parameters.myhostname
        self._allowed = parameters.smtpd_expansion_filter
        self._clock = clock
        self._observer = observer

    async def add(self, answer: Reply, client: Client) -> Reply:
        """``answer`` with its footer. A template that cannot be used is left out, and the log says why."""
        template = self._template
        try:
            template = await self._maps.lookup(answer.text) or template
        except TableTrouble as trouble:
            self._warn(str(trouble))
        if not template:
            return answer
        joins = template.startswith("\\c")
        try:
            expanded = expand_macros(template[2 if joins else 0 :], self._values(client), allowed=self._allowed)
        except ValueError as error:
            self._warn(str(error))
            return answer
        if not expanded.is_whole:
            known = ", ".join(sorted(self._values(client)))
            self._warn(f"a name in {template!r} has no value; footers know {known}")
            return answer
        footer = [_printable(line) for line in expanded.text.split("\\n")]
        lines = list(answer.lines)
        if joins:
            lines[-1] += footer.pop(0)
        return structs.replace(answer, lines=(*lines, *footer))

    def _values(self, client: Client) -> dict[str, str]:
        now = time.localtime(self._clock.time())
        return {
            "client_address": client.address,
            "client_port": str(client.port),
            "localtime": time.strftime(f"{_MONTHS[now.tm_mon - 1]} %d %H:%M:%S", now),
            "server_name": self._hostname,
        }

    def _warn(self, text: str) -> None:
        self._observer.emit(Note("smtpd", f"smtpd_reject_footer: {text}", "warning"))


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else " " for char in line)

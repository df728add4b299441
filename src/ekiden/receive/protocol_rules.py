"""What the parameters of a service mean for the protocol core, which knows neither parameters nor tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.reply import Reply, reply
from ekiden.observe.events import Note, Observer
from ekiden.protocol.smtp.limits import RFC_PATH_LIMITS, Limits, PathLimits
from ekiden.protocol.smtp.printable import printable
from ekiden.protocol.smtp.verbs import Encryption, Rules
from ekiden.tables.at_once import look_up_at_once
from ekiden.tables.open import is_table, open_table
from ekiden.tables.questions import waits
from ekiden.tables.table import Table, TableTrouble

_FILTER_TROUBLE = reply(451, "4.3.0", "Error: a lookup table is not available")


def protocol_rules(
    parameters: Parameters,
    observer: Observer,
    *,
    has_login: bool = False,
    is_lmtp: bool = False,
    encryption: Encryption = Encryption.NONE,
) -> Rules:
    """``encryption``: what STARTTLS is in the session.

    Raises ConfigError when a table that a parameter names cannot be had.
    """
    limits = Limits(
        command_line_bytes=parameters.line_length_limit,
        auth_line_bytes=parameters.smtpd_sasl_response_limit,
        refused_chunk_bytes=parameters.smtpd_refused_chunk_limit,
        path=RFC_PATH_LIMITS if parameters.strict_rfc821_envelopes else PathLimits(),
    )

    def opener(word: str) -> Table:
        if waits(word):
            raise ConfigError(f"{word}: a table of SMTP commands must lie on this host, in memory or in a file")
        return open_table(word, parameters=parameters)

    noops = parameters.smtpd_noop_commands
    filter_name = parameters.smtpd_command_filter
    return Rules(
        limits,
        parameters.message_size_limit,
        parameters.strict_rfc821_envelopes,
        soft_bounce=parameters.soft_bounce,
        is_noop=CommandList(noops, observer, opener).holds if noops else None,
        is_forbidden=CommandList(parameters.smtpd_forbidden_commands, observer, opener).holds,
        filter_line=CommandFilter(opener(filter_name), observer).apply if filter_name else None,
        forbids_early_input=parameters.smtpd_forbid_unauth_pipelining,
        bare_newline_code=parameters.smtpd_forbid_bare_newline_reject_code,
        has_login=has_login,
        is_lmtp=is_lmtp,
        encryption=encryption,
    )


class CommandList:
    """A match list of verbs: words in any case, tables, and ``!`` for an exception; the first that fits decides."""

    def __init__(self, words: Sequence[str], observer: Observer, opener: Callable[[str], Table]) -> None:
        self._observer = observer
        self._steps: list[tuple[bool, bytes | Table]] = []
        for word in words:
            included, name = not word.startswith("!"), word.lstrip("!")
            self._steps.append((included, opener(name) if is_table(name) else name.upper().encode()))

    def holds(self, verb: bytes) -> bool:
        """``verb`` is in upper case. A table in trouble is passed over, and said in the log."""
        for included, step in self._steps:
            if isinstance(step, bytes):
                if step == verb:
                    return included
                continue
            try:
                if look_up_at_once(step, printable(verb)) is not None:
                    return included
            except TableTrouble as trouble:
                self._observer.emit(Note("smtpd", str(trouble), "warning"))
        return False


class CommandFilter:
    """``smtpd_command_filter``: a table from what a client says to what is taken for it."""

    def __init__(self, table: Table, observer: Observer) -> None:
        self._table, self._observer = table, observer

    def apply(self, line: bytes) -> bytes | Reply:
        text = line.decode("utf-8", "surrogateescape")
        try:
            found = look_up_at_once(self._table, text)
        except TableTrouble as trouble:
            self._observer.emit(Note("smtpd", f"smtpd_command_filter: {trouble}", "warning"))
            return _FILTER_TROUBLE
        if found is None:
            return line
        if line[:5].upper() == b"AUTH ":
            line = b"AUTH ..."  # what else stands there is for nobody's eyes
        executed = found.encode("utf-8", "surrogateescape")
        shown = f'"{printable(line, 100)}" with "{printable(executed, 100)}"'
        self._observer.emit(Note("smtpd", f"replacing client command {shown}"))
        return executed

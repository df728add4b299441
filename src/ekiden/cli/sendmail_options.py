"""The options of sendmail(1): what each word of the command line means, also those that have no meaning any more.

Errors: UsageError, whose text is for who called.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from pathlib import Path

from ekiden.cli.getopt import BadOption, getopt

_LETTERS = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:tvx"
# Notify (RFC 3461 §4.1) as bits; the values are those of message.envelope.Notify.
_LONGEST_ENVELOPE_ID = 100  # RFC 3461 §4.4
_NOTIFY = {"never": 0, "failure": 1, "delay": 2, "success": 4}


class UsageError(Exception):
    pass


class Mode(enum.Enum):
    DELIVER = "m"
    LIST = "p"
    ALIASES = "i"
    SMTP = "s"
    DAEMON = "d"
    FLUSH = "q"
    NOTHING = "h"  # -bh, -bH: there is no host status to show or purge


_MODES = {
    "m": Mode.DELIVER, "p": Mode.LIST, "i": Mode.ALIASES, "s": Mode.SMTP, "d": Mode.DAEMON, "l": Mode.DAEMON,
    "h": Mode.NOTHING, "H": Mode.NOTHING,
}  # fmt: skip


class Options:
    def __init__(self, arguments: Sequence[str]) -> None:
        self.mode = Mode.DELIVER
        self.config: str | None = None
        self.sender: str | None = None
        self.full_name = os.environ.get("NAME", "")
        self.from_header = False  # -t
        self.dot_ends = True  # without -i a line with a dot alone ends the message
        self.body_8bit = False
        self.notify: int | None = None
        self.ret = ""  # FULL, HDRS, or not said
        self.envelope_id = ""
        self.flush: tuple[str, ...] = ()  # what postqueue is to be asked
        self.alias_database = ""
        self.warnings: list[str] = []
        try:
            options, self.recipients = getopt(self._without_q(arguments), _LETTERS)
        except BadOption as error:
            raise UsageError(f"{error}; usage: sendmail [options] [recipient...]; see the manual") from error
        for letter, value in options:
            self._take(letter, value)
        if self.from_header and self.mode is not Mode.DELIVER:
            raise UsageError("-t can be used only in delivery mode")
        if self.recipients and self.mode in (Mode.LIST, Mode.FLUSH, Mode.SMTP):
            raise UsageError("this mode requires no recipient")

    def _without_q(self, arguments: Sequence[str]) -> list[str]:
        """``-q`` has a value or none, in the same word only; it is taken out here."""
        kept: list[str] = []
        for at, word in enumerate(arguments):
            if word == "--":
                return [*kept, *arguments[at:]]
            if word.startswith("-q"):
                self._queue(word[2:])
            else:
                kept.append(word)
        return kept

    def _queue(self, value: str) -> None:
        if value[:1].isdigit():  # an interval: the server looks at the queue by itself
            self.mode = Mode.DAEMON
            return
        if value[:1] == "S":
            raise UsageError("-qS is not implemented")
        if value[:1] not in ("", "I", "R"):
            raise UsageError(f"-q{value}: use -q, -qIqueue_id or -qRsite")
        self.mode = Mode.FLUSH
        self.flush = {"": ("-f",), "I": ("-i", value[1:]), "R": ("-s", value[1:])}[value[:1]]

    def _take(self, letter: str, value: str) -> None:
        match letter:
            case "b":
                self._choose_mode(value)
            case "I":
                self.mode = Mode.ALIASES
            case "C":
                self.config = str(Path(value).parent) if value.endswith(".cf") else value
            case "f" | "r":
                self.sender = value
            case "F":
                self.full_name = value
            case "t":
                self.from_header = True
            case "i":
                self.dot_ends = False
            case "o":
                self._old_option(value)
            case "B":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    raise UsageError("-B option needs 8BITMIME or 7BIT")
                self.body_8bit = value.upper() == "8BITMIME"
            case "N":
                self._notify(value)
            case "R":
                if value.lower() not in ("full", "hdrs"):
                    self.warnings.append("bad -R option value -- ignored")
                else:
                    self.ret = value.upper()
            case "V":
                if not value.isascii() or not value.isprintable() or len(value) > _LONGEST_ENVELOPE_ID:
                    raise UsageError("bad -V option value")
                self.envelope_id = value
            case "X":
                if value.startswith("V"):
                    raise UsageError("-XV: an envelope sender for each recipient (VERP) is not there yet")
                raise UsageError(f"unsupported: -X{value}")
            case "v":
                self.warnings.append("-v sends no report of the first delivery: the mail log tells of it")
            case "n":
                raise UsageError("-n option not supported")
            case _:
                pass  # -A -G -L -O -U -c -e -h -m -p -x have had their time

    def _choose_mode(self, value: str) -> None:
        if value == "v":
            raise UsageError("-bv: recipients are not verified yet; send them a message, and the mail log tells")
        if value not in _MODES:
            raise UsageError(f"unsupported: -b{value}")
        self.mode = _MODES[value]

    def _old_option(self, value: str) -> None:
        if value == "i":
            self.dot_ends = False
        elif value.startswith("A"):
            self.alias_database = value[1:]
            if not self.alias_database:
                raise UsageError("-oA requires pathname")

    def _notify(self, value: str) -> None:
        words = value.lower().replace(",", " ").split()
        if not words or not set(words) <= _NOTIFY.keys() or ("never" in words and len(words) > 1):
            self.warnings.append(f'bad -N option value "{value}" -- ignored')
            return
        self.notify = sum(_NOTIFY[word] for word in set(words))

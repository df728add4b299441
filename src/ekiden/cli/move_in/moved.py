"""What an importer makes of another server's configuration: files for a directory of ours, and a report.

Every setting that an importer meets gets exactly one finding, so that nothing is lost without a word.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

_SHOWN = 120


class MoveTrouble(Exception):
    """There is nothing at the given path that this importer can read."""


class Verdict(enum.Enum):
    CARRIED = "carried"  # it means the same here
    CHANGED = "changed"  # it is there in another form, or means nearly the same
    LEFT = "not carried"


class Finding(Struct, frozen=True):
    """``place`` is ``file:line`` or a file; ``setting`` is what stands there, shortened."""

    place: str
    setting: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.verdict.value:<12} {self.place}: {self.setting}\n{'':<13}{self.text}"


class Moved:
    """A configuration that grows while an importer reads. ``directory`` is where it will lie."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.findings: list[Finding] = []
        self.files: dict[str, str] = {}
        self.services: list[str] = []  # lines of master.cf
        self._values: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}

    # -- main.cf

    def set(self, name: str, value: str) -> None:
        """``name = value``; a later value takes the place of an earlier one."""
        self._lists.pop(name, None)
        self._values[name] = value.strip()

    def add(self, name: str, *words: str) -> None:
        """Add members to a list; each is there once."""
        self._values.pop(name, None)
        members = self._lists.setdefault(name, [])
        members += [word for word in dict.fromkeys(words) if word and word not in members]

    def has(self, name: str) -> bool:
        return name in self._values or name in self._lists

    def members(self, name: str) -> tuple[str, ...]:
        return tuple(self._lists.get(name, ()))

    # -- other files

    def table(self, file: str, entries: Iterable[tuple[str, str]], kind: str = "hash") -> str:
        """Write a lookup table and return the name that main.cf gives it."""
        rows = list(entries)
        width = max((len(key) for key, _ in rows), default=0)
        self.files[file] = "".join(f"{key:<{width}}  {value}\n" for key, value in rows)
        return f"{kind}:{self.directory / file}"

    # -- the report

    def carried(self, place: str, setting: str, text: str) -> None:
        self._find(place, setting, Verdict.CARRIED, text)

    def changed(self, place: str, setting: str, text: str) -> None:
        self._find(place, setting, Verdict.CHANGED, text)

    def left(self, place: str, setting: str, text: str) -> None:
        self._find(place, setting, Verdict.LEFT, text)

    def _find(self, place: str, setting: str, verdict: Verdict, text: str) -> None:
        line = " ".join(setting.split())
        shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
        self.findings.append(Finding(place, shown, verdict, text))

    # -- the result

    def main_cf(self, origin: str) -> str:
        lines = [f"# Made by `ekiden import` from {origin}. The file REPORT says what became of each setting.", ""]
        for name in sorted({*self._values, *self._lists}):
            value = self._values.get(name)
            lines.append(f"{name} = {', '.join(self._lists[name]) if value is None else value}".rstrip())
        return "\n".join(lines) + "\n"

    def master_cf(self) -> str:
        return "".join(f"{line}\n" for line in self.services)

    def report(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict.value}" for verdict in Verdict)
        return "".join(f"{finding}\n" for finding in self._sorted()) + f"\n{len(self.findings)} settings: {counts}\n"

    def count(self, verdict: Verdict) -> int:
        return sum(1 for finding in self.findings if finding.verdict is verdict)

    def _sorted(self) -> Iterator[Finding]:
        """What needs a look first."""
        for verdict in (Verdict.LEFT, Verdict.CHANGED, Verdict.CARRIED):
            yield from (finding for finding in self.findings if finding.verdict is verdict)


def read_text(path: Path) -> str:
    """A file of another server, in whatever encoding. Raises MoveTrouble."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise MoveTrouble(f"{path}: {error.strerror or error}") from error


def plain_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file with their numbers, without comments, empty lines and white space around them."""
    lines = enumerate(read_text(path).splitlines(), 1)
    return [(number, text) for number, line in lines if (text := line.partition("#")[0].strip())]


# The lines that every server needs to be reached; what is built in needs no line (config.services).
def smtp_listener(address: str = "", port: str = "smtp", *options: str) -> str:
    """A line of master.cf; an IPv6 address is given bare."""
    host = f"[{address}]:" if ":" in address else f"{address}:" if address else ""
    return " ".join([f"{host}{port:<10} inet  n - n - - smtpd", *(f"-o {option}" for option in options)])


def is_network(word: str) -> bool:
    return re.fullmatch(r"[0-9.]+(/[0-9]+)?|[0-9a-fA-F:]*:[0-9a-fA-F:]*(/[0-9]+)?|IPv6:.*", word) is not None


def network(word: str) -> str:
    """``192.168`` and ``192.168.`` are 192.168.0.0/16 for sendmail and tcpserver."""
    if ":" in word:
        address, slash, length = word.removeprefix("IPv6:").partition("/")
        return f"[{address}]{slash}{length}"
    if "/" in word:
        return word
    parts = word.strip(".").split(".")
    return word if len(parts) == 4 else ".".join(parts + ["0"] * (4 - len(parts))) + f"/{8 * len(parts)}"

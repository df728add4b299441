"""What the parts of the sendmail importer share: the configuration that grows, and what was read so far."""

from __future__ import annotations

from pathlib import Path

from ekiden.cli.move_in.m4 import Call
from ekiden.cli.move_in.moved import Moved


class Reader:
    """``file`` is the sendmail.mc. Each macro call is reported once, by carried(), changed(), left() or set()."""

    def __init__(self, file: Path, moved: Moved) -> None:
        self.file = file
        self.moved = moved
        self.features: set[str] = set()
        self.procmail = "/usr/bin/procmail"
        self.masquerade_as = ""
        self.masqueraded: list[str] = []
        self.exposed: list[str] = []
        self.has_daemon_options = False

    def carried(self, call: Call, text: str) -> None:
        self.moved.carried(self._place(call), str(call), text)

    def changed(self, call: Call, text: str) -> None:
        self.moved.changed(self._place(call), str(call), text)

    def left(self, call: Call, text: str) -> None:
        self.moved.left(self._place(call), str(call), text)

    def set(self, call: Call, name: str, value: str) -> None:
        self.moved.set(name, value)
        self.carried(call, f"{name} = {value}")

    def beside(self, path: Path) -> Path:
        """A file that sendmail.mc names by its place in /etc lies beside sendmail.mc in the tree that is imported."""
        near = self.file.parent / path.name
        return near if near.exists() else path

    def _place(self, call: Call) -> str:
        return f"{self.file}:{call.line}"


def pair(text: str) -> tuple[str, str]:
    """The first word, and the rest."""
    first, *rest = text.split(None, 1)
    return first, rest[0] if rest else ""

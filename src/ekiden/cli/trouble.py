"""How a command fails: one clear line on standard error and an exit code of sysexits.h, never a traceback."""

from __future__ import annotations


class CommandTrouble(Exception):
    """Ends the command with ``code``; the text is the line to show."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

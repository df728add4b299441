"""How a command fails: one clear line on standard error and an exit code of sysexits.h, never a traceback."""

from __future__ import annotations

import sys


class CommandTrouble(Exception):
    """Ends the command with ``code``; the text is the line to show."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def complain(program: str, text: str) -> None:
    """One line on standard error, as all commands write it: ``postsuper: fatal: ...``."""
    print(f"{program}: {text}", file=sys.stderr)

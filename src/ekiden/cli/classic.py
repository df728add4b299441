"""The classic names: which module does the work of each, whichever way it was called.

A program is one of them by the name that it was called by (a link), by a script that ``ekiden install-names`` wrote,
or as ``ekiden NAME``. The modules are imported when they are called, so that each command starts fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

# Each module has main(arguments) -> exit code.
COMMANDS = {
    "mailq": "ekiden.cli.mailq",
    "newaliases": "ekiden.cli.newaliases",
    "postalias": "ekiden.cli.postalias",
    "postcat": "ekiden.cli.postcat",
    "postconf": "ekiden.cli.postconf",
    "postfix": "ekiden.cli.postfix",
    "postmap": "ekiden.cli.postmap",
    "postqueue": "ekiden.cli.postqueue",
    "postsuper": "ekiden.cli.postsuper",
    "sendmail": "ekiden.cli.sendmail",
}


def called_as(program: str) -> str | None:
    """The classic command that a program's name stands for: ``/usr/sbin/sendmail``, ``ekiden-sendmail``."""
    name = program.rpartition("/")[2].removeprefix("ekiden-")
    return name if name in COMMANDS else None


def run(name: str, arguments: Sequence[str]) -> int:
    """The exit code of the command. Raises KeyError for a name that is none of ours."""
    command: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[name]).main
    try:
        return command(arguments)
    except KeyboardInterrupt:
        return 130

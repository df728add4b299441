"""postconf(1): shows what main.cf and master.cf say, in Postfix's format, and changes them.

What Ekiden honours has Ekiden's default, anything else of Postfix has Postfix's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, field

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.trouble import CommandTrouble, complain
from ekiden.config.directory import find_directory
from ekiden.config.errors import ConfigError
from ekiden.config.expand import ExpansionError

_USAGE = (
    "usage: postconf [-defFhHlmMnpPvxX#] [-aA] [-c config_dir] [-C class,...] [-o name=value] "
    "[-T mode] [name[=value]...]"
)
_LETTERS = "aAbc:C:defFhHlmMno:pPtT:vxX#"
_NAME = re.compile(r"[A-Za-z0-9_]+")
_CLASSES = ("builtin", "service", "user", "all")
LINE_WIDTH = 80
INDENT = "    "


class Request(Struct):
    """What was asked for: the letters of the options, and their values."""

    letters: set[str]
    names: list[str]
    directory: Path
    named_directory: bool  # by -c
    overrides: dict[str, str] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    mode: str = ""  # of -T

    def __contains__(self, letter: str) -> bool:
        return letter in self.letters

    @property
    def edits(self) -> bool:
        return bool(self.letters & {"e", "X", "#"}) or any("=" in name for name in self.names)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        request = _request(sys.argv[1:] if arguments is None else arguments)
        _run(request)
        sys.stdout.flush()
        return os.EX_OK
    except BadOption as error:
        complain("postconf", str(error))
        complain("postconf", f"fatal: {_USAGE}")
    except (CommandTrouble, ConfigError, ExpansionError) as error:
        complain("postconf", f"fatal: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    except OSError as error:
        complain("postconf", f"fatal: {error.filename}: {error.strerror}")
    return 1


def _request(arguments: Sequence[str]) -> Request:
    options, names = getopt(arguments, _LETTERS)
    config = next((value for letter, value in reversed(options) if letter == "c"), None)
    request = Request({letter for letter, _ in options}, names, find_directory(config, os.environ), config is not None)
    for letter, value in options:
        match letter:
            case "o":
                name, equals, text = value.partition("=")
                if not equals or _NAME.fullmatch(name.strip()) is None:
                    raise fatal(f'-o: write name=value instead of "{value}"')
                request.overrides[name.strip()] = text.strip()
            case "C":
                request.classes |= set(value.replace(",", " ").split())
                if unknown := request.classes - set(_CLASSES):
                    raise fatal(f"unknown class {', '.join(sorted(unknown))}: the classes are {', '.join(_CLASSES)}")
            case "T":
                request.mode = value
            case _:
                pass
    for one, other in (("h", "H"), ("e", "X"), ("e", "#"), ("X", "#"), ("d", "n"), ("M", "F"), ("M", "P"), ("F", "P")):
        if one in request and other in request:
            raise fatal(f"specify one of -{one} -{other}")
    return request


def _run(request: Request) -> None:
    for letter, what in (("b", "bounce templates"), ("t", "bounce templates")):
        if letter in request:
            raise fatal(f"-{letter}: {what} are not there yet")
    if "l" in request:
        from ekiden.config.parameters.delivery import MAILBOX_LOCKS

        _say(sorted(MAILBOX_LOCKS, reverse=True))
    elif "m" in request:
        from ekiden.tables.open import TABLE_TYPES

        _say(TABLE_TYPES)
    elif "a" in request:
        from ekiden.config.parameters.accounts import AccountParameters

        _say(AccountParameters.smtpd_sasl_type.choices)
    elif "A" in request:
        _say(["cyrus"])  # what smtp_sasl_type is called; the client is our own
    elif "T" in request:
        _tls(request.mode)
    elif request.letters & {"M", "F", "P"}:
        from ekiden.cli.postconf_master import run

        run(request)
    elif request.edits:
        from ekiden.cli.postconf_main import edit

        edit(request)
    else:
        from ekiden.cli.postconf_main import show

        show(request)


def _tls(mode: str) -> None:
    import ssl

    if mode not in ("compile-version", "run-version"):
        raise fatal(f"-T {mode}: the modes are compile-version and run-version")
    _say([ssl.OPENSSL_VERSION])


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)


def fatal(text: str) -> CommandTrouble:
    return CommandTrouble(1, text)


def shown(name: str, value: str, request: Request) -> str:
    """A line of output (several with -f): runs of white space in the value count as one blank."""
    words = value.split()
    if "H" in request:
        return name
    label = "" if "h" in request else f"{name} ="
    if "f" not in request:
        return " ".join([label, *words] if label else words)
    lines: list[str] = []
    line = label
    for word in words:
        if line and len(line) + len(word) >= LINE_WIDTH:
            lines.append(line)
            line = INDENT + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


if __name__ == "__main__":
    sys.exit(main())

"""Reads main.cf (postconf(5), "main.cf file format").

In:   the text of the file.
Out:  the settings with their lines, not yet expanded, and what is wrong; of two settings of one name the last holds.
Never: raises; a line that cannot be understood is a problem of level error, and is left out.
"""

from __future__ import annotations

import re

from msgspec import Struct

from ekiden.config.lines import LogicalLine, logical_lines
from ekiden.config.problem import Level, Problem

# A name may be anything that $name can refer to; Postfix's own names are no wider.
_NAME = re.compile(r"[A-Za-z0-9_]+(?:[-.][A-Za-z0-9_]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SHOWN = 60


class Setting(Struct, frozen=True):
    name: str
    text: str  # the value as written, continuation lines joined
    line: int


class MainCf(Struct, frozen=True):
    settings: dict[str, Setting] = {}
    problems: tuple[Problem, ...] = ()


def read_main_cf(text: str, file: str) -> MainCf:
    """The settings of a main.cf; ``file`` is its name for the problems."""
    settings: dict[str, Setting] = {}
    problems: list[Problem] = []
    for line in logical_lines(text):
        name, equals, value = line.text.partition("=")
        name = name.strip()
        wrong = _wrong(line, name, equals)
        if wrong:
            problems.append(Problem(file, line.number, Level.ERROR, wrong))
            continue
        if name in settings:
            earlier = f"{name} is set twice: what line {settings[name].line} says is lost"
            problems.append(Problem(file, line.number, Level.WARNING, earlier))
        settings[name] = Setting(name, value.replace("\n", "").strip(), line.number)
    return MainCf(settings, tuple(problems))


def _wrong(line: LogicalLine, name: str, equals: str) -> str:
    if line.orphan:
        return "this line begins with white space, but there is no line above that it could continue"
    if _CONTROL.search(line.text):
        return "there is a control character in this line"
    if not equals:
        return f"{shown(line.text)} has no '=': write name = value"
    if _NAME.fullmatch(name) is None:
        return f"{shown(name)} is not a name: write name = value"
    return ""


def shown(text: str) -> str:
    """The beginning of a text that may be anything, for a message."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")

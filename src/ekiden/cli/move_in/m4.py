"""Reads the macro calls of a sendmail.mc: the part of m4 that such files are written in.

In:   text.
Out:  calls with their arguments (quotes removed), raw lines (LOCAL_CONFIG and below, divert(-1) text left out).
Law:  any text gives calls and lines or nothing; never raises; work is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Macros that take the rest of the file, up to the next call of a macro in capitals, as lines of sendmail.cf.
_RAW = frozenset({"LOCAL_CONFIG", "LOCAL_RULE_0", "LOCAL_RULE_1", "LOCAL_RULE_2", "LOCAL_RULE_3", "LOCAL_RULESETS",
                  "LOCAL_NET_CONFIG", "MAILER_DEFINITIONS"})  # fmt: skip


class Call(Struct, frozen=True):
    """``name(`a', `b')``; a raw line has the name of its section and the line as its only argument."""

    line: int
    name: str
    arguments: tuple[str, ...] = ()
    is_raw: bool = False

    def __str__(self) -> str:
        if self.is_raw:
            return f"{self.name}: {self.arguments[0]}"
        quoted = ", ".join(f"`{argument}'" for argument in self.arguments)
        return f"{self.name}({quoted})" if self.arguments else self.name


def calls(text: str) -> Iterator[Call]:
    at, line, section = 0, 1, ""
    line_start = True
    while at < len(text):
        char = text[at]
        if char == "\n":
            at, line, line_start = at + 1, line + 1, True
            continue
        found = _WORD.match(text, at)
        if found is None:
            if line_start and section and not char.isspace():
                end = _line_end(text, at)
                yield Call(line, section, (text[at:end].removesuffix("dnl").strip(),), is_raw=True)
                at = end
                continue
            if char == "#" and not section:  # a comment of sendmail.cf, which m4 passes on
                at = _line_end(text, at)
                continue
            at, line_start = at + 1, line_start and char.isspace()
            continue
        name, end = found[0], found.end()
        if name == "dnl":
            at = _line_end(text, end)
            continue
        has_arguments = end < len(text) and text[end] == "("
        if section and not (has_arguments and name.isupper()) and name not in _RAW:
            # Inside a section every line is sendmail.cf's; a call in capitals ends it.
            if line_start:
                stop = _line_end(text, at)
                yield Call(line, section, (text[at:stop].removesuffix("dnl").strip(),), is_raw=True)
                at = stop
            else:
                at = end
            continue
        if has_arguments:
            arguments, stop = _arguments(text, end + 1)
            yield Call(line, name, arguments)
            line += text.count("\n", end, stop)
            at, section, line_start = stop, "", False
        else:
            section = name if name in _RAW else section
            at, line_start = end, False


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _arguments(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """The arguments that begin at ``at``, and the place behind the closing parenthesis (or the text's end)."""
    arguments: list[str] = []
    word: list[str] = []
    depth = quotes = 0
    while at < len(text):
        char = text[at]
        if char == "`":
            quotes += 1
            if quotes > 1:
                word.append(char)
        elif char == "'" and quotes:
            quotes -= 1
            if quotes:
                word.append(char)
        elif quotes:
            word.append(char)
        elif char == "(":
            depth += 1
            word.append(char)
        elif char == ")" and depth == 0:
            arguments.append("".join(word))
            return _cleaned(arguments), at + 1
        elif char == "," and depth == 0:
            arguments.append("".join(word))
            word = []
        else:
            depth -= char == ")"
            word.append(char)
        at += 1
    arguments.append("".join(word))
    return _cleaned(arguments), at


def _cleaned(arguments: list[str]) -> tuple[str, ...]:
    """Inner quotes do nothing more for us: ``8:12'' is 8:12."""
    return tuple(argument.strip().strip("`'").strip() for argument in arguments)

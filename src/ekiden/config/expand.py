"""``$name`` expansion in parameter values (postconf(5), "main.cf configuration parameters").

========================================  =====================================================================
``$name`` ``${name}`` ``$(name)``         the value of name, itself expanded; nothing where name is not defined
``${name?text}`` ``${name:text}``         text where name is set to something; where it is not
``${name?{text}:{text}}``                 one or the other
``${{text} == {text}?{text}:{text}}``     also != < <= >= >; without branches: ``true`` or nothing
``${{text} <level {text}...}``            numbers of versions, such as 3.6 and 3.10; ``<length`` compares lengths
``${domain_to_ascii{text}}``              the A-labels of a domain; ``domain_to_utf8`` the other way
``$$``                                    a dollar
========================================  =====================================================================

Whether a name is set is a question to its text as written: one that expands to nothing is set.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9_]+")
_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|[{(][ \t\r\n\f\v]*([A-Za-z0-9_]+)[ \t\r\n\f\v]*([?:{]?))")
_OPERATOR = re.compile(r"[<>=!]+")
_SUFFIX = re.compile(r"[A-Za-z0-9_]*")
_LEVEL = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:\.([0-9]{1,4}))?")
_BLANKS = " \t\r\n\f\v"
_PAIRS = {"{": re.compile(r"[{}]"), "(": re.compile(r"[()]")}
_SHOWN = 60

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip

FUNCTIONS = frozenset({"domain_to_ascii", "domain_to_utf8"})

# What one value may cost. Far beyond any real configuration; without them ten short lines could fill the memory.
REFERENCE_LIMIT = 10_000
DEPTH_LIMIT = 100
LENGTH_LIMIT = 1_048_576
WORK_LIMIT = 4 * LENGTH_LIMIT  # characters looked at, those of texts that are looked at again and again included

Lookup = Callable[[str], str | None]


class ExpansionError(ValueError):
    """An expression that cannot be read, or a reference back to itself or without end."""


def expand(text: str, lookup: Lookup, *, recursive: bool = True, missing: set[str] | None = None) -> str:
    """``text`` with every expression replaced by its value. ``lookup`` gives a name's text, None where it has none.

    Values are expanded in their turn unless ``recursive`` is False, which values that others wrote need. Names whose
    text was wanted (not only asked for, as ``${name?`` does) and that have none are added to ``missing``.
    Raises ExpansionError.
    """
    return _Expansion(lookup, recursive, missing).expand(text) if "$" in text else text


def references(text: str, *, tested: bool = True) -> list[str]:
    """The names that ``text`` refers to; without those of ``${name?`` and ``${name:`` if ``tested`` is False."""
    found = []
    for plain, bracketed, follows in _REFERENCE.findall(text):
        if (name := plain or bracketed) and follows != "{" and (tested or not follows):
            found.append(name)
    return found


class _Expansion:
    def __init__(self, lookup: Lookup, recursive: bool, missing: set[str] | None = None) -> None:
        self._lookup, self._recursive = lookup, recursive
        self._missing = missing
        self._inside: list[str] = []
        self._depth = 0
        self._references = 0
        self._length = 0
        self._work = 0

    def expand(self, text: str) -> str:
        if "$" not in text:
            return text
        self._work += len(text)
        if self._work > WORK_LIMIT:
            raise ExpansionError("this value refers to too much text")
        if self._depth >= DEPTH_LIMIT:
            raise ExpansionError(
                f"${self._inside[-1]} refers to too many others" if self._inside else "nested too deep"
            )
        self._depth += 1
        out: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            out.append(text[at:dollar])
            at = dollar + 2
            opening = text[dollar + 1 : at]
            if opening == "$":
                out.append("$")
            elif opening in _PAIRS:
                end = _closing(text, dollar + 1)
                out.append(self._expression(text[at : end - 1].lstrip(_BLANKS)))
                at = end
            else:
                name = _NAME.match(text, dollar + 1)
                if name is None:
                    raise ExpansionError(f"there is no name behind the $ of {_shown(text[dollar:])}; $$ is a dollar")
                out.append(self._value(name[0]))
                at = name.end()
        out.append(text[at:])
        self._depth -= 1
        return "".join(out)

    def _value(self, name: str) -> str:
        if name in self._inside:
            raise ExpansionError(f"${name} refers to itself through {' -> '.join((*self._inside, name))}")
        raw = self._lookup(name)
        if raw is None:
            if self._missing is not None:
                self._missing.add(name)
            return ""
        self._references += 1
        if self._references > REFERENCE_LIMIT:
            raise ExpansionError(f"${name} refers to too many others")
        if self._recursive:
            self._inside.append(name)
            raw = self.expand(raw)
            self._inside.pop()
        self._length += len(raw)
        if self._length > LENGTH_LIMIT:
            raise ExpansionError(f"${name} makes the value longer than {LENGTH_LIMIT} characters")
        return raw

    def _expression(self, text: str) -> str:
        """The value of what stands between ``${`` and ``}``, white space at its beginning removed."""
        if text.startswith("{"):
            holds, at = self._relation(text)
            rest = text[at:].lstrip(_BLANKS)
            return self._branch(holds, rest) if rest else "true" if holds else ""
        name = _NAME.match(text)
        if name is None:
            raise ExpansionError(f"{_shown(text)} does not begin with a name: write ${{name}}")
        rest = text[name.end() :].lstrip(_BLANKS)
        if not rest:
            return self._value(name[0])
        if rest[0] == "{":
            return self._function(name[0], rest)
        if rest[0] not in "?:":
            raise ExpansionError(f"{_shown(rest)} behind the name {name[0]}: write ? or : or the closing bracket")
        return self._branch(bool(self._lookup(name[0])), rest)

    def _relation(self, text: str) -> tuple[bool, int]:
        """``{text} == {text}`` at the beginning of ``text``: whether it holds, and where it ends."""
        left, at = _braced(text, 0)
        sign = _OPERATOR.match(text, _skip(text, at))
        if sign is None or sign[0] not in _COMPARE:
            raise ExpansionError(f"{_shown(text[at:])} must begin with one of == != < <= >= >")
        suffix = _SUFFIX.match(text, sign.end())
        assert suffix is not None
        at = _skip(text, suffix.end())
        if text[at : at + 1] != "{":
            raise ExpansionError(f"{_shown(text[at:])} must begin with a text in braces to compare with")
        right, at = _braced(text, at)
        return _holds(self.expand(left), sign[0], suffix[0], self.expand(right)), at

    def _branch(self, holds: bool, text: str) -> str:
        """The chosen part of ``?{text}:{text}``, ``?text`` or ``:text``."""
        if text[0] not in "?:":
            raise ExpansionError(f"{_shown(text)} must begin with ? or :")
        first, rest = _alternative(text[1:])
        if text[0] == ":":
            if rest:
                raise ExpansionError(f"{_shown(rest)} behind the last of the alternatives")
            return "" if holds else self.expand(first)
        second = ""
        if rest:
            if rest[0] != ":":
                raise ExpansionError(f"{_shown(rest)} must begin with : and the other alternative")
            second, rest = _alternative(rest[1:])
            if rest:
                raise ExpansionError(f"{_shown(rest)} behind the last of the alternatives")
        return self.expand(first if holds else second)

    def _function(self, name: str, text: str) -> str:
        if name not in FUNCTIONS:
            known = " and ".join(sorted(FUNCTIONS))
            raise ExpansionError(f"there is no function {name}: the functions are {known}")
        argument, at = _braced(text, 0)
        if text[at:].strip(_BLANKS):
            raise ExpansionError(f"{_shown(text[at:])} behind the argument of {name}")
        domain = self.expand(argument.strip(_BLANKS))
        import idna  # late: a few milliseconds of tables that hardly any configuration needs

        try:
            if name == "domain_to_ascii":
                return domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
            return idna.decode(domain, uts46=True) if domain.isascii() else domain
        except (idna.IDNAError, UnicodeError) as error:
            raise ExpansionError(f"{name}: {_shown(domain)} is not a domain: {error}") from error


def _closing(text: str, start: int) -> int:
    """The place behind the bracket that closes the one at ``start``."""
    depth = 0
    for found in _PAIRS[text[start]].finditer(text, start):
        depth += 1 if found[0] == text[start] else -1
        if depth == 0:
            return found.end()
    raise ExpansionError(f"{_shown(text[start:])}: this bracket is not closed")


def _braced(text: str, start: int) -> tuple[str, int]:
    """The text in the braces at ``start``, and the place behind them."""
    end = _closing(text, start)
    return text[start + 1 : end - 1], end


def _alternative(text: str) -> tuple[str, str]:
    """What stands behind a ``?`` or ``:``, and what follows: a text in braces, else all there is."""
    start = _skip(text, 0)
    if text[start : start + 1] != "{":
        return text, ""
    inner, end = _braced(text, start)
    return inner, text[end:].lstrip(_BLANKS)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _holds(left: str, sign: str, suffix: str, right: str) -> bool:
    compare = _COMPARE[sign]
    if suffix == "level":
        return compare(_level(left), _level(right))
    if suffix == "length":
        return compare(len(left), len(right))
    if suffix:
        raise ExpansionError(f"{sign}{suffix}: only 'level' and 'length' may stand behind {sign}")
    if left.isascii() and left.isdigit() and right.isascii() and right.isdigit():
        return compare(_number(left), _number(right))
    return compare(left, right)


def _number(digits: str) -> tuple[int, str]:
    """Compares as the number does, whatever its length."""
    digits = digits.lstrip("0")
    return len(digits), digits


def _level(text: str) -> tuple[int, ...]:
    """A version such as 3.6. Raises ExpansionError."""
    found = _LEVEL.fullmatch(text.strip(_BLANKS))
    if found is None:
        raise ExpansionError(f"{_shown(text)} is not a version: write something like 3.6")
    return tuple(int(part or 0) for part in found.groups())


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")

"""What regexp, pcre and cidr tables have in common: ordered rules, ``if`` and ``endif`` around some of them.

The first rule that fits answers. Rules between an ``if`` that does not fit and its ``endif`` are passed over. A line
that cannot be used is a problem with its number, and the other rules hold, as with Postfix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from ekiden.config.lines import logical_lines
from ekiden.config.registry import split_words
from ekiden.tables.files import Watched, absolute, findings, warn_of
from ekiden.tables.table import Finding, Opening, TableTrouble

K_contra = TypeVar("K_contra", contravariant=True)


class Test(Protocol[K_contra]):
    """One rule's condition. ``answer`` gives the value if the key fits; an ``if`` has any text for a value."""

    def answer(self, key: K_contra) -> str | None: ...


class RuleProblem(Exception):
    """Why a line cannot be used."""


class Rule(Struct, Generic[K_contra]):
    test: Test[K_contra]
    is_if: bool = False
    skip_to: int = 0  # of an ``if``: the index of the rule behind its ``endif``
    line: int = 0


class Rules(Generic[K_contra]):
    """Rules in their order, with problems as (line, text) in the order in which they are found."""

    def __init__(self) -> None:
        self.rules: list[Rule[K_contra]] = []
        self.problems: list[tuple[int, str]] = []
        self._open: list[tuple[int, int]] = []  # ``if``s without their ``endif`` yet: index of the rule, line

    def add(self, test: Test[K_contra], line: int) -> None:
        self.rules.append(Rule(test, line=line))

    def begin(self, test: Test[K_contra], line: int) -> None:
        self._open.append((len(self.rules), line))
        self.rules.append(Rule(test, True, line=line))

    def end(self) -> bool:
        """False when there is no ``if`` to end."""
        if not self._open:
            return False
        self.rules[self._open.pop()[0]].skip_to = len(self.rules)
        return True

    def finish(self) -> None:
        """An ``if`` without ``endif`` reaches to the end of the table."""
        while self._open:
            index, line = self._open.pop()
            self.rules[index].skip_to = len(self.rules)
            self.problems.append((line, "IF has no matching ENDIF"))

    def answer(self, key: K_contra) -> str | None:
        found = self.find(key)
        return None if found is None else found[0]

    def find(self, key: K_contra) -> tuple[str, int] | None:
        """The value, and the line of the rule that gives it."""
        at = 0
        while at < len(self.rules):
            rule = self.rules[at]
            value = rule.test.answer(key)
            if rule.is_if:
                at = at + 1 if value is not None else rule.skip_to
            elif value is not None:
                return value, rule.line
            else:
                at += 1
        return None


def rule_lines(text: str, problems: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The logical lines of a table of rules, with their numbers."""
    for line in logical_lines(text):
        body = line.text.replace("\n", "")
        if line.orphan:
            problems.append((line.number, f'logical line must not start with whitespace: "{body[:30]}"'))
            continue
        yield line.number, body


class RuleSource(Generic[K_contra]):
    """Where the rules of a table come from: a file, read again when it changes, or the table's name itself."""

    def __init__(self, kind: str, text: str, parse: Callable[[str], Rules[K_contra]], opening: Opening) -> None:
        """``text``: a path, or ``{ {rule}, {rule} ... }``. Raises ConfigError."""
        self.name = f"{kind}:{text}"
        self._label, self._text, self._parse = f"{kind} map", text, parse
        self._inline: Rules[K_contra] | None = None
        if text.startswith("{") and text.endswith("}"):
            lines = (word[1:-1].strip() if word.startswith("{") else word for word in split_words(text[1:-1]))
            self._inline = parse("\n".join(lines))
            warn_of(self._label, text, self._inline.problems)
        else:
            path = Path(absolute(kind, text))
            self._watched = Watched(self.name, [path], self._read_and_warn, opening)

    def rules(self) -> Rules[K_contra]:
        """Raises TableTrouble."""
        return self._inline if self._inline is not None else self._watched.get()

    def place(self, line: int) -> str:
        """``file:line``; the name of a table that is written out where it is used."""
        return self.name if self._inline is not None else f"{self._text}:{line}"

    def check(self) -> list[Finding]:
        """Raises TableTrouble."""
        if self._inline is not None:
            return findings(self.name, self._inline.problems)
        try:
            return findings(self._text, self._read().problems)
        except OSError as error:
            raise TableTrouble(f"{self.name}: {error.strerror or error}") from error

    def _read_and_warn(self) -> Rules[K_contra]:
        rules = self._read()
        warn_of(self._label, self._text, rules.problems)
        return rules

    def _read(self) -> Rules[K_contra]:
        return self._parse(Path(self._text).read_text("utf-8", "surrogateescape"))


def negations(text: str) -> tuple[bool, str]:
    """Whether an odd number of ``!`` stands in front, and what is behind them."""
    negated = False
    while text.startswith("!"):
        negated, text = not negated, text[1:].lstrip()
    return negated, text


def is_statement(line: str, word: str) -> bool:
    """Whether a line begins with ``word`` (in lower case), and not with a longer word."""
    return line[: len(word)].lower() == word and not line[len(word) : len(word) + 1].isalnum()

"""``regexp:/path`` and ``pcre:/path``: rules for texts (regexp_table(5), pcre_table(5)).

``/pattern/flags result``, ``!/pattern/``, ``if`` and ``endif``; ``$1`` in the result is what the first pair of
parentheses took. What differs between the two types is the language of the patterns: tables.regexp and tables.pcre
translate each to that of Python.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable

from msgspec import Struct

from ekiden.tables.budget import BudgetSpent, within
from ekiden.tables.dialect import Dialect, Pattern, PatternProblem
from ekiden.tables.rules import RuleProblem, Rules, RuleSource, is_statement, negations, rule_lines
from ekiden.tables.source import FilesTrouble, contents_of
from ekiden.tables.table import Finding, Opening, Table, TableTrouble

_NAME_CHARACTERS = re.compile(r"[A-Za-z0-9_]*")
_BLANKS = " \t\r\f\v"

# Pieces of a result: literal text, or the number of a group of Python's pattern.
Pieces = tuple[str | int, ...]


class PatternTest(Struct, frozen=True):
    search: Callable[[str], re.Match[str] | None]
    negated: bool
    pieces: Pieces

    def answer(self, key: str) -> str | None:
        found = self.search(key)
        if (found is None) is not self.negated:
            return None
        if found is None or self.negated:
            return "".join(map(str, self.pieces))
        return "".join(piece if isinstance(piece, str) else found[piece] or "" for piece in self.pieces)


def parse_patterns(text: str, dialect: Dialect, *, files: bool = False) -> Rules[str]:
    """The rules of a text, which may be anything."""
    rules = Rules[str]()
    for number, line in rule_lines(text, rules.problems):
        try:
            _statement(line, number, rules, dialect, files)
        except RuleProblem as problem:
            rules.problems.append((number, str(problem)))
    rules.finish()
    return rules


def _statement(line: str, number: int, rules: Rules[str], dialect: Dialect, files: bool) -> None:
    if is_statement(line, "if"):
        negated, rest = negations(line[2:].lstrip())
        pattern, rest = _pattern(rest, dialect)
        if rest:
            rules.problems.append((number, f'ignoring extra text after IF statement: "{rest}"'))
            rules.problems.append((number, "do not prepend whitespace to statements between IF and ENDIF"))
        rules.begin(PatternTest(_compiled(pattern), negated, ()), number)
    elif is_statement(line, "endif"):
        if line[5:].strip(_BLANKS):
            rules.problems.append((number, "ignoring extra text after ENDIF"))
        if not rules.end():
            raise RuleProblem("ignoring ENDIF without matching IF")
    elif line[0].isalnum():
        raise RuleProblem("ignoring unrecognized request")
    else:
        negated, rest = negations(line)
        pattern, value = _pattern(rest, dialect)
        if not value:
            rules.problems.append((number, "no replacement text: using empty string"))
        if files:
            try:
                pieces: Pieces = (contents_of(value),)
            except FilesTrouble as trouble:
                raise RuleProblem(f"{trouble}: skipping this rule") from None
        else:
            pieces = _pieces(value, pattern, negated)
        rules.add(PatternTest(_compiled(pattern), negated, pieces), number)


def _pattern(rest: str, dialect: Dialect) -> tuple[Pattern, str]:
    """``/pattern/flags`` and what follows. The character after a backslash is no delimiter."""
    if not rest:
        raise RuleProblem("no regexp: skipping this rule")
    delimiter, at = rest[0], 1
    while at < len(rest) and rest[at] != delimiter:
        at += 2 if rest[at] == "\\" and at + 1 < len(rest) else 1
    if at >= len(rest):
        raise RuleProblem(f'no closing regexp delimiter "{delimiter}": skipping this rule')
    source = rest[1:at]
    end = at + 1
    while end < len(rest) and rest[end] not in _BLANKS:
        if rest[end] not in dialect.flags:
            raise RuleProblem(f'unknown regexp option "{rest[end]}": skipping this rule')
        end += 1
    try:
        return dialect.translate(source, rest[at + 1 : end]), rest[end:].strip(_BLANKS)
    except PatternProblem as problem:
        raise RuleProblem(str(problem)) from None


def _compiled(pattern: Pattern) -> Callable[[str], re.Match[str] | None]:
    try:
        return pattern.compiled().search
    except (re.error, RecursionError, OverflowError) as error:
        raise RuleProblem(f"error in regex: {error}: skipping this rule") from None


def _pieces(value: str, pattern: Pattern, negated: bool) -> Pieces:
    """The result with its ``$1``, ``${1}``, ``$(1)``, ``$$`` resolved."""
    pieces: list[str | int] = []
    at = 0
    while (dollar := value.find("$", at)) >= 0:
        pieces.append(value[at:dollar])
        following = value[dollar + 1 : dollar + 2]
        if following == "$":
            pieces.append("$")
            at = dollar + 2
            continue
        name, at = _name(value, dollar, following)
        if not (name.isascii() and name.isdigit()):
            raise RuleProblem(f'non-numeric replacement index "{name}": bad replacement syntax: skipping this rule')
        if negated:
            raise RuleProblem("$number found in negative match replacement text: skipping this rule")
        group = pattern.groups.get(int(name)) if len(name) < 6 else None
        if group is None:
            raise RuleProblem(f'out of range replacement index "{name}": skipping this rule')
        pieces.append(group)
    pieces.append(value[at:])
    return tuple(piece for piece in pieces if piece != "")


def _name(value: str, dollar: int, following: str) -> tuple[str, int]:
    if following in ("{", "("):
        end = value.find("}" if following == "{" else ")", dollar)
        if end < 0:
            raise RuleProblem(f'truncated macro reference: "{value}": bad replacement syntax: skipping this rule')
        name, end = value[dollar + 2 : end], end + 1
    else:
        found = _NAME_CHARACTERS.match(value, dollar + 1)
        assert found is not None  # it may be empty
        name, end = found[0], found.end()
    if not name:
        raise RuleProblem(f'empty macro name: "{value}": bad replacement syntax: skipping this rule')
    return name, end


class PatternTable(Table):
    whole_keys = True

    def __init__(self, text: str, dialect: Dialect, opening: Opening) -> None:
        def parse(source: str) -> Rules[str]:
            return parse_patterns(source, dialect, files=opening.files)

        self._source = RuleSource(dialect.name, text, parse, opening)
        self.name = self._source.name
        self._budget_s = opening.parameters.pattern_table_time_limit
        self._longest = opening.parameters.pattern_table_key_limit

    async def lookup(self, key: str) -> str | None:
        """A key beyond the limit is cut, as long headers are before they are looked at."""
        rules = self._source.rules()
        try:
            return within(self._budget_s, lambda: rules.answer(key[: self._longest]))
        except BudgetSpent:
            shown = key[:100] + "..." * (len(key) > 100)
            limit = "pattern_table_time_limit"
            raise TableTrouble(f"{self.name}: {shown!r} takes more processor time than {limit} allows") from None

    def place(self, key: str) -> str:
        found = self._source.rules().find(key[: self._longest])
        return "" if found is None else self._source.place(found[1])

    def check(self) -> list[Finding]:
        return self._source.check()


def open_type(text: str, opening: Opening) -> PatternTable:
    module = importlib.import_module(f"ekiden.tables.{opening.kind}")
    dialect: Dialect = module.DIALECT
    return PatternTable(text, dialect, opening)

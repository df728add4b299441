"""``cidr:/path``: rules for addresses (cidr_table(5)): ``network[/length] result``, ``!network``, ``if``, ``endif``."""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from ekiden.tables.rules import RuleProblem, Rules, RuleSource, is_statement, negations, rule_lines
from ekiden.tables.source import FilesTrouble, contents_of
from ekiden.tables.table import Finding, Opening, Table

_LENGTH = re.compile(r"[0-9]{1,5}")

Key = tuple[int, int]  # IP version, the address as a number


class Network(Struct, frozen=True):
    """One rule. A negated one fits whatever is not in the network, of the same version."""

    version: int
    first: int
    mask: int
    negated: bool
    value: str

    def answer(self, key: Key) -> str | None:
        version, number = key
        if version != self.version:
            return None
        return self.value if (number & self.mask == self.first) is not self.negated else None


def parse_cidr(text: str, *, files: bool = False) -> Rules[Key]:
    """The rules of a text, which may be anything."""
    rules = Rules[Key]()
    for number, line in rule_lines(text, rules.problems):
        try:
            _statement(line, number, rules, files)
        except RuleProblem as problem:
            rules.problems.append((number, f"{problem}: skipping this rule"))
    rules.finish()
    return rules


def _statement(line: str, number: int, rules: Rules[Key], files: bool) -> None:
    if is_statement(line, "if"):
        negated, pattern = negations(line[2:].strip())
        if not pattern:
            raise RuleProblem("no address pattern")
        rules.begin(_network(pattern, negated, ""), number)
    elif is_statement(line, "endif"):
        if line[5:].strip():
            raise RuleProblem("garbage after ENDIF")
        if not rules.end():
            raise RuleProblem("ENDIF without IF")
    else:
        negated, rest = negations(line)
        pattern, *value = rest.split(None, 1) or [""]
        if not pattern:
            raise RuleProblem("no address pattern")
        if not value:
            raise RuleProblem("no lookup result")
        try:
            result = contents_of(value[0]) if files else value[0]
        except FilesTrouble as trouble:
            raise RuleProblem(str(trouble)) from None
        rules.add(_network(pattern, negated, result), number)


def _network(pattern: str, negated: bool, value: str) -> Network:
    """``192.0.2.0/24``, ``2001:db8::/32``, either in brackets as a whole or with the address in them."""
    bare = pattern
    if bare.startswith("["):
        inner, bracket, rest = bare[1:].partition("]")
        if not bracket or (rest and not rest.startswith("/")):
            raise RuleProblem(f'bad address pattern: "{pattern}"')
        bare = inner + rest
    address, slash, length = bare.partition("/")
    if slash and _LENGTH.fullmatch(length) is None:
        raise RuleProblem(f'bad mask value in "{pattern}"')
    try:
        first = ipaddress.ip_address(address)
    except ValueError:
        raise RuleProblem(f'bad address pattern: "{pattern}"') from None
    bits = first.max_prefixlen
    width = int(length) if slash else bits
    if width > bits or "%" in address:
        raise RuleProblem(f'bad mask length in "{pattern}"')
    mask = (1 << bits) - (1 << (bits - width))
    if int(first) & ~mask:
        right = type(first)(int(first) & mask)
        raise RuleProblem(
            f'non-null host address bits in "{pattern}", perhaps you should use "{right}/{width}" instead'
        )
    return Network(first.version, int(first), mask, negated, value)


class CidrTable(Table):
    """What is no address, such as a host name, is in no network."""

    whole_keys = True

    def __init__(self, text: str, opening: Opening) -> None:
        def parse(source: str) -> Rules[Key]:
            return parse_cidr(source, files=opening.files)

        self._source = RuleSource("cidr", text, parse, opening)
        self.name = self._source.name

    async def lookup(self, key: str) -> str | None:
        rules = self._source.rules()
        address = _address(key)
        return None if address is None else rules.answer(address)

    def place(self, key: str) -> str:
        address = _address(key)
        found = None if address is None else self._source.rules().find(address)
        return "" if found is None else self._source.place(found[1])

    def check(self) -> list[Finding]:
        return self._source.check()


def _address(key: str) -> Key | None:
    try:
        address = ipaddress.ip_address(key)
    except ValueError:
        return None
    return address.version, int(address)


def open_type(text: str, opening: Opening) -> CidrTable:
    return CidrTable(text, opening)

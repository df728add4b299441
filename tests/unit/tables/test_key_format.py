"""Formats with %s and its like (mysql_table(5), parameters query, result_format, domain, expansion_limit)."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.tables.key_format import Format, KeyDomains, KeyParts, can_be_asked, joined
from ekiden.tables.open import open_table
from ekiden.tables.table import Opening, TableTrouble
from support.table_lookups import IMPOSSIBLE_KEYS


@pytest.mark.parametrize(
    ("form", "key", "query"),
    [
        ("%s", "user@mail.example.com", "user@mail.example.com"),
        ("%u at %d", "user@mail.example.com", "user at mail.example.com"),
        ("%S %U %D", "user@a.b", "user@a.b user a.b"),
        ("%1 %2 %3", "user@mail.example.com", "com example mail"),
        ("%4", "user@mail.example.com", None),
        ("%1", "user", None),
        ("%1", "mail.example.com", None),
        ("%u", "user", "user"),
        ("%d", "user", None),
        ("%u", "@example.com", None),
        ("%d", "@example.com", "example.com"),
        ("%s", "@example.com", "@example.com"),
        ("%s", "", None),
        ("%d", "user@", None),
        ("%u|%d", "a@b@c", "a@b|c"),
        ("100%%", "user", "100%"),
        ("%%s", "user", "%s"),
        ("%%%s%%", "user", "%user%"),
        ("%s", "%s%u%%", "%s%u%%"),
        ("fixed", "user", "fixed"),
    ],
)
def test_queries(form: str, key: str, query: str | None) -> None:
    assert Format(form).of_key(KeyParts.of(key)) == query


def test_every_part_of_a_key_is_quoted() -> None:
    assert Format("%s,%u,%d,%1,x").of_key(KeyParts.of("u@d.e"), lambda part: f"<{part}>") == "<u@d.e>,<u>,<d.e>,<e>,x"


@pytest.mark.parametrize(
    ("form", "value", "result"),
    [
        ("%s", "value", "value"),
        ("%s", "", None),
        ("%u", "local@domain", "local"),
        ("%u", "local", "local"),
        ("%u", "@domain", None),
        ("%d", "local@domain", "domain"),
        ("%d", "local", None),
        ("smtp:[%s]", "mx.example", "smtp:[mx.example]"),
        ("%S %U %D %1 %2", "value", "key@a.b key a.b b a"),
        ("%3", "value", None),
    ],
)
def test_results(form: str, value: str, result: str | None) -> None:
    assert Format(form).of_result(value, KeyParts.of("key@a.b")) == result


@pytest.mark.parametrize("form", ["%", "a%", "%x", "%0", "% s", "%é"])
def test_a_percent_sign_without_meaning_is_an_error(form: str) -> None:
    with pytest.raises(ConfigError, match="has no meaning"):
        Format(form)


@pytest.mark.parametrize(
    ("form", "key", "has"),
    [("%s", "x", True), ("%D", "x", False), ("%U", "@x", False), ("%2", "a@x", False), ("%S%2", "a@x.y", True)],
)
def test_what_a_result_takes_from_the_key_is_known_before_asking(form: str, key: str, has: bool) -> None:
    assert Format(form).has_all_of(KeyParts.of(key)) is has


def test_results_are_joined_and_limited() -> None:
    key = KeyParts.of("a@b")
    assert joined("t", ["x", None, "", "y"], Format("%s"), key, 2) == "x,y"
    assert joined("t", [None, ""], Format("<%s>"), key, 0) is None
    with pytest.raises(TableTrouble, match="t: more than expansion_limit = 1"):
        joined("t", ["x", "y"], Format("%s"), key, 1)


def test_only_addresses_in_the_domains_are_asked_for() -> None:
    opening = Opening("mysql", Parameters(), open_table)
    domains = KeyDomains(["example", "inline:{x.example=1}"], opening)
    keys = ["a@example", "a@EXAMPLE", "a@x.example", "a@y.example", "@example", "example", "a"]
    found = [asyncio.run(domains.include(KeyParts.of(key))) for key in keys]
    assert found == [True, True, True, False, False, False, False]
    assert asyncio.run(KeyDomains([], opening).include(KeyParts.of("a")))


def test_what_no_server_can_have() -> None:
    assert not any(can_be_asked(key) for key in IMPOSSIBLE_KEYS)
    assert can_be_asked("üser@例え.example")

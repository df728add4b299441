"""The test suites of openspf.org (RFC 7208, and RFC 4408 where that did not change), of pyspf and of libspf2."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from ekiden.auth.spf.record import RecordError, parse_record, record_of
from support.requirements import require_conformance
from support.spf_zone import SpfZone, check, pyspf_check

# Cases that RFC 7208 decides otherwise, with the sentence.
_OTHERWISE = {
    # They try modes of pyspf that know a modifier "default=". RFC 7208 §6: "Unrecognized modifiers MUST be ignored
    # no matter where, or how often, they appear in a record."
    "default-modifier": "neutral",
    "default-modifier-harsh": "neutral",
}
# What libspf2 warns of is an error: RFC 7208 §7.1 wants a domain-spec to end in "." and a top-level label, or in a
# macro, and by §4.6 a syntax error anywhere makes "permerror". (Its limit of look-ups, which a record of names
# without a dot tries, comes after that.)
_NO_ERRORS = "no errors"


def differences(name: str) -> list[str]:
    wrong: list[str] = []
    for scenario in yaml.safe_load_all(require_conformance("spf", name).read_text("utf-8")):
        zone = SpfZone(scenario["zonedata"])
        for test, values in scenario["tests"].items():
            verdict = check(zone, values["host"], values["mailfrom"] or "", values["helo"])
            expected = _OTHERWISE.get(test, values["result"])
            if verdict.result.value not in (expected if isinstance(expected, list) else [expected]):
                wrong.append(f"{test}: {verdict.result.value}, not {expected}: {verdict.reason}")
            explanation = values.get("explanation")
            if explanation is not None and (verdict.explanation or "DEFAULT").lower() != explanation.lower():
                wrong.append(f"{test}: explained {verdict.explanation!r}, not {explanation!r}")
    return wrong


@pytest.mark.parametrize("name", ["rfc7208-tests.part.yml", "rfc4408-tests.part.yml", "pyspf-tests.yml"])
def test_suites(name: str) -> None:
    assert not differences(name)


def test_the_zone_of_pyspf_doctests_gives_what_pyspf_says() -> None:
    (scenario,) = yaml.safe_load_all(require_conformance("spf", "pyspf-doctest.yml").read_text("utf-8"))
    zone = SpfZone(scenario["zonedata"])
    hosts = ("192.0.2.131", "192.0.2.225", "66.39.3.7", "72.81.252.18", "2607:f0d0:3001:aa::2", "2001:db8:ff0:300::4")
    for domain in zone.names:
        for host in hosts:
            verdict = check(zone, host, f"a@{domain}", "mail.example.net")
            assert verdict.result.value == pyspf_check(zone, host, f"a@{domain}", "mail.example.net").result, (
                domain,
                host,
            )


def test_syntax_cases_of_libspf2() -> None:
    count = 0
    for record, message in _syntax_cases():
        count += 1
        assert _is_valid(record) is (message == _NO_ERRORS), (record, message)
    assert count > 70


def _syntax_cases() -> list[tuple[str, str]]:
    """(record, what libspf2 and jSPF say of it). The first word of each kind counts: the format's own rule."""
    cases: list[dict[str, str]] = []
    for line in require_conformance("spf", "libspf2-test_parser.txt").read_text("ascii").splitlines():
        command, _, rest = line.partition(" ")
        if command == "spftest":
            cases.append({})
        elif command in ("rec-in", "err-msg"):
            cases[-1].setdefault(command, rest.strip().partition(" ")[2])
    return [(case["rec-in"].partition("in:  ")[2], case["err-msg"]) for case in cases]


def _is_valid(record: str) -> bool:
    try:
        octets = record_of([record.encode()])
        return octets is not None and bool(parse_record(octets))
    except RecordError:
        return False


def test_macro_examples_of_libspf2() -> None:
    """They are those of RFC 7208 §7.4."""
    text = require_conformance("spf", "libspf2-test_rfc_examples.txt").read_text("ascii")
    cases = re.findall(r"^spfquery (.*)\nresult +/\.\*/ (\w+)\nsmtp-comment +/\.\*/ (.*)$", text, re.MULTILINE)
    assert len(cases) > 20
    for command, result, comment in cases:
        options: dict[str, Any] = dict(
            word.removeprefix("-").partition("=")[::2] for word in shlex.split(command) if "=" in word
        )
        zone = SpfZone(
            {
                "email.example.com": [{"TXT": "v=spf1 -all exp=why.example.com"}],
                "why.example.com": [{"TXT": options["default-explanation"]}],
                "3.2.0.192.in-addr.arpa": [{"PTR": "mx.example.org."}],
                "mx.example.org": [{"A": "192.0.2.3"}],
            }
        )
        verdict = check(zone, options["ip"], options["sender"], "example.com")
        assert (verdict.result.value, verdict.explanation) == (result, comment), command

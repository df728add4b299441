"""DMARC cases of other implementations (shared/conformance/dmarc), all that are not about reports, by one driver.

Where RFC 9989 says otherwise than a case, the case stands in DIFFERENT with the sentence that decides.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ekiden.auth.dmarc.author import author_domains
from ekiden.auth.dmarc.discovery import Discovery, Policy
from ekiden.auth.dmarc.evaluate import evaluate
from ekiden.auth.dmarc.public_suffix import registrable_domain
from ekiden.auth.dmarc.record import DmarcRecord, ReportPlace, parse_record, records_in
from ekiden.auth.verdict import DkimVerdict, DmarcVerdict, Result, SpfVerdict
from ekiden.dns.resolver import DnsTrouble, Found
from support.fake_resolver import SERVFAIL, FakeResolver
from support.requirements import require_conformance

_ORDER = "RFC 9989 §4.7: of a tag's place it only says that v MUST be the first"
_IGNORED = "RFC 9989 §4.7: syntax errors in the remainder of the record MUST be discarded in favor of default values"
_HISTORIC = "RFC 9989 §4.7, §9.4: pct, rf and ri are historic, and only registered current tags are processed"
_NOT_A_RECORD = "tag lists of other kinds of records (BIMI) and an interface of that program: not DMARC"
_ONE_AUTHOR = "RFC 9989 §5.3.1: it is the number of domains that counts, and both mailboxes have one"
_ADDRESS = "RFC 9989 §5.3.1: the author's domain is extracted; an address of a host is none, so nothing is asked"
_OF_DKIM = "l= is judged where signatures are: a verdict on DKIM says so"

DIFFERENT: dict[str, str] = {
    "v=DMARC1; sp=reject; p=reject": _ORDER,
    "malformed.example": _IGNORED,
    "example.com accepts malformed.example": _IGNORED,
    "Should convert pct to integer": _HISTORIC,
    "Should convert ri to integer": _HISTORIC,
    "Should handle invalid pct value as 0": _HISTORIC,
    "call1.pct": _HISTORIC,
    "call1.tagonly": _NOT_A_RECORD,
    "call1.false": _NOT_A_RECORD,
    "call1.alignment.dkim.underSized": _OF_DKIM,
    "call1.error": "the words for DNS trouble are the resolver's",
    "Should return false for headerFrom array with multiple elements": _ONE_AUTHOR,
    'Should not query "_dmarc.null" when no org domain can be derived': _ADDRESS,
}


def _cases(file: str) -> Any:
    return json.loads(require_conformance("dmarc", file).read_text("utf-8"))


def _zone(texts: Mapping[str, Sequence[object]], failing: Sequence[str] = ()) -> FakeResolver:
    zone: dict[tuple[str, str], object] = {}
    for name, records in texts.items():
        joined = ["".join(record) if isinstance(record, list) else str(record) for record in records]
        zone["TXT", name.removesuffix(".")] = tuple(text.encode() for text in joined)
    for name in failing:
        zone["TXT", name] = SERVFAIL
    return FakeResolver(zone)


# -- records --


def test_records_that_a_strict_parser_judges() -> None:
    count = 0
    for case in _cases("mox-record-parse.json")["cases"]:
        count += 1
        record = parse_record(case["input"].encode())
        valid = record is not None and record.usable
        if case["input"] in DIFFERENT:
            assert valid is not case["valid"]
            continue
        assert valid is case["valid"], case
        if record is not None and valid:
            _same_record(record, case["expect"])
    assert count == 41


def _same_record(record: DmarcRecord, expected: Mapping[str, Any]) -> None:
    """What the other parser has of old tags is not ours to compare: _HISTORIC."""
    assert record.policy.value == expected["Policy"]
    subdomain = record.subdomain_policy.value if record.subdomain_policy else None
    assert subdomain == expected.get("SubdomainPolicy")
    assert record.dkim_strict is (expected.get("ADKIM") == "s")
    assert record.spf_strict is (expected.get("ASPF") == "s")
    assert record.failure_options == tuple(expected.get("FailureReportingOptions", ["0"]))
    assert record.rua == _places(expected.get("AggregateReportAddresses", []))
    assert record.ruf == _places(expected.get("FailureReportAddresses", []))


def _places(places: Sequence[Mapping[str, Any]]) -> tuple[ReportPlace, ...]:
    unit = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    return tuple(
        ReportPlace(place["Address"], place["MaxSize"] * unit[place["Unit"]] if "MaxSize" in place else None)
        for place in places
    )


def test_lookups() -> None:
    policies, reports = _cases("mox-lookup.json")["sets"]
    resolver = _zone(policies["dns"]["TXT"], ["_dmarc.temperror.example"])
    for domain, _, found_at, record, error in policies["calls"]:
        try:
            found = asyncio.run(Discovery(resolver).policy(domain))
        except DnsTrouble:
            assert error == {"_id": "ErrDNS"}, domain
            continue
        if domain in DIFFERENT:
            assert found.record is not None
            assert record is None
            continue
        assert (found.record is not None) is (record is not None), domain
        assert found.record is None or found.domain == found_at
        assert ("several" in found.reason) is (error == {"_id": "ErrMultipleRecords"})

    resolver = _zone(reports["dns"]["TXT"], ["example.com._report._dmarc.temperror.example"])
    for domain, destination, _, accepts, error in reports["calls"]:
        try:
            answer = asyncio.run(resolver.txt(f"{domain}._report._dmarc.{destination}"))
        except DnsTrouble:
            assert error == {"_id": "ErrDNS"}
            continue
        differs = f"{domain} accepts {destination}" in DIFFERENT
        assert bool(records_in(answer.records)) is (accepts is not differs), destination
    assert len(policies["calls"]) + len(reports["calls"]) == 15


# -- recorded tests: calls, and assertions on paths into what they give --


def test_recorded_lookups() -> None:
    assert _run("mailauth-get-dmarc-record.json", _get_dmarc_record) == 17


def test_recorded_verdicts() -> None:
    assert _run("mailauth-dmarc-verify.json", _verify_dmarc) == 25


def test_recorded_tag_lists() -> None:
    """Of a general parser, which ours is not: those cases count that are DMARC records."""
    cases = _cases("mailauth-record-parse.json")["cases"]
    texts = [call["args"][0] for case in cases for call in case["calls"]]
    records = [text for text in texts if "v=DMARC1" in text]
    assert (len(cases), len(records)) == (26, 1)
    record = parse_record(records[0].encode())
    assert record is not None
    assert (record.policy.value, record.policy_for(subdomain=True).value) == ("quarantine", "reject")
    assert record.rua == (ReportPlace("mailto:dmarc@example.com"),)
    assert record.ruf == (ReportPlace("mailto:forensic@example.com"),)


def _run(file: str, call: Callable[[Mapping[str, Any]], object]) -> int:
    cases = _cases(file)["cases"]
    for case in cases:
        if case["id"].rpartition("/")[2] in DIFFERENT:
            continue
        results = {f"call{made['call']}": call(made) for made in case["calls"]}
        for expectation in case["expect"]:
            path = expectation["on"]
            if not isinstance(path, str):
                # The error that was caught, or a type's name.
                assert path == {"value": None}
                assert results["call1"] == "trouble"
            elif path not in DIFFERENT:
                _holds(_at(results, path), expectation["op"], case["id"])
    return len(cases)


def _at(value: Any, path: str) -> object:
    for word in path.split("."):
        value = value[word]
    return value


def _holds(value: object, op: Sequence[Any], what: str) -> None:
    if op[:2] == ["to", "be"]:
        assert value is (op[2] == "true"), what
    elif op[:3] == ["to", "not", "be"]:
        assert value != op[3], what
    else:
        assert op[:2] == ["to", "equal"], op
        assert value == op[2][0], what


def _resolver_of(zone: Mapping[str, Mapping[str, Any]]) -> FakeResolver:
    resolver = _zone({name: types["TXT"] for name, types in zone.items() if "TXT" in types})
    for name, types in zone.items():
        if "TXT_error" in types:
            resolver.zone["TXT", name] = Found.NODATA if types["TXT_error"] == "ENODATA" else SERVFAIL
    return resolver


def _get_dmarc_record(call: Mapping[str, Any]) -> object:
    (domain,) = call["args"]
    try:
        found = asyncio.run(Discovery(_resolver_of(call["zone"])).policy(domain))
    except DnsTrouble:
        return "trouble"
    return _record_as_they_have_it(found, domain) if found.record is not None else False


def _record_as_they_have_it(found: Policy, domain: str) -> dict[str, object]:
    record = found.record
    assert record is not None
    return {
        "v": "DMARC1",
        "p": record.policy.value,
        "adkim": "s" if record.dkim_strict else "r",
        "rr": record.text,
        "isOrgRecord": found.domain != domain,
    }


def _verify_dmarc(call: Mapping[str, Any]) -> object:
    (given,) = call["args"]
    author = given["headerFrom"]
    domains = author_domains(f"From: <{author if '@' in author else f'x@{author}'}>\r\n".encode())
    passed = [entry if isinstance(entry, str) else entry["domain"] for entry in given["dkimDomains"]]
    spf = [SpfVerdict(Result.PASS, domain=entry["domain"]) for entry in given["spfDomains"]]
    verdict = asyncio.run(
        evaluate(
            _resolver_of(call["zone"]),
            author_domains=domains,
            spf=spf[0] if spf else None,
            dkim=[DkimVerdict(Result.PASS, domain=domain) for domain in passed],
        )
    )
    return _verdict_as_they_have_it(verdict, spf)


def _verdict_as_they_have_it(verdict: DmarcVerdict, spf: Sequence[SpfVerdict]) -> dict[str, object]:
    record = parse_record(verdict.record.encode())
    return {
        "status": {
            "result": verdict.result.value,
            "header": {"from": verdict.from_domain, "d": verdict.organizational_domain},
        },
        "policy": verdict.policy.value,
        "p": verdict.published.value,
        "domain": verdict.organizational_domain,
        "rr": verdict.record,
        "alignment": {
            "dkim": {"strict": record and record.dkim_strict, "result": verdict.dkim_aligned},
            "spf": {
                "strict": record and record.spf_strict,
                "result": spf[0].domain if verdict.spf_aligned else False,
            },
        },
    }


# -- the public suffix list --


@pytest.mark.parametrize("file", ["psl/test_psl.txt", "psl/tests.txt"])
def test_public_suffixes(file: str) -> None:
    """78 checks in each; the four on ``local`` are commented out in both."""
    checks = 0
    for line in require_conformance("dmarc", *file.split("/")).read_text("utf-8").splitlines():
        words = re.findall(r"'[^']*'|null", line) if "checkPublicSuffix" in line else line.split()
        if not words or line.startswith("//"):
            continue
        name, expected = (word.strip("'") for word in words)
        found = registrable_domain("" if name == "null" else name)
        assert found == (None if expected == "null" else registrable_domain(expected)), line
        assert expected == "null" or not expected.isascii() or found == expected, line
        checks += 1
    assert checks == 78

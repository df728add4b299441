"""MTA-STS records and policies, with the cases of another implementation (RFC 8461 §3)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ekiden.dns.resolver import DnsTrouble, Found
from ekiden.tls.mta_sts import Mode, Policy, PolicyError, parse_policy, parse_record, policy_id
from ekiden.tls.txt_fields import RecordError
from support.fake_resolver import SERVFAIL, FakeResolver
from support.requirements import require_conformance


def vectors(name: str) -> Any:
    return json.loads(require_conformance("mta-sts-tlsrpt-dane", f"{name}.mox.json").read_text("utf-8"))


def test_records_that_others_judge() -> None:
    for case in vectors("mta-sts-record-parse")["cases"]:
        if case["valid"]:
            assert parse_record(case["input"]) == case["expect"]["ID"], case
        else:
            with pytest.raises(RecordError):
                print(case, parse_record(case["input"]))


def test_policies_that_others_judge() -> None:
    for case in vectors("mta-sts-policy-parse")["cases"]:
        octets = case["input"].encode("utf-8")
        if not case["valid"]:
            with pytest.raises(PolicyError):
                print(case, parse_policy(octets))
            continue
        expected = case["expect"]
        mx = tuple(("*." if each.get("Wildcard") else "") + each["Domain"]["ASCII"] for each in expected["MX"])
        mode = Mode[expected["Mode"]["_id"].removeprefix("Mode").upper()]
        assert parse_policy(octets) == Policy(mode, mx, expected["MaxAgeSeconds"]), case


def test_which_record_of_a_name_counts() -> None:
    data = vectors("mta-sts-lookup")
    for domain, record, error in data["cases"]:
        name = f"_mta-sts.{domain}."
        while name in data["dns"]["CNAME"]:
            name = data["dns"]["CNAME"][name]
        zone: object = [text.encode() for text in data["dns"]["TXT"].get(name, ())] or Found.NODATA
        resolver = FakeResolver({("TXT", name): SERVFAIL if f"txt {name}" in data["dns"]["Fail"] else zone})
        if error is not None and error["_id"] == "ErrDNS":
            with pytest.raises(DnsTrouble):  # which says nothing of a record: a policy that is known holds on
                asyncio.run(resolver.txt(name))
            continue
        texts = asyncio.run(resolver.txt(name)).records
        if error is None:
            assert policy_id(texts) == record["ID"], domain
        elif error["_id"] == "ErrNoRecord":
            assert policy_id(texts) is None, domain
        else:
            with pytest.raises(RecordError):
                policy_id(texts)


def policy(**fields: object) -> bytes:
    return "\n".join(f"{key}: {value}" for key, value in {"version": "STSv1", **fields}.items()).encode()


def test_the_first_of_a_field_that_comes_twice_counts() -> None:
    text = (
        policy(mode="enforce", max_age=86400, mx="a.test") + b"\nmode: none\nmax_age: 1\nversion: STSv9\nmx: b.test\n"
    )
    assert parse_policy(text) == Policy(Mode.ENFORCE, ("a.test", "b.test"), 86400)


def test_a_policy_lasts_a_year_at_the_most() -> None:
    assert parse_policy(policy(mode="none", max_age=9_999_999_999)).max_age_s == 31_557_600


@pytest.mark.parametrize(
    "octets",
    [
        b"\xff\xfe",
        b"version: STSv1\0\nmode: none\nmax_age: 1\n",
        policy(mode="enforce", max_age=1, mx="192.0.2.1"),
        policy(mode="enforce", max_age=1, mx="a b.test"),
        policy(mode="enforce", max_age=1, mx="*"),
        policy(mode="enforce", max_age=1, mx="a.*.test"),
        policy(mode="enforce", max_age="-1", mx="a.test"),
        policy(mode="enforce", max_age=1, mx="a.test") + b"\n" + b"x" * 65536,
        policy(mode="enforce", max_age=1) + b"".join(b"\nmx: h%d.test" % n for n in range(1001)),
    ],
)
def test_policies_that_are_none(octets: bytes) -> None:
    with pytest.raises(PolicyError):
        parse_policy(octets)


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mx.test", True),
        ("MX.test.", True),
        ("a.wild.test", True),
        ("wild.test", False),
        ("b.a.wild.test", False),
        ("mx.test.evil.test", False),
        ("test", False),
        ("", False),
    ],
)
def test_which_servers_a_policy_names(host: str, named: bool) -> None:
    """RFC 8461 §4.1: the asterisk is one label."""
    assert Policy(Mode.ENFORCE, ("mx.test", "*.wild.test"), 1).names(host) is named


def test_the_lines_of_a_policy_are_read_as_the_same() -> None:
    known = Policy(Mode.TESTING, ("mx.test", "*.wild.test"), 86400)
    assert parse_policy("\r\n".join(known.lines()).encode()) == known


@pytest.mark.parametrize(
    "text",
    [b"v=STSv1; id=1" + b";" * 65000, b"v=STSv1; id=" + b"1" * 65000, b"v=STSv1; " + b"a=b; " * 13000 + b"id=1"],
)
def test_records_of_64_kilobytes(text: bytes) -> None:
    with pytest.raises(RecordError):
        policy_id([text])

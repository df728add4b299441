"""The examples of RFC 8601, and what other implementations write and read (conformance/authentication-results)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ekiden.auth.results.read import MethodResult, ResultsError, parse
from ekiden.auth.results.write import authentication_results
from support.requirements import require_conformance

AREA = "authentication-results"
# Believed wrong, with the sentence that says so.
WRONG = {"": "RFC 8601 §2.2: authres-payload = [CFWS] authserv-id ...: there is always an authserv-id"}
# The property that go-msgauth's field of a result stands for.
GO_FIELDS = {"From": ("smtp", "mailfrom"), "Auth": ("smtp", "auth"), "Identifier": ("header", "i")}
METHODS = {"SPFResult": "spf", "DKIMResult": "dkim", "AuthResult": "auth", "SenderIDResult": "sender-id"}


def test_go_msgauth() -> None:
    document = json.loads(require_conformance(AREA, "go-msgauth.json").read_text("utf-8"))
    assert len(document["round_trip"]) == 9
    assert len(document["parse_only"]) == 4
    for case in document["round_trip"] + document["parse_only"]:
        value = case["value"]
        if value in WRONG:
            with pytest.raises(ResultsError):
                parse(value.encode())
            continue
        read = parse(value.encode())
        assert read.authserv_id == case["identifier"], value
        expected = case["results"] or []
        assert len(read.results) == len(expected), value
        for result, wanted in zip(read.results, expected, strict=True):
            assert result.method == METHODS[wanted["_type"]]
            assert result.result == wanted["Value"]["_id"].removeprefix("Result").lower()
            assert result.reason == wanted.get("Reason", "")
            properties = {GO_FIELDS[name]: wanted[name] for name in GO_FIELDS if name in wanted}
            if "HeaderKey" in wanted:
                properties["header", wanted["HeaderKey"]] = wanted["HeaderValue"]
            assert {(one.ptype, one.name): one.value for one in result.properties} == properties
        if case in document["round_trip"]:
            field = authentication_results(read.authserv_id, value.partition("; ")[2])
            assert unfolded(field) == "Authentication-Results: " + value.strip()


def test_mox() -> None:
    cases: list[dict[str, Any]] = json.loads(require_conformance(AREA, "mox.json").read_text("utf-8"))
    assert len(cases) == 8
    for case in cases:
        value = case["input"].replace("\n", "\r\n").encode()
        if case.get("expect_error"):
            with pytest.raises(ResultsError):
                parse(value)
            # Its words that are no properties do not hide the results, where that is asked for.
            assert parse(value, lenient=True).results[2].value("header", "from") == "ueber.net"
            continue
        read, expected = parse(value), case["expect"]
        assert read.authserv_id == expected["Hostname"]
        assert [
            {
                "Method": result.method,
                "Result": result.result,
                **({"Reason": result.reason} if result.reason else {}),
                **(
                    {
                        "Props": [
                            {"Type": one.ptype, "Property": one.name, "Value": one.value} for one in result.properties
                        ]
                    }
                    if result.properties
                    else {}
                ),
            }
            for result in read.results
        ] == [without_kind(method) for method in expected["Methods"]], value


def without_kind(method: dict[str, Any]) -> dict[str, Any]:
    """mox tells addresses from other values; we have text."""
    known = {name: value for name, value in method.items() if name != "Props"}
    properties = [
        {name: value for name, value in one.items() if name != "IsAddrLike"} for one in method.get("Props", ())
    ]
    return {**known, **({"Props": properties} if properties else {})}


def test_the_examples_of_the_rfc() -> None:
    text = require_conformance(AREA, "rfc5451-appendix-b.txt").read_text("utf-8")
    fields = re.findall(r"^ +Authentication-Results:(.*\n(?: {10,}.*\n)*)", text, re.MULTILINE)
    read = [parse(field.encode()) for field in fields]
    assert [(one.authserv_id, [summary(result) for result in one.results]) for one in read] == [
        ("example.org", []),
        ("example.com", ["spf=pass smtp.mailfrom=example.net"]),
        ("example.com", ["auth=pass smtp.auth=sender@example.com", "spf=pass smtp.mailfrom=example.com"]),
        ("example.com", ["sender-id=pass header.from=example.com"]),
        ("example.com", ["sender-id=hardfail header.from=example.com", "dkim=pass header.i=sender@example.com"]),
        ("example.com", ["auth=pass smtp.auth=sender@example.com", "spf=hardfail smtp.mailfrom=example.com"]),
        (
            "example.com",
            ["dkim=pass header.i=@mail-router.example.net", "dkim=fail header.i=@newyork.example.com"],
        ),
        ("example.net", ["dkim=pass header.i=@newyork.example.com"]),
    ]


def summary(result: MethodResult) -> str:
    words = [f"{result.method}={result.result}", *(f"{p.ptype}.{p.name}={p.value}" for p in result.properties)]
    return " ".join(words)


def unfolded(field: bytes) -> str:
    return field.decode().removesuffix("\r\n").replace("\r\n\t", " ")

"""The test suite of the ARC drafts, and real chains (conformance/arc)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ekiden.auth.arc.seal import ArcSealing
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import own_input, relaxed_field
from ekiden.auth.dkim.key_record import parse_key_record
from ekiden.auth.dkim.keys import signing_key
from ekiden.auth.results.read import parse
from ekiden.auth.tags import parse_tags
from ekiden.auth.verdict import Result
from support.arc_chains import divided, verified
from support.fake_resolver import Zone
from support.requirements import require_conformance

VALIDATION, SIGNING = "arc-draft-validation-tests.part.yml", "arc-draft-sign-tests.part.yml"
NOW = 1_500_000_000.0
# Believed wrong, with the sentence that says so.
WRONG = {
    "ams_fields_c_na": (
        Result.FAIL,
        "RFC 6376 §3.5: c= is OPTIONAL, default is simple/simple; it was signed with relaxed/relaxed",
    ),
    "ams_fields_h_mis_hdr": (
        Result.FAIL,
        'RFC 6376 §3.5: sig-h-tag = hdr-name *( ":" hdr-name ); RFC 5322 §3.6.8: a name has a character at least',
    ),
}


def crlf(text: str) -> bytes:
    return re.sub(r"\r?\n", "\r\n", text).encode()


def zone_of(records: dict[str, str]) -> Zone:
    return {("TXT", name): [re.sub(r"\s*\n\s*", "", text).encode()] for name, text in records.items()}


def scenarios(name: str) -> list[dict[str, Any]]:
    path = require_conformance("arc", name)
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]


def test_validation() -> None:
    count = 0
    for scenario in scenarios(VALIDATION):
        zone = zone_of(scenario["txt-records"])
        for name, case in scenario["tests"].items():
            count += 1
            verdict = verified(crlf(case["message"]), zone, NOW)
            # Two cases of chains that a sealer called failed say nothing of the verdict.
            expected = WRONG.get(name, (Result[(case["cv"] or "Fail").upper()], ""))[0]
            assert verdict.result is expected, (name, case["description"], verdict)
    assert count == 117


def test_signing() -> None:
    count = 0
    for scenario in scenarios(SIGNING):
        zone = zone_of(scenario["txt-records"])
        key = signing_key(scenario["domain"], scenario["sel"], scenario["privatekey"].encode())
        for name, case in scenario["tests"].items():
            count += 1
            message = crlf(case["message"])
            header, body = divided(message)
            hashes = BodyHashes()
            names = case["sig-headers"].split(":")
            sealing = ArcSealing(header, hashes, key, authserv_id=case["srv-id"], now=case["t"], covered=names)
            hashes.feed(body)
            hashes.finish()
            results = own_results(header, case["srv-id"])
            fields = sealing.fields(verified(message, zone, NOW), results)
            made = dict(re.findall(r"^(ARC-[A-Za-z-]+):((?:.|\r\n[ \t])*)\r\n", fields.decode(), re.MULTILINE))
            expected = {field: case[field] and standard(case[field]) for field in ("AS", "AMS")}
            if not expected["AS"]:
                assert not fields, name
                continue
            assert parse_tags(unbroken(made["ARC-Message-Signature"])) == parse_tags(unbroken(case["AMS"])), name
            assert squeezed(made["ARC-Authentication-Results"]) == squeezed(case["AAR"]), name
            seal, wanted = parse_tags(unbroken(made["ARC-Seal"])), parse_tags(unbroken(case["AS"]))
            assert {**seal, "b": ""} == {**wanted, "b": ""}, name
            # A seal covers the white space that base64 is folded with, of which the suite has none; so our b= differs.
            # Theirs covers what ours does, and ours verifies.
            results_field = crlf("ARC-Authentication-Results: " + case["AAR"].strip().replace("\n", "\n "))
            newest = (results_field, b"ARC-Message-Signature:" + expected["AMS"])
            theirs = b"ARC-Seal:" + expected["AS"]
            if wanted["cv"] == "fail":
                covered = b"".join(map(relaxed_field, newest)) + own_input(theirs, "relaxed")
                digest = hashlib.sha256(covered).digest()
                assert parse_key_record(key.record.encode()).holds(base64.b64decode(wanted["b"]), digest), name
            else:
                theirs += b"\r\n" + newest[1] + b"\r\n" + results_field + b"\r\n"
                assert verified(theirs + message, zone, NOW).result is Result.PASS, name
                assert verified(fields + message, zone, NOW).result is Result.PASS, name
    assert count == 9


def own_results(header: bytes, authserv_id: str) -> str:
    """As the suite has it: the results of all Authentication-Results that are ours, as they are, in their order."""
    values = re.findall(rb"^Authentication-Results:((?:.|\n[ \t])*)$", header, re.MULTILINE)
    ours = [value for value in values if parse(value).authserv_id == authserv_id]
    return "; ".join(re.sub(r"\s+", " ", value.decode().partition(";")[2]).strip() for value in ours)


def standard(text: str) -> bytes:
    """As the suite says that its fields are: no white space but a blank behind each semicolon."""
    return b" " + squeezed(text).replace(";", "; ").encode()


def unbroken(value: str) -> bytes:
    return squeezed(value).encode()


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def real_messages() -> Iterator[tuple[Path, Zone, bytes]]:
    for path in sorted(require_conformance("arc", "mail-auth").glob("*.txt")):
        records, _, message = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
        lines = (line.split(b" ", 1) for line in records.split(b"\n"))
        yield path, {("TXT", name.decode()): [text] for name, text in lines}, message.replace(b"\n", b"\r\n")


def test_real_chains() -> None:
    found = {path.name: verified(message, zone, NOW) for path, zone, message in real_messages()}
    assert {name: (verdict.result, verdict.sealers) for name, verdict in found.items()} == {
        "001.txt": (Result.PASS, ("google.com",)),
        "002.txt": (Result.PASS, ("scamorza.org", "manchego.org")),
    }

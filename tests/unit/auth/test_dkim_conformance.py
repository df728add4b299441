"""The published DKIM cases of others: chasquid, mail-auth, go-msgauth, mox and dkimpy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import relaxed_field
from ekiden.auth.dkim.key_record import KeyRecord, KeyRecordError, NotKeyRecord, parse_key_record
from ekiden.auth.dkim.signature import Signature, SignatureError, parse_signature
from ekiden.auth.dkim.verify import DkimLimits
from ekiden.auth.verdict import DkimVerdict, Result
from ekiden.dns.resolver import DnsTrouble
from ekiden.message.header_fields import fields
from support.fake_resolver import FakeResolver
from support.plain_dkim import verdicts_of
from support.requirements import require_conformance

NOW = 1_780_000_000.0
STATES = {
    Result.PASS: "SUCCESS",
    Result.FAIL: "PERMFAIL",
    Result.POLICY: "PERMFAIL",
    Result.PERMERROR: "PERMFAIL",
    Result.TEMPERROR: "TEMPFAIL",
}

# What we see otherwise, and the sentence that says so.
DIFFERENT = {
    # RFC 6376 §3.2: "WSP is allowed anywhere around tags". Published records often end in "; ".
    "key v=DKIM1; p=; ",
    # RFC 6532 §3: a header that holds UTF-8 is an internationalized one; a field does not tell how it came (SMTPUTF8
    # or not), and RFC 8616 §5 allows UTF-8 in i= of such a header.
    "signature smtputf8=False i=m\u00f8x@xn--tst-bma.xn--mx-lka.example",
}


def data(*parts: str) -> Path:
    return require_conformance("dkim", *parts)


def cases(name: str, key: str = "cases") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(data(name).read_text("utf-8"))[key]
    assert found
    return found


def crlf(octets: bytes) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", octets)


def verify(
    message: bytes, texts: Mapping[str, list[Any]], *, now: float = NOW, limit: int = 5
) -> tuple[DkimVerdict, ...]:
    resolver = FakeResolver({})
    for name, values in texts.items():
        known = values[0] if isinstance(values[0], DnsTrouble) else [value.encode() for value in values]
        resolver.zone["TXT", name] = known
    return verdicts_of(message, resolver, now=now, limits=DkimLimits(signatures=limit), piece=31)


def chasquid_names() -> list[str]:
    return [f"{number:02}" for number in range(1, 12)]


def chasquid_zone(path: Path) -> dict[str, list[Any]]:
    zone: dict[str, list[Any]] = {}
    text = path.read_text() if path.exists() else ""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        name, colon, value = line.partition(": ")
        if colon and value.strip() == "TEMPERROR":
            zone[name] = [DnsTrouble("for a test")]
        elif colon and value.strip() != "PERMERROR":
            zone.setdefault(name, []).append(value.strip())
    return zone


@pytest.mark.parametrize("number", chasquid_names())
def test_chasquid(number: str) -> None:
    (path,) = data("chasquid").glob(f"{number}-*.msg")
    message = crlf(path.read_bytes())
    verdicts = verify(message, chasquid_zone(path.with_suffix(".dns")))
    result = path.with_suffix(".result")
    if not result.exists():
        # A message without a header: refused there, without a signature here.
        assert path.with_suffix(".error").read_bytes().startswith(b"invalid header")
        assert verdicts == ()
        return
    expected = json.loads(result.read_text())
    assert len(verdicts) == expected["Found"]
    assert sum(verdict.result is Result.PASS for verdict in verdicts) == expected["Valid"]
    for verdict, theirs in zip(verdicts, expected["Results"], strict=True):
        assert STATES[verdict.result] == theirs["State"], verdict
        assert (verdict.domain, verdict.selector) == (theirs["Domain"], theirs["Selector"])
        assert verdict.signature == theirs["B"][:8]


@pytest.mark.parametrize("number", range(1, 7))
def test_mail_auth(number: int) -> None:
    head, _, message = crlf(data("mail-auth", f"{number:03}.txt").read_bytes()).partition(b"\r\n\r\n")
    zone: dict[str, list[Any]] = {}
    for line in head.decode().splitlines():
        name, _, text = line.partition(" ")
        zone[name] = [text]
    verdicts = verify(message, zone, now=1_667_900_000.0)
    assert verdicts
    assert {verdict.result for verdict in verdicts} == {Result.PASS}, verdicts
    if number == 5:
        (late,) = verify(message, zone)
        assert (late.result, late.reason) == (Result.FAIL, "the signature has expired (x=1667930064)")


def test_go_msgauth() -> None:
    zone = {name: [text] for name, text in json.loads(data("go-msgauth.json").read_text())["dns_txt"].items()}
    found = cases("go-msgauth.json")
    assert len(found) == 5
    for case in found:
        message = case["message_lf"].replace("\n", "\r\n").encode()
        expected = [one for one in case["expect"] for _ in range(one.get("n", 1))]
        verdicts = verify(message, zone)
        assert len(verdicts) == len(expected), case["id"]
        for verdict, theirs in zip(verdicts, expected, strict=True):
            if theirs["result"].startswith("not asserted"):
                assert verdict.result is Result.FAIL  # by a key that is not the signer's
                continue
            assert verdict.result.value == theirs["result"], (case["id"], verdict)
            if "domain" in theirs:
                assert verdict.domain == theirs["domain"]
        if any("limit" in one.get("note", "") for one in case["expect"]):
            limited = verify(message, zone, limit=2)
            assert len(limited) == 2
            assert "1 more signatures were left out" in limited[1].reason


@pytest.mark.parametrize("form", ["simple", "relaxed"])
def test_go_msgauth_bodies(form: str) -> None:
    found = cases("go-msgauth-canonicalization.json", f"{form}CanonicalizerBodyTests")
    assert len(found) == 10
    for case in found:
        chunks = [case["original"]] if isinstance(case["original"], str) else case["original"]
        body = re.sub(r"(?<!\r)\n", "\r\n", "".join(chunks)).encode()
        # Their chunks are cut again in what they become with CRLF.
        cuts = [len(chunk) for chunk in chunks]
        hashes = BodyHashes()
        wanted = hashes.want(form, "sha256", None)
        at = 0
        for cut in cuts:
            hashes.feed(body[at : at + cut])
            at += cut
        hashes.feed(body[at:])
        hashes.finish()
        canonical = case["canonical"].encode()
        assert wanted.digest == hashlib.sha256(canonical).digest(), case
        assert wanted.octets == len(canonical)


def test_go_msgauth_header_fields() -> None:
    found = cases("go-msgauth-canonicalization.json", "relaxedCanonicalizerHeaderTests")
    assert len(found) == 4
    for case in found:
        assert relaxed_field(case["original"].encode()) == case["canonical"].encode()


def test_mox_key_records() -> None:
    found = cases("mox-key-records.json")
    assert len(found) == 12
    for case in found:
        text = case["input"]
        try:
            record: KeyRecord | None = parse_key_record(text.encode())
            about_a_key = True
        except KeyRecordError as error:
            record = None
            about_a_key = not isinstance(error, NotKeyRecord)
        if f"key {text}" in DIFFERENT:
            assert record is not None
            assert not case["valid"]
            continue
        assert (record is not None, about_a_key) == (case["valid"], case["is_dkim"]), text
        if record is None:
            continue
        expected = case["record"]
        assert record.key_type == expected["Key"]
        assert list(record.services) == expected["Services"]
        assert list(record.hashes or ()) == expected.get("Hashes", [])
        assert (record.testing, record.strict) == ("y" in expected.get("Flags", ()), "s" in expected.get("Flags", ()))
        assert (record.key is None) is (expected["Pubkey"] == [])


def mox_signature(field: str) -> bytes:
    """The value of the one DKIM-Signature field."""
    octets = field.encode()
    found = list(fields(octets))
    if len(found) != 1 or found[0].name != b"dkim-signature" or not octets.endswith(b"\r\n"):
        raise SignatureError("not such a field")
    return octets[found[0].value :]


def test_mox_signature_headers() -> None:
    found = cases("mox-signature-headers.json")
    assert len(found) == 18
    for case in found:
        try:
            signature: Signature | None = parse_signature(mox_signature(case["input"]))
        except SignatureError:
            signature = None
        if signature and f"signature smtputf8={case['smtputf8']} i={signature.signer.identity}" in DIFFERENT:
            assert not case["valid"]
            continue
        assert (signature is not None) is case["valid"], case["input"]
        if signature is None:
            continue
        expected = case["expect"]
        assert signature.signer.algorithm == f"{expected['AlgorithmSign']}-{expected['AlgorithmHash']}"
        assert signature.signature == base64.b64decode(expected["Signature"]["args"][0])
        assert signature.body_hash == base64.b64decode(expected["BodyHash"]["args"][0])
        assert signature.signer.domain == expected["Domain"]["args"][0]
        assert signature.signer.selector == (expected["Selector"].get("ASCII") or expected["Selector"]["args"][0])
        assert list(signature.signer.signed_headers) == expected["SignedHeaders"]
        form = f"{signature.signer.header_canonicalization}/{signature.signer.body_canonicalization}"
        assert form == expected["Canonicalization"]
        for ours, name in (
            (signature.body_length, "Length"),
            (signature.signed_at, "SignTime"),
            (signature.expires_at, "ExpireTime"),
        ):
            assert (-1 if ours is None else ours) == expected[name]
        if "Identity" in expected:
            assert signature.signer.identity_domain == expected["Identity"]["_items"][1]["args"][0]


TEST_KEY = "test._domainkey.football.example.com"


def test_dkimpy_messages() -> None:
    rsa = data("dkimpy", "test.txt").read_text().strip()
    ed25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    message = crlf(data("dkimpy", "rfc6376.signed.msg").read_bytes())
    zone = {TEST_KEY: [rsa], "brisbane._domainkey.football.example.com": [ed25519]}
    results = [verdict.result for verdict in verify(message, zone)]
    assert results == [Result.PASS, Result.PASS]
    exim = crlf(data("dkimpy", "ed25519test2.msg").read_bytes())
    (verdict,) = verify(exim, {"sed._domainkey.test.ex": [data("dkimpy", "eximtest.dns").read_text().strip()]})
    assert verdict.algorithm == "ed25519-sha256"


@pytest.mark.parametrize(
    ("name", "result", "said"),
    [
        ("test.txt", Result.PASS, ""),
        ("test2.txt", Result.PASS, ""),  # no k=, and g=, which is not known any more
        ("badk.txt", Result.PERMERROR, "key type 'ed25519-sha256' is not known"),
        ("badversion.txt", Result.PERMERROR, "only records about other things"),
        ("test_bad.txt", Result.PERMERROR, "p= is not an RSA key"),
        ("test_tlsrpt.txt", Result.PERMERROR, "the key is not for mail"),
    ],
)
def test_dkimpy_key_records(name: str, result: Result, said: str) -> None:
    message = crlf(data("dkimpy", "rfc6376.signed.msg").read_bytes())
    verdict = verify(message, {TEST_KEY: [data("dkimpy", name).read_text().strip()]})[1]
    assert verdict.result is result, verdict
    assert said in verdict.reason

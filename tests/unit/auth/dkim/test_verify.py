"""What is said of the signatures of a message (RFC 6376 §6.1, RFC 8301, RFC 8463)."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ekiden.auth.dkim import key_lookup
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.key_record import KeyRecord, parse_key_record
from ekiden.auth.dkim.verify import DEFAULT_LIMITS, DkimLimits, DkimVerification
from ekiden.auth.verdict import DkimVerdict, Result
from ekiden.dns.resolver import DnsTrouble, Found
from support.fake_resolver import FakeResolver
from support.plain_dkim import key_record, signed, verdicts_of

NOW = 1_800_000_000
NAME = "sel._domainkey.x.test"
RSA = generate_private_key(65537, 2048)
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SHORT_KEY = b"""-----BEGIN RSA PRIVATE KEY-----
MIIBzAIBAAJhAPriZddmwp1yQrUScHpG0G2nUJ0RV6I/hO01yzePWRH0pxkQdUog
I4vzLXlL5DQnEOz4cvF9uuCv1BBREqEp7TKjURaGUvjemxP2HFuSLfJZdh0PeIc0
peN7rTcUKirplwIDAQABAmBBSe+U2bIlxRllA9Jvj8Qn9RW+ekfi+kK+dHRZFh3o
1VEy7ZyIWMrHXdZkrYJKrCtwiCOPuXMyR9kbOju+qZF0XP+TSk2ys8YY6Y/uTrOn
KFlBrdLU1MOmhytouAnVvLECMQD+RMRW9rKUJ5aVxVcCrOuL6ol9t9FpCFPbbzAU
xKQsIi0vtHlns7Or+brcZg2VqZkCMQD8l7tGOsvm1kXO6dUnMnLf60pFm0qQbiuI
Fic5TJXrcP48VpdFsiR/Ly5aFoecCq8CMQCk1AdDKKETEaa4aDjDbz0yclO2v5Zs
tA1IToeoruCOC4mnRyL8aq2qajUL8swTnOECMQCUG/Q3reo5pJKyTPIrVa1+Ft0q
C3ChV7g2x6agNoQB1fN9NdjliRtVaDjpoiRKHwkCMQCK1yVPN+y7JB4eDnKk6zI/
5YNdTx+hJRstS2pcftqCT48YZx0U32uwUsNEYEeXAQE=
-----END RSA PRIVATE KEY-----
"""
HEADER = [b"From: A <a@x.test>\r\n", b"To:  b@y.test\r\n", b"Subject: one\r\n\t two\r\n"]
BODY = b"Hello  there, \r\n\r\nthis is it.\r\n\r\n"


def zone(*records: object, name: str = NAME) -> FakeResolver:
    if len(records) == 1 and not isinstance(records[0], str):
        return FakeResolver({("TXT", name): records[0]})
    return FakeResolver({("TXT", name): [str(record).encode() for record in records]})


def one(
    changes: Mapping[str, str] = {},
    *,
    key: RSAPrivateKey | Ed25519PrivateKey = RSA,
    records: FakeResolver | None = None,
    extra: str = "",
    damage: tuple[bytes, bytes] = (b"", b""),
    limits: DkimLimits = DEFAULT_LIMITS,
) -> DkimVerdict:
    """The verdict on one message with one signature; ``damage`` is what becomes what on its way."""
    message = signed(HEADER, BODY, key, changes)
    assert damage[0] in message
    message = message.replace(*damage, 1) if damage[0] else message
    (verdict,) = verdicts_of(message, records or zone(key_record(key, extra)), now=NOW, limits=limits)
    return verdict


@pytest.mark.parametrize("form", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed"])
@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_a_good_signature(form: str, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
    verdict = one({"c": form, "t": str(NOW), "x": str(NOW + 1)}, key=key)
    assert verdict.result is Result.PASS, verdict
    assert (verdict.domain, verdict.selector, verdict.identity) == ("x.test", "sel", "@x.test")
    assert verdict.algorithm == ("rsa-sha256" if key is RSA else "ed25519-sha256")
    assert verdict.key_bits == (2048 if key is RSA else 256)
    assert verdict.signed_headers == ("Subject", "To", "From")
    assert verdict.reason.startswith("3 names of header fields and the body of ")
    message = signed(HEADER, BODY, key, {"c": form, "t": str(NOW), "x": str(NOW + 1)})
    assert message.partition(b"; b=")[2].startswith(verdict.signature.encode())
    assert len(verdict.signature) == 8


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ((b"Hello", b"Hallo"), "the body differs from what was signed (relaxed, canonical length 29)"),
        ((b"is it.\r\n", b"is it.\r\nAd\r\n"), "the body differs from what was signed (relaxed, canonical length 33)"),
        ((b"Subject: one", b"Subject: won"), "header fields differ from what was signed"),
        ((b"h=Subject", b"h=subject"), "header fields differ from what was signed"),
    ],
)
def test_what_differs_is_said(key: RSAPrivateKey | Ed25519PrivateKey, damage: tuple[bytes, bytes], said: str) -> None:
    verdict = one(key=key, damage=damage)
    assert verdict.result is Result.FAIL
    assert verdict.reason.startswith(said)
    assert verdict.reason.count(";") == 0
    assert ("body" in verdict.reason) is not ("h=" in verdict.reason)


def test_both_may_differ() -> None:
    message = signed(HEADER, BODY, RSA).replace(b"one", b"1").replace(b"Hello", b"Hi")
    (verdict,) = verdicts_of(message, zone(key_record(RSA)), now=NOW)
    assert verdict.result is Result.FAIL
    assert verdict.reason == (
        "the body differs from what was signed (relaxed, canonical length 26); "
        "header fields differ from what was signed (h=Subject:To:From)"
    )


def test_another_key_or_a_damaged_signature_is_told_from_another_header() -> None:
    other = generate_private_key(65537, 1024)
    assert (
        one(records=zone(key_record(other))).reason
        == f"the signature was not made with the key {NAME}, or it is damaged"
    )
    assert one(damage=(b"; b=", b"; b=AAAA")).reason.startswith("the signature was not made with the key")


def test_harmless_changes() -> None:
    for damage in [(b"To:  b", b"To: \r\n b"), (b"Hello  there, ", b"Hello there,\t\t"), (b"it.\r\n", b"it.\r\n \r\n")]:
        assert one(damage=damage).result is Result.PASS
        assert one({"c": "simple/simple"}, damage=damage).result is Result.FAIL


def test_a_part_of_the_body() -> None:
    verdict = one({"l": "5"}, damage=(b"is it.", b"is NOT it."))
    assert (verdict.result, verdict.body_length) == (Result.PASS, 5)
    assert "only the first 5 of 33 octets of the body (l=)" in verdict.reason
    assert one({"l": "29"}).reason.startswith("3 names of header fields and the body of 29 octets")
    failed = one({"l": "20"}, damage=(b"Hello", b"Hallo"))
    assert (
        failed.reason
        == "the first 20 octets of the body differ from what was signed (relaxed, canonical length 29, l=)"
    )
    # RFC 6376 §3.5: l= MUST NOT be larger than the canonical body.
    longer = one({"l": "30"})
    assert longer.result is Result.FAIL
    assert longer.reason == "the body is shorter than what was signed (relaxed, canonical length 29, l=30)"
    assert one({"l": "0"}, damage=(b"Hello", b"Hallo")).result is Result.PASS


def test_a_second_author_above_the_signed_one() -> None:
    """RFC 6376 §8.15."""
    message = b"From: evil@z.test\r\n" + signed(HEADER, BODY, RSA)
    (verdict,) = verdicts_of(message, zone(key_record(RSA)), now=NOW)
    assert (verdict.result, verdict.reason) == (
        Result.POLICY,
        "the signature holds, but a From field was added that it leaves out",
    )
    oversigned = b"From: evil@z.test\r\n" + signed(HEADER, BODY, RSA, {"h": "from:from:to"})
    (verdict,) = verdicts_of(oversigned, zone(key_record(RSA)), now=NOW)
    assert verdict.result is Result.FAIL


def test_the_algorithm_that_proves_nothing() -> None:
    """RFC 8301 §3.1, §3.2; no key is asked for."""
    resolver = zone(key_record(RSA))
    sha1 = base64.b64encode(bytes(20)).decode()
    verdict = one({"a": "rsa-sha1", "bh": sha1}, records=resolver)
    assert (verdict.result, verdict.algorithm) == (Result.PERMERROR, "rsa-sha1")
    assert verdict.reason == "rsa-sha1 proves nothing any more"
    assert resolver.asked == []


def test_keys_that_are_too_short_or_too_long() -> None:
    short = load_pem_private_key(SHORT_KEY, None)
    assert isinstance(short, RSAPrivateKey)
    verdict = one(key=short)
    assert (verdict.result, verdict.key_bits) == (Result.POLICY, 768)
    assert verdict.reason == "the signature holds, but its key has only 768 bits"
    assert one(key=short, damage=(b"Hello", b"Hallo")).result is Result.FAIL
    assert one(key=short, limits=DkimLimits(key_bits_minimum=768)).result is Result.PASS
    verdict = one(limits=DkimLimits(key_bits_maximum=2047))
    assert (verdict.result, verdict.key_bits) == (Result.POLICY, 2048)
    assert verdict.reason == "a key of 2048 bits is more than is looked at"


def test_times() -> None:
    assert one({"x": str(NOW - 300)}).result is Result.PASS
    late = one({"x": str(NOW - 301)})
    assert (late.result, late.reason) == (Result.FAIL, f"the signature has expired (x={NOW - 301})")
    assert one({"t": str(NOW + 300)}).result is Result.PASS
    early = one({"t": str(NOW + 301)})
    assert (early.result, early.reason) == (Result.POLICY, f"the signature is from the future (t={NOW + 301})")
    assert one({"t": "0", "x": "9" * 76}).result is Result.PASS


@pytest.mark.parametrize(
    ("record", "result", "said"),
    [
        (DnsTrouble("SERVFAIL"), Result.TEMPERROR, f"no answer about the key {NAME}: SERVFAIL"),
        (Found.NODATA, Result.PERMERROR, f"there is no key {NAME} (no record of this type)"),
        (Found.NXDOMAIN, Result.PERMERROR, f"there is no key {NAME} (no such domain name)"),
        ("v=spf1 -all", Result.PERMERROR, f"there is no key {NAME}, only records about other things"),
        ("v=DKIM1; p=", Result.PERMERROR, f"the key is revoked ({NAME})"),
        ("p=", Result.PERMERROR, f"the key is revoked ({NAME})"),
        ("v=DKIM1; k=rsa", Result.PERMERROR, f"the key record is broken: p= is missing ({NAME})"),
        ("v=DKIM1; p=AAAA", Result.PERMERROR, f"the key record is broken: p= is not an RSA key ({NAME})"),
        ("v=DKIM1; p=" + "A" * 9000, Result.PERMERROR, f"the key record is too long ({NAME})"),
        (key_record(ED25519), Result.PERMERROR, f"the key is for ed25519, the signature for rsa ({NAME})"),
        (key_record(RSA, "h=sha1; "), Result.PERMERROR, f"the key is not for sha256 (h=) ({NAME})"),
        (key_record(RSA, "s=tlsrpt; "), Result.PERMERROR, f"the key is not for mail (s=) ({NAME})"),
        (key_record(RSA, "s=tlsrpt : email; "), Result.PASS, ""),
        (key_record(RSA, "s=*; h=sha1:sha256; t=y:s; n=a note; g=*; "), Result.PASS, ""),
        (key_record(RSA).removeprefix("v=DKIM1; k=rsa; "), Result.PASS, ""),
    ],
)
def test_what_is_at_the_name_of_the_key(record: object, result: Result, said: str) -> None:
    verdict = one(records=zone(record))
    assert verdict.result is result, verdict
    assert said in verdict.reason
    assert verdict.testing is (isinstance(record, str) and "t=y" in record)


def test_the_bare_form_of_rsa_keys() -> None:
    octets = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert one(records=zone(f"p={base64.b64encode(octets).decode()}")).result is Result.PASS


def test_several_records_at_one_name() -> None:
    other = generate_private_key(65537, 1024)
    mixed = ("v=spf1 -all", "v=DKIM1; p=%", key_record(ED25519), key_record(other), key_record(RSA))
    assert one(records=zone(*mixed)).result is Result.PASS
    assert one(records=zone(*mixed), limits=DkimLimits(keys=1)).result is Result.FAIL
    assert one(records=zone(*mixed), limits=DkimLimits(records=4)).result is Result.FAIL
    assert one(records=zone(*mixed[:3])).reason.startswith("the key record is broken: p= is not base64")


def test_identities_below_the_domain() -> None:
    assert one({"i": "a@sub.x.test"}).identity == "a@sub.x.test"
    assert one({"i": "a@sub.x.test"}).result is Result.PASS
    strict = one({"i": "a@sub.x.test"}, extra="t=s; ")
    assert (strict.result, strict.reason.partition(" (")[0]) == (Result.PERMERROR, "the key is for its own domain only")
    assert one({"i": "a@x.test"}, extra="t=s; ").result is Result.PASS


def test_internationalized_names() -> None:
    """RFC 8616 §5: U-labels are asked for as A-labels."""
    resolver = zone(key_record(RSA), name="xn--gre-6ka8i._domainkey.xn--bcher-kva.test")
    verdict = one({"d": "bücher.test", "s": "größe", "i": "jürgen@post.bücher.test"}, records=resolver)
    assert verdict.result is Result.PASS, verdict
    assert (verdict.domain, verdict.identity) == ("xn--bcher-kva.test", "jürgen@post.bücher.test")


def test_a_broken_field_is_a_permanent_error_with_a_reason() -> None:
    resolver = zone(key_record(RSA))
    for changes, said in [
        ({"h": "to"}, "From is not among the signed fields (h=)"),
        ({"v": "2"}, "version '2' is not known"),
        ({"d": "x"}, "d= is not the name of a domain"),
        ({"q": "other"}, "q= names no way to ask for the key that is known"),
    ]:
        verdict = one(changes, records=resolver)
        assert (verdict.result, verdict.reason) == (Result.PERMERROR, f"the signature field is broken: {said}")
    assert resolver.asked == []


def test_signatures_up_to_a_limit_are_looked_at_together() -> None:
    message = signed(HEADER, BODY, RSA)
    field = message.partition(b"From:")[0]
    resolver = zone(key_record(RSA))
    verdicts = verdicts_of(field * 99 + message, resolver, now=NOW)
    assert [verdict.result for verdict in verdicts] == [Result.PASS] * 10
    assert verdicts[8].reason + "; 90 more signatures were left out, the limit is 10" == verdicts[9].reason
    assert resolver.asked == [("TXT", NAME)]


def test_keys_are_asked_for_all_at_once_while_the_body_comes_in() -> None:
    header = b"".join(
        signed(HEADER, BODY, RSA, {"s": f"s{number}"}).partition(b"From:")[0] for number in range(3)
    ) + b"".join(HEADER)
    records = {("TXT", f"s{number}._domainkey.x.test"): [key_record(RSA).encode()] for number in range(3)}

    async def run() -> tuple[DkimVerdict, ...]:
        resolver = FakeResolver(records)
        resolver.gate = asyncio.Event()
        hashes = BodyHashes()
        verification = DkimVerification(header, hashes, resolver=resolver, now=NOW)
        verification.start()
        await asyncio.sleep(0)
        assert len(resolver.asked) == 3
        hashes.feed(BODY)
        hashes.finish()
        resolver.gate.set()
        return await verification.verdicts()

    assert [verdict.result for verdict in asyncio.run(run())] == [Result.PASS] * 3


def test_a_message_that_is_given_up_leaves_no_question_behind() -> None:
    async def run() -> None:
        resolver = zone(key_record(RSA))
        resolver.gate = asyncio.Event()
        verification = DkimVerification(
            signed(HEADER, BODY, RSA).partition(b"\r\n\r\n")[0] + b"\r\n", BodyHashes(), resolver=resolver, now=NOW
        )
        verification.start()
        await asyncio.sleep(0)
        verification.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_a_verdict_before_the_body_has_ended_is_a_mistake_of_the_caller() -> None:
    async def run() -> None:
        header = signed(HEADER, BODY, RSA).partition(b"\r\n\r\n")[0] + b"\r\n"
        verification = DkimVerification(header, BodyHashes(), resolver=zone(key_record(RSA)), now=NOW)
        with pytest.raises(RuntimeError):
            await verification.verdicts()

    asyncio.run(run())


def test_a_message_without_signatures() -> None:
    assert verdicts_of(b"From: a@x.test\r\n\r\nHi\r\n", FakeResolver({}), now=NOW) == ()


def test_hostile_headers_take_linear_time() -> None:
    """Ten signatures whose h= is as long as the header can be, over a header of 20,000 fields."""
    names = ":".join(["from", *["a"] * 20_000])
    field = signed(HEADER, BODY, RSA, {"h": "from"}).partition(b"From:")[0].replace(b"h=from", f"h={names}".encode())
    header = [b"a:\r\n"] * 20_000
    message = field * 10 + b"".join(header) + b"".join(HEADER) + b"\r\n" + BODY
    begin = time.process_time()
    verdicts = verdicts_of(message, zone(key_record(RSA)), now=NOW)
    assert time.process_time() - begin < 5
    assert {verdict.result for verdict in verdicts} == {Result.FAIL}
    assert all(len(verdict.reason) < 400 for verdict in verdicts)


def test_a_key_is_judged_once_for_a_signer(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[bytes] = []

    def parsed(text: bytes) -> KeyRecord:
        judged.append(text)
        return parse_key_record(text)

    monkeypatch.setattr(key_lookup, "parse_key_record", parsed)
    key = generate_private_key(65537, 1024)
    for extra in ("", "t=y; "):
        for _ in range(2):
            assert one(key=key, extra=extra).result is Result.PASS
    assert len(judged) == 2


def test_a_key_is_loaded_once() -> None:
    record = key_record(RSA).encode()
    assert parse_key_record(record) is parse_key_record(bytes(bytearray(record)))

"""What is sealed with which key, when it comes in and when it is passed on (arc_seal, arc_seal_key)."""

from __future__ import annotations

import pytest

from ekiden.auth.arc.recorded import Recorded, recorded
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.results.write import authentication_results, results_text
from ekiden.auth.verdict import ArcVerdict, DmarcVerdict, Result, SpfVerdict, Verdicts
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import ParameterError, Parameters
from ekiden.policy.arc_sealing import ArcSealer, Sealed, sealing_key
from ekiden.tls.key_files import KeyFiles, key_directories
from support.arc_chains import NOW, divided, key, pem, sealed, verified, zone

MESSAGE = b"From: a@author.test\r\nSubject: x\r\n\r\nHello\r\n"
SETTINGS = {
    "arc_seal_key": "mx.test:s:arc.pem",
    "dkim_key_directory": "/keys/",
    "authserv_id": "mx.test",
}
KEYS = KeyFiles({"/keys/arc.pem": pem("rsa-sha256"), "/keys/broken.pem": b""})
VERDICTS = Verdicts(
    spf=SpfVerdict(Result.FAIL, "mailfrom", "author.test", reason='"it" is (not) permitted; by anybody, ' * 3),
    dmarc=DmarcVerdict(Result.PASS, "author.test", "author.test"),
    arc=ArcVerdict(Result.NONE),
)
RESULTS = results_text(VERDICTS, client_address="2001:db8::1")


def sealer(**settings: str) -> ArcSealer:
    return ArcSealer(Parameters({**SETTINGS, **settings}), key_files=lambda: KEYS)


def forwarded(made: ArcSealer, message: bytes) -> Sealed:
    header, body = divided(message)
    hashes = BodyHashes()
    made.prepare(hashes)
    hashes.feed(body)
    hashes.finish()
    return made.seal_forwarded(header, hashes, now=NOW)


def test_what_is_sealed() -> None:
    assert sealer()
    assert not sealer().seals_all
    assert sealer(arc_seal="all").seals_all
    assert not sealer(arc_seal="no")
    assert not sealer(arc_seal_key="")
    assert not ArcSealer(Parameters({}), key_files=lambda: KEYS)
    with pytest.raises(ParameterError):
        sealer(arc_seal="yes").seals_all  # noqa: B018


def test_the_supervisor_reads_the_key() -> None:
    assert list(key_directories(Parameters(SETTINGS))) == ["/keys"]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("mx.test:s", "arc_seal_key: it is not domain:selector:file"),
        ("%:s:arc.pem", "arc_seal_key: % stands for nothing here"),
        ("mx.test:s:/etc/shadow", "arc_seal_key: /etc/shadow does not lie in dkim_key_directory (/keys)"),
    ],
)
def test_a_key_that_cannot_be_meant(word: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sealing_key(Parameters({**SETTINGS, "arc_seal_key": word}))
    assert raised.value.text == problem


def test_a_message_is_sealed_as_it_comes_in() -> None:
    header, body = divided(MESSAGE)
    made = sealer(arc_seal="all")
    hashes = BodyHashes()
    made.prepare(hashes)
    hashes.feed(body)
    hashes.finish()
    found = made.seal(header, hashes, chain=ArcVerdict(Result.NONE), results=RESULTS, now=NOW)
    assert verified(found.fields + MESSAGE, zone(key("mx.test"))).sealers == ("mx.test",)
    assert (found.note, found.trouble) == ("", "")


def test_what_is_passed_on_is_sealed_with_what_was_found_when_it_came() -> None:
    message = authentication_results("mx.test", RESULTS) + MESSAGE
    assert recorded(SignableHeader(message), "mx.test") == Recorded(RESULTS, ArcVerdict(Result.NONE))
    found = forwarded(sealer(), message)
    verdict = verified(found.fields + message, zone(key("mx.test")))
    assert (verdict.result, verdict.sealers) == (Result.PASS, ("mx.test",))
    results = found.fields.partition(b"ARC-Authentication-Results: i=1; mx.test;")[2]
    assert results.replace(b"\r\n\t", b" ").strip().decode() == RESULTS
    # The next hop of ours goes on with the chain.
    again = results_text(Verdicts(arc=verdict), client_address="192.0.2.1")
    message = authentication_results("MX.test", again) + found.fields + message
    assert verified(forwarded(sealer(), message).fields + message, zone(key("mx.test"))).instances == 2


@pytest.mark.parametrize("before", [b"", sealed(MESSAGE, key("x.test"), ArcVerdict(Result.NONE), "spf=pass")])
def test_what_was_sealed_as_it_came_in_is_not_sealed_again(before: bytes) -> None:
    message = before or MESSAGE
    results = results_text(Verdicts(arc=ArcVerdict(Result.PASS if before else Result.NONE)))
    message = authentication_results("mx.test", results) + message
    once = forwarded(sealer(), message).fields
    assert once
    assert forwarded(sealer(), once + message) == Sealed(note="it was sealed as it came in")


@pytest.mark.parametrize(
    ("field", "note"),
    [
        (b"", "it has no Authentication-Results of ours that speak of ARC"),
        (authentication_results("other.test", RESULTS), "it has no Authentication-Results of ours that speak of ARC"),
        (authentication_results("mx.test", "spf=pass"), "it has no Authentication-Results of ours that speak of ARC"),
        (authentication_results("mx.test", "arc=what"), "it has no Authentication-Results of ours that speak of ARC"),
        (authentication_results("mx.test", "arc=pass"), "the chain is not the one that was verified"),
        (
            authentication_results("mx.test", 'arc=temperror reason="no answer"'),
            "it is not known whether the chain holds: no answer",
        ),
    ],
)
def test_what_is_not_sealed(field: bytes, note: str) -> None:
    assert forwarded(sealer(), field + MESSAGE) == Sealed(note=note)


def test_a_key_that_cannot_be_used_is_a_warning() -> None:
    message = authentication_results("mx.test", RESULTS) + MESSAGE
    for name, problem in (
        ("none.pem", "there is no such file, or its name does not end in .pem, .key or .private"),
        ("broken.pem", "no private key in PEM form"),
    ):
        found = forwarded(sealer(arc_seal_key=f"mx.test:s:{name}"), message)
        assert found == Sealed(trouble=f"no ARC seal by /keys/{name}: {problem}")

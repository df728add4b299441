"""SCRAM's arithmetic and messages against the examples of RFC 5802 §5 and RFC 7677 §3."""

from __future__ import annotations

import base64

import pytest

from ekiden.sasl import scram
from ekiden.sasl.scram import ScramHash, ScramSyntax

EXAMPLES = {
    ScramHash.SHA1: (
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    ScramHash.SHA256: (
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


@pytest.mark.parametrize("algorithm", ScramHash)
def test_the_examples_of_the_rfcs_come_out_on_both_sides(algorithm: ScramHash) -> None:
    first, challenge, final, last = EXAMPLES[algorithm]
    begin, answer = scram.parse_client_first(first), scram.parse_server_first(challenge)
    assert (begin.flag, begin.name, begin.header) == ("n", "user", "n,,")
    salted = scram.salted_password(algorithm, "pencil", answer.salt, answer.iterations)
    stored = scram.stored_key(algorithm, salted)
    without = scram.without_proof(begin, answer.nonce)
    signed = scram.auth_message(begin, answer, without)
    proof = scram.client_proof(algorithm, scram.client_key(algorithm, salted), signed)
    assert scram.client_final(without, proof).encode() == final
    parsed = scram.parse_client_final(final)
    assert parsed.without_proof == without
    assert parsed.channel == b"n,,"
    assert scram.is_proof(algorithm, stored, parsed.proof, signed)
    assert not scram.is_proof(algorithm, stored, bytes(len(proof)), signed)
    assert not scram.is_proof(algorithm, stored, b"", signed)
    signature = scram.server_signature(algorithm, scram.server_key(algorithm, salted), signed)
    assert scram.server_final(signature).encode() == last
    assert scram.parse_server_final(last).signature == signature


@pytest.mark.parametrize(
    "name", ["a", "a,b", "a=b", "=2C", "=3D,", "Jürgen", "user@example.com", "名前"], ids=lambda name: ascii(name)
)
def test_names_come_through_their_escapes(name: str) -> None:
    message = scram.client_first(name, "abc", flag="p", binding="tls-exporter", authzid=name)
    parsed = scram.parse_client_first(message.text.encode())
    assert parsed == message
    assert (parsed.name, parsed.authzid, parsed.flag, parsed.binding) == (name, name, "p", "tls-exporter")


def test_server_first_is_read_as_it_was_written() -> None:
    message = scram.server_first("abcDEF", b"salt", 4096)
    assert scram.parse_server_first(message.text.encode()) == message


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", "other-error"),
        (b"n,,n=user", "other-error"),
        (b"n,,n=,r=abc", "other-error"),
        (b"n,,n=us=er,r=abc", "other-error"),
        (b"n,,n=us=2cer,r=abc", "other-error"),
        (b"n,,n=user,r=", "other-error"),
        (b"n,,n=user,r=a b", "other-error"),
        (b"x,,n=user,r=abc", "other-error"),
        (b"p=,,n=user,r=abc", "other-error"),
        (b"n,b=x,n=user,r=abc", "other-error"),
        (b"n,,n=u\0,r=abc", "other-error"),
        (b"n,,m=x,n=user,r=abc", "extensions-not-supported"),
        (b"n,,n=us\xffer,r=abc", "invalid-encoding"),
    ],
)
def test_what_is_no_client_first_message_is_named(text: bytes, error: str) -> None:
    with pytest.raises(ScramSyntax) as caught:
        scram.parse_client_first(text)
    assert caught.value.error == error


@pytest.mark.parametrize(
    "text",
    [b"", b"c=biws", b"c=biws,r=abc", b"c=biws,r=abc,p=!", b"c=b,r=abc,p=AAAA", b"p=AAAA,c=biws,r=abc", b"\xff"],
)
def test_what_is_no_client_final_message_is_refused(text: bytes) -> None:
    with pytest.raises(ScramSyntax):
        scram.parse_client_final(text)


@pytest.mark.parametrize(
    "text", [b"", b"r=a", b"r=a,s=AAAA,i=0", b"r=a,s=AAAA,i=99999999999", b"r=a,s=A,i=1", b"m=x,r=a,s=AAAA,i=1"]
)
def test_what_is_no_server_first_message_is_refused(text: bytes) -> None:
    with pytest.raises(ScramSyntax):
        scram.parse_server_first(text)


def test_a_server_may_say_what_is_wrong() -> None:
    assert scram.parse_server_final(b"e=invalid-proof").error == "invalid-proof"
    with pytest.raises(ScramSyntax):
        scram.parse_server_final(b"x=invalid-proof")


def test_extensions_that_need_no_understanding_are_passed_over_and_signed() -> None:
    parsed = scram.parse_client_first(b"n,,n=user,r=abc,x=what,y=ever")
    assert parsed.bare == "n=user,r=abc,x=what,y=ever"


def test_mechanisms_have_their_hash() -> None:
    assert scram.hash_of("SCRAM-SHA-1-PLUS") is ScramHash.SHA1
    assert scram.hash_of("SCRAM-SHA-256") is ScramHash.SHA256
    assert scram.hash_of("SCRAM-SHA-512") is None
    assert scram.hash_of("PLAIN") is None
    assert len(base64.b64decode("rmF9pqV8S7suAoZWja4dJRkFsKQ=")) == ScramHash.SHA1.size
    assert ScramHash.SHA256.size == 32

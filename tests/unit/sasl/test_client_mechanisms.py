"""The client's side of each mechanism: vectors of the RFCs, our own server as the other side, and servers that lie."""

from __future__ import annotations

import base64

import pytest

from ekiden.protocol.smtp.client_login import Exchange, LoginProblem
from ekiden.sasl import scram
from ekiden.sasl.client_mechanisms import KNOWN, Channel, Credentials, ScramClient, exchange_of
from ekiden.sasl.scram import ScramHash

ACCOUNT = Credentials("user", "pencil")


def exchange(mechanism: str, credentials: Credentials = ACCOUNT, channel: Channel = Channel()) -> Exchange:  # noqa: B008
    found = exchange_of(mechanism, credentials, channel)
    assert not isinstance(found, LoginProblem)
    return found


# -- vectors --


def test_plain() -> None:
    """RFC 4616 §4."""
    plain = exchange("PLAIN", Credentials("tim", "tanstaaftanstaaf"))
    assert plain.initial == b"\0tim\0tanstaaftanstaaf"
    assert plain.complete
    assert isinstance(plain.respond(b""), LoginProblem)


def test_login_asks_for_user_and_password_whatever_it_calls_them() -> None:
    login = exchange("LOGIN")
    assert login.initial is None
    assert [login.respond(b"User Name\0"), login.complete] == [b"user", False]
    assert [login.respond(b"?"), login.complete] == [b"pencil", True]
    assert isinstance(login.respond(b"Once more:"), LoginProblem)


def test_cram_md5() -> None:
    """RFC 2195 §2."""
    cram = exchange("CRAM-MD5", Credentials("tim", "tanstaaftanstaaf"))
    assert cram.initial is None
    assert cram.respond(b"<1896.697170952@postoffice.reston.mci.net>") == b"tim b913a602c7eda7a495b4e6e7334d3890"
    assert cram.complete
    assert isinstance(cram.respond(b"<again>"), LoginProblem)


def test_oauthbearer() -> None:
    """RFC 7628 §4.1, §4.3."""
    channel = Channel(host="server.example.com", port=143)
    bearer = exchange(
        "OAUTHBEARER", Credentials("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="), channel
    )
    assert bearer.initial == (
        b"n,a=user@example.com,\1host=server.example.com\1port=143\1"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"
    )
    assert bearer.complete
    assert bearer.respond(b'{"status":"invalid_token"}') == b"\1"
    assert not bearer.complete
    assert isinstance(bearer.respond(b"{}"), LoginProblem)


def test_xoauth2() -> None:
    bearer = exchange("XOAUTH2", Credentials("someuser@example.com", "ya29.vF9dft4q"))
    assert bearer.initial == b"user=someuser@example.com\1auth=Bearer ya29.vF9dft4q\1\1"
    assert bearer.respond(b'{"status":"400"}') == b""


def test_external_leaves_it_to_the_certificate() -> None:
    """RFC 4422 appendix A."""
    assert exchange("EXTERNAL", Credentials("", "")).initial == b""
    assert exchange("EXTERNAL", Credentials("other", "")).initial == b"other"


SHA1 = (
    "SCRAM-SHA-1",
    "fyko+d2lbbFgONRv9qkxdawL",
    b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
)
SHA256 = (
    "SCRAM-SHA-256",
    "rOprNGfwEbeRWgbNEkqO",
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
)


@pytest.mark.parametrize(("mechanism", "nonce", "first", "final", "last"), [SHA1, SHA256])
def test_scram(mechanism: str, nonce: str, first: bytes, final: bytes, last: bytes) -> None:
    """RFC 5802 §5, RFC 7677 §3."""
    client = ScramClient(mechanism, ACCOUNT, Channel(), nonce=lambda: nonce)
    assert client.initial == f"n,,n=user,r={nonce}".encode()
    assert client.respond(first) == final
    assert not client.complete
    assert client.respond(last) == b""
    assert client.complete
    assert isinstance(client.respond(last), LoginProblem)


# -- servers of SCRAM that lie --


@pytest.mark.parametrize(
    "first",
    [
        b"r=other,s=QSXCR+Q6sek8bf92,i=4096",  # not our nonce
        b"r=mine,s=QSXCR+Q6sek8bf92,i=4096",  # nothing of the server's own in it
        b"r=mine2,s=QSXCR+Q6sek8bf92,i=1",  # cheap to try passwords on
        b"r=mine2,s=QSXCR+Q6sek8bf92,i=2000000000",  # would never end
        b"r=mine2,s=QSXCR+Q6sek8bf92",
        b"m=x,r=mine2,s=QSXCR+Q6sek8bf92,i=4096",
        b"\xff\xfe",
        b"",
    ],
)
def test_a_first_message_that_is_none(first: bytes) -> None:
    client = ScramClient("SCRAM-SHA-256", ACCOUNT, Channel(), nonce=lambda: "mine")
    assert isinstance(client.respond(first), LoginProblem)
    assert not client.complete


@pytest.mark.parametrize("last", [b"v=AAAA", b"e=invalid-proof", b"", b"x", b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ"])
def test_a_server_that_does_not_know_the_password(last: bytes) -> None:
    """RFC 5802 §3: it cannot make the signature."""
    mechanism, nonce, first, _, _ = SHA1
    client = ScramClient(mechanism, ACCOUNT, Channel(), nonce=lambda: nonce)
    client.respond(first)
    client.respond(last)
    assert not client.complete


def test_a_server_that_refuses_in_words_does_so_once() -> None:
    """RFC 5802 §7: after e= there is nothing more to say."""
    mechanism, nonce, first, _, _ = SHA1
    client = ScramClient(mechanism, ACCOUNT, Channel(), nonce=lambda: nonce)
    client.respond(first)
    assert client.respond(b"e=invalid-proof") == b""
    assert isinstance(client.respond(b"e=invalid-proof"), LoginProblem)


# -- channel binding --


def test_plus_binds_the_exchange_to_the_best_kind_there_is() -> None:
    """RFC 5802 §6."""
    bindings = {"tls-server-end-point": b"end", "tls-exporter": b"exported"}
    client = ScramClient("SCRAM-SHA-256-PLUS", ACCOUNT, Channel(bindings=bindings), nonce=lambda: "n")
    assert client.initial == b"p=tls-exporter,,n=user,r=n"
    answer = client.respond(b"r=n2,s=QSXCR+Q6sek8bf92,i=4096")
    assert isinstance(answer, bytes)
    assert answer.startswith(b"c=" + base64.b64encode(b"p=tls-exporter,,exported") + b",r=n2,p=")


@pytest.mark.parametrize(("offered", "flag"), [({"SCRAM-SHA-1"}, b"y"), ({"SCRAM-SHA-1", "SCRAM-SHA-256-PLUS"}, b"n")])
def test_without_plus_the_server_hears_whether_its_offer_came_through(offered: set[str], flag: bytes) -> None:
    """RFC 5802 §6: y makes a removed offer fail."""
    channel = Channel(bindings={"tls-exporter": b"x"}, offered=frozenset(offered))
    client = ScramClient("SCRAM-SHA-1", ACCOUNT, channel, nonce=lambda: "n")
    assert client.initial is not None
    assert client.initial.startswith(flag + b",,")


def test_our_own_arithmetic_agrees_as_the_server() -> None:
    mechanism = "SCRAM-SHA-256"
    client = ScramClient(mechanism, ACCOUNT, Channel())
    assert client.initial is not None
    first = scram.parse_client_first(client.initial)
    answer = scram.server_first(first.nonce + "server", b"salt", 4096)
    reply = client.respond(answer.text.encode())
    assert isinstance(reply, bytes)
    final = scram.parse_client_final(reply)
    salted = scram.salted_password(ScramHash.SHA256, "pencil", b"salt", 4096)
    signed = scram.auth_message(first, answer, final.without_proof)
    assert scram.is_proof(ScramHash.SHA256, scram.stored_key(ScramHash.SHA256, salted), final.proof, signed)
    signature = scram.server_signature(ScramHash.SHA256, scram.server_key(ScramHash.SHA256, salted), signed)
    assert client.respond(scram.server_final(signature).encode()) == b""
    assert client.complete


# -- all of them --


@pytest.mark.parametrize("mechanism", [traits.name for traits in KNOWN])
@pytest.mark.parametrize("account", [Credentials("a\0b", "c"), Credentials("a", "b\0c"), Credentials("a", "b\1c")])
def test_what_would_be_a_field_of_the_message_is_no_name_and_no_password(mechanism: str, account: Credentials) -> None:
    assert isinstance(exchange_of(mechanism, account, Channel(bindings={"tls-exporter": b"x"})), LoginProblem)


def test_a_password_is_shown_to_nobody() -> None:
    assert "pencil" not in repr(ACCOUNT)
    assert "pencil" not in str(ACCOUNT)

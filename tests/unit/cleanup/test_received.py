"""cleanup.received: RFC 5321 §4.4, and nothing a client says can forge a line."""

from __future__ import annotations

import re

import pytest

from ekiden.cleanup.received import received_field
from ekiden.message.address import Address
from ekiden.message.envelope import Client, Recipient
from ekiden.message.tls_facts import TlsFacts


def field(client: Client, *recipients: str) -> str:
    addresses = tuple(Recipient(Address(*text.split("@"))) for text in recipients)
    return received_field(
        client=client, queue_id="Q1", recipients=addresses, hostname="mx.example", mail_name="Ekiden", at=0.0
    ).decode()


def test_with_one_recipient() -> None:
    client = Client(name="host.example", address="192.0.2.1", helo="helo.example", protocol="ESMTP")
    text = field(client, "a@b.example")
    assert text.startswith(
        "Received: from helo.example (host.example [192.0.2.1])\r\n"
        "\tby mx.example (Ekiden) with ESMTP id Q1\r\n"
        "\tfor <a@b.example>; "
    )
    assert re.search(r"; Thu, 1 Jan 1970 \d\d:00:00 [+-]\d{4}\r\n\Z", text)


def test_several_recipients_are_not_named() -> None:
    text = field(Client(helo="h"), "a@b.example", "c@d.example")
    assert "for <" not in text


def test_ipv6_is_tagged() -> None:
    assert "[IPv6:2001:db8::1]" in field(Client(address="2001:db8::1", helo="h", is_ipv6=True), "a@b.example")


def test_a_hostile_helo_stays_inside_its_word() -> None:
    text = field(Client(helo="x) evil\r\nBcc: z@z.example (\x00<b>"), "a@b.example")
    assert text.count("\r\n") == 3
    assert "Bcc: " not in text
    assert re.match(r"Received: from [!-'*-~]+ \(unknown \[unknown\]\)\r\n", text)


def test_a_local_message_names_the_user_id() -> None:
    client = Client(protocol="local", port=1000)
    assert field(client, "a@b.example").startswith("Received: by mx.example (Ekiden, from userid 1000)\r\n\tid Q1\r\n")


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("ESMTP", "UTF8SMTP"),
        ("ESMTPS", "UTF8SMTPS"),
        ("ESMTPA", "UTF8SMTPA"),
        ("ESMTPSA", "UTF8SMTPSA"),
        ("LMTP", "UTF8LMTP"),
    ],
)
def test_smtputf8_shows_in_the_name_of_the_protocol(protocol: str, name: str) -> None:
    """RFC 6531 §4.3: the names that are registered."""
    text = received_field(
        client=Client(helo="h", protocol=protocol), queue_id="Q1", recipients=(), hostname="mx.example",
        mail_name="Ekiden", at=0.0, smtputf8=True,
    ).decode()  # fmt: skip
    assert f" with {name} id Q1" in text


@pytest.mark.parametrize(
    ("protocol", "tls", "login", "word"),
    [
        ("ESMTP", False, "", "ESMTP"),
        ("ESMTP", True, "", "ESMTPS"),
        ("ESMTP", False, "bob", "ESMTPA"),
        ("ESMTP", True, "bob", "ESMTPSA"),
        ("SMTP", True, "", "SMTP"),
    ],
)
def test_with_says_what_protected_the_message(protocol: str, tls: bool, login: str, word: str) -> None:
    """RFC 3848."""
    facts = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", 128) if tls else None
    client = Client(helo="h", protocol=protocol, tls=facts, login=login)
    assert f"with {word} id Q1" in field(client, "a@b.example")


def test_names_of_a_certificate_stay_inside_their_comment() -> None:
    facts = TlsFacts("TLSv1.2", "X", 1, peer_name='a" (b)\r\nBcc: z', issuer="é\\", fingerprint="00")
    text = received_field(
        client=Client(helo="h", tls=facts),
        queue_id="Q1",
        recipients=(),
        hostname="mx.example",
        mail_name="Ekiden",
        at=0.0,
        shows_tls=True,
        asked_certificate=True,
    ).decode()
    assert '\t(Client CN "a? ?b???Bcc: z", Issuer "??" (not verified))\r\n' in text


def test_a_domain_in_a_labels_keeps_the_header_ascii() -> None:
    """RFC 6531 §3.7.3 lets the address be as it is; a server without SMTPUTF8 could not take that."""
    for address, shown in (
        (Address("bob", "b\u00fccher.example"), "for <bob@xn--bcher-kva.example>;"),
        (Address("b\u00f6b", "b\u00fccher.example"), "for <b\u00f6b@b\u00fccher.example>;"),
    ):
        field = received_field(
            client=Client(helo="h"),
            queue_id="Q",
            recipients=(Recipient(address),),
            hostname="mx",
            mail_name="M",
            at=0.0,
        )
        assert shown in field.decode()

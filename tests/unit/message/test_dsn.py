from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import msgspec
import pytest

from ekiden.message.address import Address
from ekiden.message.date import header_date
from ekiden.message.delivery import DeliveryResult, deferred, delivered, expanded, failed
from ekiden.message.dsn import DsnKind, DsnRecipient, DsnReport, Original, compose, header_of
from ekiden.message.envelope import Recipient
from ekiden.message.status import Status
from support.requirements import require_conformance

ORIGINAL = b"From: ann@example.com\r\nSubject: hello\r\n\r\nHello.\r\n"
NOBODY = failed(
    Status(5, 1, 1), "host mx.far.example[192.0.2.1] said: 550 5.1.1 <bob@far.example> no such user",
    remote_mta="dns; mx.far.example", diagnostic="smtp; 550 5.1.1 <bob@far.example> no such user",
)  # fmt: skip
BOB = Recipient(Address("bob", "far.example"))


def report(*results: DeliveryResult, kind: DsnKind = DsnKind.FAILURE, **facts: object) -> DsnReport:
    made = DsnReport(
        kind=kind,
        host="mx.here.example",
        mail_name="Ekiden",
        sender=Address("ann", "example.com"),
        to=Address("ann", "example.com"),
        message_id="<X1@mx.here.example>",
        boundary="X1.1/mx.here.example",
        now=1_772_521_740.0,
        queue_id="Q1",
        arrived=1_772_521_000.0,
        recipients=[DsnRecipient(BOB, result) for result in results or (NOBODY,)],
        original=Original(ORIGINAL, is_whole=True),
    )
    return msgspec.structs.replace(made, **facts)


def parsed(data: bytes) -> EmailMessage:
    """By the standard library's parser; every rule of form that all notifications obey is checked here."""
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert b"\0" not in data
    assert max(map(len, data.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert message["Auto-Submitted"] == "auto-replied"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds[:2] == ["text/plain", "message/delivery-status"]
    assert len(kinds) <= 3
    for part in message.walk():
        assert not part.defects
    return message


def blocks(message: EmailMessage) -> list[dict[str, str]]:
    """The groups of fields of the delivery-status part."""
    status = list(message.iter_parts())[1]
    return [dict(block.items()) for block in status.get_payload()]  # type: ignore[union-attr]


def test_a_failure() -> None:
    data = compose(report())
    message = parsed(data)
    assert b"From: Mail Delivery System <MAILER-DAEMON@mx.here.example>\r\n" in data
    assert message["To"] == "ann@example.com"
    assert message["Subject"] == "Undelivered Mail Returned to Sender"
    assert message["Message-ID"] == "<X1@mx.here.example>"
    assert f"Date: {header_date(1772521740.0)}\r\n".encode() in data
    human, _, returned = message.iter_parts()
    text = human.get_content()
    assert text.startswith("This is the mail system at host mx.here.example.\r\n")
    assert "<bob@far.example>: host mx.far.example[192.0.2.1] said: 550 5.1.1" in text
    per_message, bob = blocks(message)
    assert per_message["Reporting-MTA"] == "dns; mx.here.example"
    assert per_message["X-Ekiden-Queue-ID"] == "Q1"
    assert per_message["Arrival-Date"] == header_date(1772521000.0)
    assert bob == {
        "Final-Recipient": "rfc822; bob@far.example",
        "Original-Recipient": "rfc822; bob@far.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.far.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 <bob@far.example> no such user",
    }
    assert returned.get_content_type() == "message/rfc822"
    assert b"\r\n\r\n" + ORIGINAL + b"\r\n--" in data
    assert data.isascii()


def test_a_delay() -> None:
    late = DsnRecipient(BOB, deferred(Status(4, 4, 1), "Connection refused"), 1_772_900_000.0)
    message = parsed(compose(report(kind=DsnKind.DELAY, recipients=[late], original=Original(header_of(ORIGINAL)))))
    assert message["Subject"] == "Delayed Mail (still being retried)"
    human, _, returned = message.iter_parts()
    assert "NEED NOT SEND YOUR MESSAGE AGAIN" in human.get_content()
    assert header_date(1_772_900_000.0) in human.get_content()
    bob = blocks(message)[1]
    assert (bob["Action"], bob["Status"]) == ("delayed", "4.4.1")
    assert bob["Will-Retry-Until"] == header_date(1_772_900_000.0)
    assert bob["Diagnostic-Code"] == "x-ekiden; Connection refused"
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_content() == "From: ann@example.com\r\nSubject: hello\r\n"


@pytest.mark.parametrize(
    ("result", "action"),
    [
        (delivered(Status(2, 0, 0), "delivered to maildir"), "delivered"),
        (expanded(Status(2, 0, 0), "alias expanded"), "expanded"),
    ],
)
def test_success(result: DeliveryResult, action: str) -> None:
    message = parsed(compose(report(result, kind=DsnKind.SUCCESS)))
    assert message["Subject"] == "Successful Mail Delivery Report"
    assert blocks(message)[1]["Action"] == action


def test_an_expired_message_failed_with_its_last_reason() -> None:
    message = parsed(compose(report(deferred(Status(4, 4, 1), "Connection refused"), is_expired=True)))
    bob = blocks(message)[1]
    assert (bob["Action"], bob["Status"]) == ("failed", "4.4.1")
    assert "longer than it may be" in next(message.iter_parts()).get_content()


def test_the_address_as_the_sender_gave_it() -> None:
    list_member = Recipient(Address("bob", "far.example"), original=Address("team", "here.example"))
    message = parsed(compose(report(recipients=[DsnRecipient(list_member, NOBODY)])))
    assert blocks(message)[1]["Original-Recipient"] == "rfc822; team@here.example"
    assert "<bob@far.example> (expanded from <team@here.example>):" in next(message.iter_parts()).get_content()


EVIL = "550 no\r\n\r\nSubject: spam\r\n\r\n--X1.1/mx.here.example\nBcc: all@x\x00\x1b[2J\x85 é 日本"


@pytest.mark.parametrize("field", ["text", "diagnostic", "remote_mta"])
def test_nothing_breaks_out_of_its_field(field: str) -> None:
    result = msgspec.structs.replace(NOBODY, **{field: EVIL})
    message = parsed(compose(report(result)))
    assert len(list(message.iter_parts())) == 3
    assert len(blocks(message)) == 2
    assert message["Subject"] == "Undelivered Mail Returned to Sender"
    assert message["Bcc"] is None
    assert {"Subject", "Bcc"}.isdisjoint(blocks(message)[1])


@pytest.mark.parametrize(
    "evil",
    [Address("a\r\nBcc: x", "far.example"), Address("a" * 5000, "far.example"), Address("a b\x00", "x\r\n\r\ny")],
)
def test_addresses_that_try(evil: Address) -> None:
    message = parsed(compose(report(recipients=[DsnRecipient(Recipient(evil), NOBODY)], to=evil, sender=evil)))
    assert message["Bcc"] is None
    assert len(blocks(message)) == 2


def test_addresses_beyond_ascii() -> None:
    recipient = Recipient(Address("用户", "例え.jp"))
    message = parsed(compose(report(recipients=[DsnRecipient(recipient, NOBODY)])))
    assert blocks(message)[1]["Final-Recipient"] == r"utf-8; \x{7528}\x{6237}@\x{4F8B}\x{3048}.jp"


def test_a_megabyte_of_reply_is_cut() -> None:
    data = compose(report(failed(Status(5, 0, 0), "x" * 1_000_000, diagnostic="smtp; " + "y" * 1_000_000)))
    parsed(data)
    assert len(data) < 8000


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"Subject: caf\xe9\r\n\r\n\xff\xfe\r\n", True),
        ("Subject: café\r\n\r\n日本\r\n".encode(), True),
        ("Subject: café\r\n".encode(), False),
    ],
)
def test_an_original_with_8_bits(data: bytes, whole: bool) -> None:
    made = compose(report(original=Original(data, is_whole=whole)))
    message = parsed(made)
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert data in made
    assert list(message.iter_parts())[2]["Content-Transfer-Encoding"] == "8bit"


@pytest.mark.parametrize(
    "data",
    [
        b"Subject: x\r\n\r\n" + b"y" * 100_000, b"bare\nlines\rhere\r\n\r\nbody", b"\x00\x00", b"", b"\r\n\r\n",
        b"Subject: x\r\n\r\n--X1.1/mx.here.example--\r\n--X1.1/mx.here.example.1\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("whole", [True, False])
def test_strange_originals(data: bytes, whole: bool) -> None:
    made = compose(report(original=Original(data, is_whole=whole)))
    assert made.endswith(b"--\r\n")
    assert b"\r" not in made.replace(b"\r\n", b"")
    assert b"\n" not in made.replace(b"\r\n", b"")
    assert max(map(len, made.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(made, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert len(list(message.iter_parts())) == 3


def test_without_an_original() -> None:
    assert len(list(parsed(compose(report(original=None))).iter_parts())) == 2


def test_header_of() -> None:
    assert header_of(ORIGINAL) == b"From: ann@example.com\r\nSubject: hello\r\n"
    assert header_of(b"no end\r\n") == b"no end\r\n"
    assert header_of(b"\r\nbody") == b""


def test_the_fields_are_those_that_rfc_3464_writes() -> None:
    """Every field we write, our own X- ones aside, occurs in the RFC's examples or its field list."""
    examples = Path(require_conformance("dsn/rfc3464-appendix-e.txt")).read_text("utf-8", "replace")
    known = {line.split(":")[0].strip().lower() for line in examples.splitlines() if ":" in line}
    known |= {"arrival-date", "received-from-mta", "will-retry-until", "original-recipient"}
    message = parsed(compose(report(received_from="client.example")))
    for block in blocks(message):
        assert {name.lower() for name in block if not name.startswith("X-")} <= known


# -- what the sender asked for (RFC 3461), and international reports (RFC 6533)


def test_the_envelope_id_and_the_original_recipient_come_back() -> None:
    """RFC 3461 §6.3: as they were given, with xtext decoded."""
    bob = Recipient(Address("bob", "far.example"), original=Address("robert", "x"), orcpt="rfc822;b+o=b @here.example")
    message = parsed(compose(report(envelope_id="QQ314159 =", recipients=[DsnRecipient(bob, NOBODY)])))
    per_message, per_recipient = blocks(message)
    assert per_message["Original-Envelope-Id"] == "QQ314159 ="
    assert per_recipient["Original-Recipient"] == "rfc822; b+o=b @here.example"
    assert per_recipient["Final-Recipient"] == "rfc822; bob@far.example"
    assert "Original-Envelope-Id" not in blocks(parsed(compose(report())))[0]


def test_an_original_recipient_beyond_ascii_is_escaped_in_an_ascii_report() -> None:
    bob = Recipient(Address("bob", "far.example"), orcpt="utf-8;j\u00f6rg+x@\u4f8b.example")
    _, per_recipient = blocks(parsed(compose(report(recipients=[DsnRecipient(bob, NOBODY)]))))
    assert per_recipient["Original-Recipient"] == r"utf-8; j\x{F6}rg\x{2B}x@\x{4F8B}.example"


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        ("<a@b>", "<a@b>"),
        ("<<a@b>>", "<a@b>"),  # what a broken program wrote, and peers doubled once more
        ("x <a@b> y", "<a@b>"),
        ("a@b", None),
        ("<a b@c>", None),
        ("<>", None),
        ("<a@b\r\nBcc: x>", None),
        ("<" + "x" * 2000 + ">", None),
    ],
)
def test_the_message_id_of_the_original_is_never_doubled(about: str, shown: str | None) -> None:
    data = compose(report(about=about, original=None))
    message = parsed(data)
    assert message["In-Reply-To"] == shown
    assert message["References"] == shown
    assert b"<<" not in data


def international(original: Original | None, **facts: object) -> bytes:
    bob = Recipient(Address("b\u00f6b", "far.example"), orcpt="utf-8;j\u00f6rg+x@\u4f8b.example")
    result = failed(
        Status(5, 1, 1), "gibt\u2019s nicht \U0001f600\r\nX: \x07", diagnostic="smtp; 550 gibt\u2019s nicht"
    )
    values: dict[str, object] = {
        "is_global": True, "sender": Address("\u00e4nn", "example.com"), "to": Address("\u00e4nn", "example.com"),
        "recipients": [DsnRecipient(bob, result)], "original": original, **facts,
    }  # fmt: skip
    return compose(msgspec.structs.replace(report(), **values))


def test_an_international_report() -> None:
    """RFC 6533 §2, §3, §5, §6, RFC 6532 §3.7: types, addresses as they are, and UTF-8 in the part for people."""
    data = international(Original("Subject: gr\u00fc\u00dfe\r\n\r\nbody\r\n".encode(), is_whole=True))
    message = email.message_from_bytes(data, policy=email.policy.SMTPUTF8)
    assert message["To"] == "\u00e4nn@example.com"
    assert message.get_param("report-type") == "global-delivery-status"
    assert message["Content-Transfer-Encoding"] == "8bit"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global"]
    text = data.decode()
    assert "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n" in text
    assert "<b\u00f6b@far.example>: gibt\u2019s nicht \U0001f600" in text
    assert "Final-Recipient: utf-8; b\u00f6b@far.example\r\n" in text
    assert "Original-Recipient: utf-8; j\u00f6rg+x@\u4f8b.example\r\n" in text
    assert "X-Ekiden-Sender: utf-8; \u00e4nn@example.com\r\n" in text
    assert "Diagnostic-Code: smtp; 550 gibt\u2019s nicht\r\n" in text
    assert "\x07" not in text
    assert "\r\nX: " not in text
    head = international(Original("Subject: gr\u00fc\u00dfe\r\n".encode()))
    assert b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n" in head


def test_lines_of_an_international_report_have_998_octets_at_most() -> None:
    long = failed(Status(5, 1, 1), "\U0001f600" * 1024)
    data = international(None, recipients=[DsnRecipient(BOB, long)])
    assert max(map(len, data.split(b"\r\n"))) <= 998
    data.decode()
    data = international(None, to=Address("\U0001f600" * 1000, "x"))
    assert max(map(len, data.split(b"\r\n"))) <= 998


def test_bytes_that_are_no_text_do_not_spoil_an_international_report() -> None:
    bob = Recipient(Address("b\udcff", "far.example"), orcpt="utf-8;\udcfe")
    data = international(None, recipients=[DsnRecipient(bob, failed(Status(5, 0, 0), "a\udc80b"))])
    data.decode()


def test_the_times_that_the_sender_set_are_named() -> None:
    """RFC 2852 §5, RFC 4865 §6."""
    per_message, _ = blocks(parsed(compose(report(deliver_by=1772521000.0, held_until=1772521740.5))))
    assert per_message["Deliver-By-Date"] == header_date(1772521000.0)
    assert per_message["Future-Release-Request"] == "until;2026-03-03T07:09:00Z"


def test_any_message_comes_back_unharmed() -> None:
    """Real bounces of 60 mail systems, many of them odd, as the message that is returned."""
    folder = require_conformance("dsn", "sisimai")
    paths = sorted(folder.glob("*.eml"))
    assert len(paths) > 300
    for path in paths:
        data = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        head = header_of(data)
        for original in (Original(data, is_whole=True), Original(head)):
            for is_global in (False, True):
                made = compose(report(original=original, is_global=is_global, about="<<x@y>>"))
                boundary = made.partition(b'boundary="')[2].partition(b'"')[0]
                pieces = made.split(b"\r\n--" + boundary)
                assert len(pieces) == 5, path
                assert pieces[4] == b"--\r\n"
                assert b"\n" not in made.replace(b"\r\n", b"")
                assert max(map(len, made.split(b"\r\n"))) <= 998
                assert b"<<x@y" not in made

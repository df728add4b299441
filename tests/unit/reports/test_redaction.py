"""What a failure report does not show (RFC 6590 §3)."""

from __future__ import annotations

import re
import time

import pytest

from ekiden.reports.redaction import Redaction

KEY = b"k" * 32
REDACTION = Redaction(KEY)

HEADER = (
    b"Return-Path: <bounces+alice=here.example@list.example>\r\n"
    b"Received: from mx.example (mx.example [192.0.2.1])\r\n"
    b"\t(Authenticated sender: alice)\r\n"
    b"\tby here.example (Postfix) with ESMTPS id 4F; for <alice@here.example>; Sat, 29 Nov 2025 10:00:00 +0000\r\n"
    b'From: "Alice Secret" <alice@example.com>, alice.two@example.com (Alice Again)\r\n'
    b"Reply-To: =?utf-8?q?alice?= <alice@other.example>\r\n"
    b"To: Bob <bob@here.example>\r\n"
    b"Subject: what alice asked for\r\n"
    b"X-Note: alice\r\n"
    b"Message-ID: <1@example.com>\r\n"
    b"Date: Sat, 29 Nov 2025 10:00:00 +0000\r\n"
    b'Content-Type: application/pdf; name="alice.pdf"\r\n'
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; i=alice@example.com;\r\n"
    b"\tz=Subject:what=20alice=20asked|To:bob@here.example; h=From; bh=AAAA; b=BBBB\r\n"
)


def test_no_name_is_left_and_the_way_can_still_be_seen() -> None:
    shown = REDACTION.header(HEADER)
    assert b"alice" not in shown.lower()
    assert b"bob" not in shown.lower()
    assert [line.partition(b":")[0] for line in shown.split(b"\r\n") if line[:1] not in (b"\t", b"")] == [
        b"Return-Path", b"Received", b"From", b"Reply-To", b"Message-ID", b"Date", b"Content-Type", b"DKIM-Signature",
    ]  # fmt: skip
    for kept in (
        b"[192.0.2.1]", b"@here.example>; Sat", b"@list.example", b"@other.example", b"<1@example.com>",
        b"application/pdf\r\n", b"d=example.com; s=s1", b"h=From; bh=AAAA; b=BBBB",
    ):  # fmt: skip
        assert kept in shown, kept


def test_the_same_local_part_has_the_same_digest_and_another_host_has_another() -> None:
    first, second = REDACTION.text("alice@a.example alice@b.example bob@a.example").split(" ")[:2]
    assert first.partition("@")[0] == second.partition("@")[0]
    assert REDACTION.text("bob@a.example").partition("@")[0] != first.partition("@")[0]
    assert Redaction(b"x" * 32).text("alice@a.example") != first
    assert re.fullmatch(r"[A-Za-z0-9_-]{16}@a\.example", first)


@pytest.mark.parametrize(
    "text",
    [
        "x alice@a", "<alice@a>", "(alice@a)", '"alice"@a', r'"al\"alice"@a', '"a lice alice"@a', "for=alice@a;",
        "alice@a@b", "alice+tag@a", "alice!x@a", "\xe4alice@a", 'q="alice@a"', "mailto:alice@a",
    ],
)  # fmt: skip
def test_every_form_of_a_local_part_is_found(text: str) -> None:
    assert "alice" not in REDACTION.text(text)


@pytest.mark.parametrize(
    "tags",
    ["z=To:alice=40a; v=1", "v=1; z=To:alice=40a", "v=1;\r\n\tz = To:alice=40a|Subject:alice; s=x", "v=1;Z=alice"],
)
def test_what_a_signature_copies_is_left_out(tags: str) -> None:
    assert b"alice" not in REDACTION.header(f"DKIM-Signature: {tags}\r\n".encode())


@pytest.mark.parametrize("text", ["", "no address", "@", "@a.example", "a @ b", "@@@"])
def test_what_has_no_local_part_stays(text: str) -> None:
    assert REDACTION.text(text) == text


@pytest.mark.parametrize("piece", ["a", '"', '\\"', "@", "a@", '"@', "<", "; z=", "(Authenticated sender: "])
def test_redaction_takes_linear_time(piece: str) -> None:
    value = piece * (100_000 // len(piece))
    began = time.process_time()
    REDACTION.text(value)
    for name in (b"Received", b"DKIM-Signature"):
        REDACTION.header(name + b": " + value.encode()[:32_000] + b"\r\n")
    assert time.process_time() - began < 2.0

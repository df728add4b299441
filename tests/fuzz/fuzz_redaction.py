"""Of any header the redacted form has fields on a list only, and a digest before each "@" that an address could be."""

from __future__ import annotations

import re

from ekiden.message.header_fields import fields
from ekiden.reports.redaction import Redaction

SEEDS = [
    b'From: "Anna A." <anna@a.example>, b@c (Bert)\r\nTo: x@y\r\nSubject: s\r\nMessage-ID: <1@a>\r\n',
    b"Received: from a (b [192.0.2.1])\r\n\t(Authenticated sender: anna) for <anna+x@b>; Sat, 1 Jan 2000\r\n",
    b'DKIM-Signature: v=1; d=a; i="an na"@a; z=To:x=40y|From:z; b=AAAA\r\nContent-Type: a/b; name=x@y\r\n',
    b'Return-Path: <SRS0=x=y=a.example=anna@b>\r\nReceived-SPF: fail (q"@x\\"@y) envelope-from="\\"a\\"@b"\r\n',
    b'DKIM-Signature: v=1\r\n.\r\ni="an na"@gnature: v=1\r\n',
]
_SHOWN = frozenset(
    {
        *(b"from", b"sender", b"reply-to", b"return-path", b"resent-from", b"resent-sender", b"received"),
        *(b"received-spf", b"authentication-results", b"dkim-signature", b"arc-seal", b"arc-message-signature"),
        *(b"arc-authentication-results", b"date", b"resent-date", b"message-id", b"mime-version", b"list-id"),
        b"content-type",
    }
)
_ADDRESSES = frozenset({b"from", b"sender", b"reply-to", b"return-path", b"resent-from", b"resent-sender"})
_AS_IT_WAS = frozenset({b"date", b"resent-date", b"message-id", b"mime-version", b"list-id", b"content-type"})
_LOCAL = re.compile(rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\x80-\xff\"]")
_DIGEST = re.compile(rb"[A-Za-z0-9_-]{16}")
_REDACTION = Redaction(b"k" * 32)


def one_input(data: bytes) -> None:
    shown = _REDACTION.header(data)
    for field in fields(shown):
        assert field.name in _SHOWN, field.name
        if field.name in _AS_IT_WAS or field.name in _ADDRESSES:
            continue
        value = shown[field.value : field.end]
        at = value.find(b"@")
        while at >= 0:
            before = value[max(0, at - 16) : at]
            assert _DIGEST.fullmatch(before) or not before or _LOCAL.fullmatch(before[-1:]) is None, value
            at = value.find(b"@", at + 1)

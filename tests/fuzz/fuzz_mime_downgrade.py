"""Any content, in any chunking, becomes the same new content, 7-bit but for what headers held, and decodes to the same.

The header of each entity loses nothing; what needed no change has none; converting twice changes nothing more; the size
stays in proportion. The reader of the comparison is Python's own, which shares no code with ours.
"""

from __future__ import annotations

import email
import email.message
import re

from ekiden.message.mime_downgrade import Rewriter, Survey, Surveyor, Way
from ekiden.message.mime_parser import Kind, Limits, MimeParser

LIMITS = Limits(header_bytes=2000, depth=8, boundary_bytes=100)
_TOP = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: "
_MIXED = (
    _TOP + 'multipart/mixed; boundary="b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\npr\u00e9\r\n'
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\u00fc\u00df =\r\n.\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: x\r\n\r\n\u65e5\u672c\r\n"
    "--b \r\nContent-Type: application/x\r\n\r\n\x00\u00ff\r\n--b\r\n\r\n\u00e9 \r\n--bb\r\n--b--\r\nend \u00fc\r\n"
)
SEEDS = [
    _MIXED.encode(),
    b"Subject: x\r\n\r\n\xe4 latin\r\n",
    b"Subject: x\r\n\r\n" + "\u00e9t\u00e9\r\n".encode() * 3,
    b"\r\n\xff",
    (_TOP + "text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\n" + "line \u00e9\n\rbare").encode(),
    (_TOP + "text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9 \u00e9=\r\n").encode(),
    (_TOP + "image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\u00e9\r\n").encode(),
    (_TOP + 'multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nFrom: x\r\n\r\n\u00e9\r\n--d--').encode(),
    (_TOP + 'multipart/signed; boundary="a b"\r\n\r\n--a b\r\n\r\n\u00e9\r\n--a b\r\n\r\nsig\r\n--a b--').encode(),
    (_TOP + "multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=bc\r\n\r\n"
     "--bc\r\n\r\n\u00e9\r\n--b\r\n\r\n\u00e9\r\n--bc--\r\n--b--\r\n").encode(),
    (_TOP + "multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n" * 20 + "\r\n\u00e9").encode(),
    (_TOP + "text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + "\u00fc" + "x " * 200).encode(),
]  # fmt: skip
_EIGHT_BIT = re.compile(rb"[\x80-\xff]")


def pieces(data: bytes, chunk: int) -> list[bytes]:
    return [data[at : at + chunk] for at in range(0, len(data), chunk)]


def converted(data: bytes, chunk: int, *, binary_only: bool = False) -> tuple[bytes, Survey]:
    surveyor = Surveyor(LIMITS, binary_only=binary_only)
    for piece in pieces(data, chunk):
        surveyor.feed(piece)
    survey = surveyor.survey()
    rewriter = Rewriter(LIMITS, survey)
    return b"".join([*[rewriter.feed(piece) for piece in pieces(data, chunk)], rewriter.end()]), survey


def bodies(data: bytes) -> list[bytes]:
    """The body of every entity as our parser has it."""
    parser, found = MimeParser(LIMITS), []
    for event in [*parser.feed(data), *parser.finish()]:
        if event.kind is Kind.HEADER:
            found.append(b"")
        elif event.kind is Kind.BODY:
            found[-1] += event.data
    return found


def decoded(message: email.message.Message) -> list[object]:
    """What a reader gets: the type of each part and its content, or "" for what is not to be compared."""
    return [
        (part.get_content_type(), None if part.is_multipart() else part.get_payload(decode=True))
        for part in message.walk()
    ]


def one_input(data: bytes) -> None:
    compare(well_formed(data))
    out, survey = converted(data, max(1, len(data)))
    for chunk in (1, 3, 7):
        assert converted(data, chunk)[0] == out
    parser = MimeParser(LIMITS)
    assert b"".join([event.data for event in [*parser.feed(data), *parser.finish()]]) == data
    if survey.problem:
        return
    if not survey.changes:
        assert _EIGHT_BIT.sub(b"?", out) == _EIGHT_BIT.sub(b"?", data)
    assert len(out) <= 4 * len(data) + 200 * len(survey.parts)
    known = [part for part in survey.parts if part.entity.encoding in (b"", b"7bit", b"8bit", b"binary", b"base64")]
    if len(known) == len(survey.parts):
        for body in bodies(out):
            assert body.isascii()
    again, second = converted(out, max(1, len(out)))
    if not second.problem and all(part.way in (Way.KEEP, Way.QUOTE, Way.BASE64, Way.NAME) for part in survey.parts):
        assert again == out
    binary, survey = converted(data, max(1, len(data)), binary_only=True)
    assert survey.changes or binary == data


_KINDS = (
    (b"text/plain; charset=utf-8", b"8bit"),
    (b"text/html", b""),
    (b"image/png", b"binary"),
    (b"application/octet-stream", b"8bit"),
    (b"text/plain; charset=latin1", b"7bit"),
)


def well_formed(data: bytes) -> bytes:
    """A message of good form that is made of ``data``: up to eight parts, some of them in a multipart of their own."""
    parts = data.split(b"|")[:8]
    out = [
        b"From: a@b.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer.7q\r\n\r\npreamble\r\n"
    ]
    for number, part in enumerate(parts):
        kind, encoding = _KINDS[(len(part) + number) % len(_KINDS)]
        head = b"Content-Type: " + kind + b"\r\n"
        if encoding:
            head += b"Content-Transfer-Encoding: " + encoding + b"\r\n"
        # Python's reader takes any CR for the end of a line in text; ours takes CRLF only. Boundaries are not in parts.
        body = re.sub(rb"\r\n|\r|\n", b"\r\n", part).replace(b"--", b"-_")
        entity = head + b"\r\n" + body
        if number % 3 == 2:
            entity = (
                b"Content-Type: multipart/alternative; boundary=\"inner 7q\"\r\n\r\n--inner 7q\r\n"
                + entity + b"\r\n--inner 7q\r\n" + entity + b"\r\n--inner 7q--\r\n"
            )  # fmt: skip
        elif number % 3 == 1:
            entity = b"Content-Type: message/rfc822\r\n\r\nSubject: y\r\nMIME-Version: 1.0\r\n" + entity
        out.append(b"--outer.7q\r\n" + entity + b"\r\n")
    return b"".join([*out, b"--outer.7q--\r\n"])


def compare(data: bytes) -> None:
    """For a message of good form: all bodies are 7-bit afterwards, and Python's reader finds the same parts in both."""
    out, survey = converted(data, max(1, len(data)))
    assert not survey.problem
    assert out.isascii()
    assert decoded(email.message_from_bytes(out)) == decoded(email.message_from_bytes(data))

"""8-bit and binary messages for servers that take neither: what changes, what stays, and what is said about it."""

from __future__ import annotations

import email
import tracemalloc

import pytest

from ekiden.cleanup.header_scan import HeaderScan
from ekiden.message.mime_downgrade import Rewriter, Survey, Surveyor
from ekiden.message.mime_parser import Limits
from support.requirements import require_conformance

LIMITS = Limits(header_bytes=102_400, depth=100, boundary_bytes=2048)


def converted(data: bytes, limits: Limits = LIMITS, *, binary_only: bool = False) -> tuple[bytes, Survey]:
    surveyor = Surveyor(limits, binary_only=binary_only)
    surveyor.feed(data)
    survey = surveyor.survey()
    if survey.problem:
        return b"", survey
    rewriter = Rewriter(limits, survey)
    return rewriter.feed(data) + rewriter.end(), survey


def message(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def parts(data: bytes) -> list[tuple[str, object]]:
    found = email.message_from_bytes(data)
    return [
        (part.get_content_type(), None if part.is_multipart() else part.get_payload(decode=True))
        for part in found.walk()
    ]


def test_text_becomes_quoted_printable_and_says_so() -> None:
    out, _ = converted(message(
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8BIT\n"
        "X-Last: y\n\nA long enough line of text with one \u00fc in it = \nand a second line of plain text\n"
    ))  # fmt: skip
    assert out == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\nX-Last: y\r\n\r\n"
        b"A long enough line of text with one =C3=BC in it =3D=20\r\nand a second line of plain text\r\n"
    )


@pytest.mark.parametrize(
    ("body", "charset"), [("gr\u00fc\u00dfe and much plain text around it".encode(), "utf-8"),
                          ("gr\u00fc\u00dfe and much plain text around it".encode("latin-1"), "unknown-8bit")],
)  # fmt: skip
def test_a_message_from_before_mime_gets_the_fields_it_lacks(body: bytes, charset: str) -> None:
    out, _ = converted(b"Subject: x\r\n\r\n" + body)
    head = out.partition(b"\r\n\r\n")[0]
    assert head == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=%b\r\n"
        b"Content-Transfer-Encoding: quoted-printable" % charset.encode()
    )
    assert email.message_from_bytes(out).get_payload(decode=True) == body


def test_a_soft_line_break_never_cuts_an_escape_or_makes_a_line_too_long() -> None:
    for shift in range(8):
        text = ("x" * shift + "\u00fcab" * 60 + " ") + "\r\n" + "y" * 75 + "\r\n" + "z" * 76
        head = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        out, _ = converted(head + (text + "q" * 600).encode())
        assert b": quoted-printable" in out
        assert max(map(len, out.split(b"\r\n"))) <= 76
        assert email.message_from_bytes(out).get_payload(decode=True) == (text + "q" * 600).encode()


SIGNED = """\
Subject: x
MIME-Version: 1.0
DKIM-Signature: v=1; d=x
Content-Type: multipart/signed; boundary=s; protocol="application/pgp-signature"

--s
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

gr\u00fc\u00dfe
--s
Content-Type: application/pgp-signature

sig
--s--
"""


def test_signatures_that_break_are_noticed() -> None:
    _, survey = converted(message(SIGNED))
    assert [remark.partition(": ")[2] for remark in survey.remarks] == [
        "the signature of a multipart/signed will not verify",
        "its DKIM signature will not verify",
    ]
    out, survey = converted(message(SIGNED.replace("gr\u00fc\u00dfe", "greetings").replace("8bit", "7bit")))
    assert (out, survey.remarks) == (
        message(SIGNED.replace("gr\u00fc\u00dfe", "greetings").replace("8bit", "7bit")),
        [],
    )


def test_what_is_binary_only_changes_for_a_server_that_takes_8_bits() -> None:
    """RFC 3030 §3: 8-bit text may stay, what has no lines may not."""
    data = message(
        'Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: binary\n\n'
        "--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ngr\u00fc\u00dfe\n"
        "--b\nContent-Type: image/png\nContent-Transfer-Encoding: binary\n\nXX\n--b--\n"
    ).replace(b"XX", bytes(range(256)))  # fmt: skip
    out, survey = converted(data, binary_only=True)
    assert parts(out) == parts(data)
    assert b"Content-Transfer-Encoding: 8bit\r\n\r\n--b" in out
    assert "gr\u00fc\u00dfe\r\n".encode() in out
    assert b"Content-Transfer-Encoding: base64\r\n\r\nAAECAw" in out
    assert not survey.remarks


def test_an_enclosed_message_is_converted_inside() -> None:
    """RFC 2046 §5.2.1: message/rfc822 itself may not be encoded."""
    out, _ = converted(message(
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n"
            "Subject: inner\n\ngr\u00fc\u00dfe to you all here\n"
    ))  # fmt: skip
    assert out == (
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        b"Subject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe to you all here\r\n"
    )


def test_encoded_parts_with_stray_8_bit_bytes_decode_as_before() -> None:
    data = message("Content-Type: x/y\nContent-Transfer-Encoding: base64\n\nQUJD\u00fcREVG\n")
    out, _ = converted(data)
    assert out == message("Content-Type: x/y\nContent-Transfer-Encoding: base64\n\nQUJDREVG\n")
    data = message("Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\na=3D\u00fc=\n")
    assert converted(data)[0].endswith(b"a=3D=C3=BC=\r\n")


def test_limits_are_limits() -> None:
    deep = "Content-Type: multipart/mixed; boundary=b0\n\n" + "".join(
        f"--b{at}\nContent-Type: multipart/mixed; boundary=b{at + 1}\n\n" for at in range(1000)
    )
    assert converted(message(deep + "\u00fc"))[1].problem == "MIME nesting exceeds safety limit"
    assert (
        converted(b"X: " + b"y" * 200_000 + b"\r\n\r\n\xff")[1].problem == "message header length exceeds safety limit"
    )
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100_001 + b"\xff"
    assert converted(many)[1].problem == "more than 100000 parts"


def test_boundaries_that_differ_late_are_one() -> None:
    """mime_boundary_length_limit, as Postfix means it."""
    data = message(
        "Content-Type: multipart/mixed; boundary=abcd\n\n--abcX\nContent-Type: text/plain\n\n\u00fc\n--abcY--\n"
    )
    assert len(converted(data)[1].parts) == 1
    assert len(converted(data, Limits(1000, 10, 3))[1].parts) == 2


def test_memory_is_bounded_whatever_the_size() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\n"
    piece = bytes(range(256)) * 256
    tracemalloc.start()
    surveyor = Surveyor(LIMITS)
    surveyor.feed(head)
    for _ in range(64):
        surveyor.feed(piece)
    rewriter = Rewriter(LIMITS, surveyor.survey())
    rewriter.feed(head)
    assert sum(len(rewriter.feed(piece)) for _ in range(64)) > 64 * len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def as_queued(data: bytes) -> bytes:
    """Lines end in CRLF and the header in an empty line, as cleanup leaves them."""
    scan = HeaderScan(102_400)
    rest = scan.feed(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) or scan.finish()
    return scan.header + rest


def test_every_message_of_the_collections_means_the_same_afterwards() -> None:
    """Real and broken mail of other projects: bodies are 7-bit, and Python's reader finds the same parts in both."""
    folder = require_conformance("mime")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in (".eml", ".txt", "")]
    assert len(paths) > 200
    changed = 0
    for path in paths:
        data = as_queued(path.read_bytes())
        out, survey = converted(data)
        assert not survey.problem, path
        assert parts(out) == parts(data), path
        assert survey.changes or out == data or not data.isascii(), path
        changed += survey.changes
    assert changed > 20

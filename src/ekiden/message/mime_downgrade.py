"""A message in a form that a server without 8BITMIME or BINARYMIME takes (RFC 6152 §3, RFC 3030 §3).

In:   the content twice, in any chunking: a Surveyor looks at it, a Rewriter makes the new one of it.
Out:  content whose bodies are 7-bit and say so; the header of each entity is left as it is but for the fields that
      name its encoding. What is 7-bit already comes out as it went in. Survey.remarks says what the change may hurt.
Never: more memory than a header and what is known of each part; raises for content.

Text becomes quoted-printable or base64, whichever is shorter; all else base64. A multipart is named 7-bit, and an
enclosed message is converted inside: RFC 2046 §5.1 and §5.2.1 forbid to encode either as a whole.
"""

from __future__ import annotations

import codecs
import enum
from collections.abc import Sequence

from msgspec import Struct

from ekiden.message.header_fields import fields
from ekiden.message.mime_encoders import SAFE, AsItIs, Base64, Encoder, Masked, QuotedPrintable, Quoting
from ekiden.message.mime_parser import Entity, Kind, Limits, MimeParser
from ekiden.message.newlines import bare_newlines

_MOST_PARTS = 100_000  # what is known of each part takes memory


class Way(enum.Enum):
    """What becomes of an entity."""

    KEEP = "nothing"
    NAME = "its label only: what it holds changes, or is less than it says"
    QUOTE = "quoted-printable"
    BASE64 = "base64"
    MEND_QUOTES = "bytes that its quoted-printable should have quoted are"
    MEND_BASE64 = "bytes that its base64 cannot hold are left out"


class Part(Struct):
    """What a Surveyor found in one entity."""

    entity: Entity
    size: int = 0
    quoted: int = 0  # bytes that quoted-printable must escape
    is_eight_bit: bool = False
    is_binary: bool = False  # NUL or bare newlines: no lines of text
    is_utf8: bool = True
    way: Way = Way.KEEP


class Survey(Struct):
    parts: Sequence[Part]
    remarks: Sequence[str]  # for the log: which signatures will no longer fit
    problem: str  # a limit that the message is beyond: it cannot be converted
    changes: bool
    binary_only: bool


class Surveyor:
    """feed() the whole content, then survey(). ``binary_only``: what is 8-bit but not binary may stay."""

    def __init__(self, limits: Limits, *, binary_only: bool = False) -> None:
        self._parser = MimeParser(limits)
        self._binary_only = binary_only
        self._parts: list[Part] = []
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._tail = b""
        self._has_dkim = False
        self._too_many = False

    def feed(self, data: bytes) -> None:
        for event in self._parser.feed(data):
            self._take(event.kind, event.entity, event.data)

    def survey(self) -> Survey:
        for event in self._parser.finish():
            self._take(event.kind, event.entity, event.data)
        self._end_part()
        problem = self._parser.problem or (f"more than {_MOST_PARTS} parts" if self._too_many else "")
        remarks: dict[str, None] = {}
        changes = False
        for part in self._parts:
            part.way = _way(part, binary_only=self._binary_only)
            if part.way is Way.KEEP:
                continue
            changes = True
            above = part.entity.parent
            while above is not None and part.way is not Way.NAME:
                if above.subtype == b"signed":
                    remarks[
                        "converted for a server without 8BITMIME: the signature of a multipart/signed will not verify"
                    ] = None
                above = above.parent
        if changes and self._has_dkim:
            remarks["converted for a server without 8BITMIME: its DKIM signature will not verify"] = None
        return Survey(self._parts, list(remarks), problem, changes, self._binary_only)

    def _take(self, kind: Kind, entity: Entity, data: bytes) -> None:
        if kind is Kind.HEADER:
            self._end_part()
            if len(self._parts) >= _MOST_PARTS:
                self._too_many = True
                return
            self._parts.append(Part(entity))
            if entity.number == 0:
                self._has_dkim = any(field.name == b"dkim-signature" for field in fields(data))
        elif kind is Kind.BODY and not self._too_many:
            self._look(self._parts[-1], data)

    def _look(self, part: Part, data: bytes) -> None:
        part.size += len(data)
        is_ascii = data.isascii()
        part.is_eight_bit = part.is_eight_bit or not is_ascii
        if part.is_utf8 and not part.entity.has_type and not (is_ascii and not self._utf8.getstate()[0]):
            try:
                self._utf8.decode(data)
            except UnicodeDecodeError:
                part.is_utf8 = False
        part.quoted += len(data.translate(None, SAFE))
        data = self._tail + data
        self._tail = b"\r" if data.endswith(b"\r") else b""
        if b"\x00" in data or any(bare_newlines(data.removesuffix(b"\r"))):
            part.is_binary = True

    def _end_part(self) -> None:
        if self._tail:
            self._parts[-1].is_binary = True
            self._tail = b""
        if self._utf8.getstate()[0]:
            self._parts[-1].is_utf8 = False
        self._utf8.reset()


def _way(part: Part, *, binary_only: bool) -> Way:
    entity = part.entity
    encoding = entity.encoding
    if entity.is_composite:
        wrong = (b"binary",) if binary_only else (b"binary", b"8bit")
        return Way.NAME if encoding in wrong else Way.KEEP
    if encoding == b"quoted-printable":
        return Way.MEND_QUOTES if part.is_eight_bit and not binary_only else Way.KEEP
    if encoding == b"base64":
        return Way.MEND_BASE64 if part.is_eight_bit and not binary_only else Way.KEEP
    if encoding not in (b"", b"7bit", b"8bit", b"binary"):
        return Way.KEEP  # an encoding that nobody here knows
    if binary_only:
        needs = part.is_binary or encoding == b"binary"
    else:
        needs = part.is_eight_bit or part.is_binary or encoding == b"binary"
        if not needs:
            return Way.NAME if encoding == b"8bit" else Way.KEEP
    if not needs or not part.size:
        return Way.NAME if encoding == b"binary" else Way.KEEP
    if part.is_binary or entity.type != b"text" or 2 * part.quoted > part.size * 0.37:
        return Way.BASE64
    return Way.QUOTE


class Rewriter:
    """Makes the new content: feed() it what the Surveyor saw."""

    def __init__(self, limits: Limits, survey: Survey) -> None:
        self._parser = MimeParser(limits)
        self._survey = survey
        self._encoder: Encoder = AsItIs()
        self._between: Encoder = AsItIs() if survey.binary_only else Masked(b"?")

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._new(event.kind, event.entity, event.data) for event in self._parser.feed(data)])

    def end(self) -> bytes:
        rest = [self._new(event.kind, event.entity, event.data) for event in self._parser.finish()]
        return b"".join([*rest, self._encoder.end()])

    def _new(self, kind: Kind, entity: Entity, data: bytes) -> bytes:
        if kind is Kind.BODY:
            return self._encoder.encode(data)
        before = self._encoder.end()
        if kind is Kind.BETWEEN:
            self._encoder = AsItIs()
            # Boundaries are ASCII where mail is in order; what stands before and behind the parts, nobody reads.
            return before + self._between.encode(data)
        part = self._survey.parts[entity.number]
        self._encoder = _ENCODERS.get(part.way, AsItIs)()
        return before + _header(data, part, binary_only=self._survey.binary_only)


_ENCODERS: dict[Way, type[Encoder]] = {
    Way.QUOTE: QuotedPrintable,
    Way.BASE64: Base64,
    Way.MEND_QUOTES: Quoting,
    Way.MEND_BASE64: Masked,
}


def _header(header: bytes, part: Part, *, binary_only: bool) -> bytes:
    """The header with its label changed, and with the fields that a message from before MIME lacks."""
    if part.way is Way.NAME:
        label = b"8bit" if binary_only else b"7bit"
    elif part.way is Way.QUOTE:
        label = b"quoted-printable"
    elif part.way is Way.BASE64:
        label = b"base64"
    else:
        return header
    ends = header.endswith(b"\r\n\r\n") or header == b"\r\n"
    known = [(field.name, header[field.start : field.end]) for field in fields(header[:-2] if ends else header)]
    names = {name for name, _ in known}
    out: list[bytes] = []
    for name, text in known:
        if name != b"content-transfer-encoding":
            out.append(text)
        elif label:
            out.append(b"Content-Transfer-Encoding: %b\r\n" % label)
            label = b""
    if label and part.way is not Way.NAME:
        if part.entity.is_message and b"mime-version" not in names:
            out.append(b"MIME-Version: 1.0\r\n")
        if b"content-type" not in names:
            # Nobody knows what the bytes mean, unless they can hardly be anything else.
            out.append(b"Content-Type: text/plain; charset=%b\r\n" % (b"utf-8" if part.is_utf8 else b"unknown-8bit"))
        out.append(b"Content-Transfer-Encoding: %b\r\n" % label)
    return b"".join(out) + (b"\r\n" if ends else b"")

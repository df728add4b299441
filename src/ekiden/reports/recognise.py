"""Which report a message or a file holds, whatever its form: aggregate, failure, complaint, or on TLS.

In:   a message as mail has it or as a file has it; a file that is a report itself.
Out:  the reports in it.
Never: raises anything but ReportError (which says why it holds none), looks into messages that are attached, works for
       long at once: the functions are generators that yield between steps, so that whoever runs them does other things.

RFC 9990 §3.5.2 (aggregate), RFC 5965 §2 (complaints), RFC 6591 §3 and RFC 9991 §4 (failures), RFC 8460 §5.3 (TLS).
"""

from __future__ import annotations

import binascii
import itertools
import re
from collections.abc import Generator, Iterator

from msgspec import Struct

from ekiden.message.header_fields import fields
from ekiden.message.mime_parser import Entity, Event, Kind, Limits, MimeParser
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.aggregate_xml import AggregateReader
from ekiden.reports.archive import ArchiveLimits, documents
from ekiden.reports.feedback import PLAIN_FAILURE, FeedbackReport, read_feedback, read_plain_failure
from ekiden.tls.tlsrpt import REPORT_LIMIT_BYTES, ReportError, decode
from ekiden.tls.tlsrpt import Report as TlsReport

_MIME = Limits(header_bytes=256 * 1024, depth=20, boundary_bytes=2048)
_PARTS_LIMIT = 200
_REPORTS_LIMIT = 20  # in one message
_STEP_BYTES = 64 * 1024
_ORIGINAL_LIMIT_BYTES = 64 * 1024  # of the header of the message that a failure or a complaint is about
_ARCHIVE_TYPES = frozenset(
    f"application/{subtype}".encode()
    for subtype in (
        *("gzip", "x-gzip", "gzip-compressed", "x-gunzip", "zip", "x-zip", "x-zip-compressed", "xml", "octet-stream"),
        *("tlsrpt+gzip", "tlsrpt+json", "tlsrpt", "json", "dmarc+xml"),
    )
) | {b"text/xml"}
_FEEDBACK = b"message/feedback-report"
_ORIGINAL_TYPES = (b"text/rfc822-headers", b"text/rfc822", b"message/rfc822", b"message/rfc822-headers")
# A parameter may be quoted, encoded or in pieces (RFC 2231); a name ends alike in all of them, nearly always.
_NAMED = re.compile(rb"\.(?:xml|json|gz|zip)(?![A-Za-z0-9])", re.IGNORECASE)
_LINE_END = re.compile(rb"\r?\n")
# A field's name may hold more (RFC 5322 §2.2), but no known one does, and XML without a blank looks like that.
_HEADER_BEGINS = re.compile(rb"(?:From [^\n]*\n)?[A-Za-z0-9][A-Za-z0-9_-]*[ \t]*:")
_BLANK = b"\xef\xbb\xbf \t\r\n"

Report = AggregateReport | FeedbackReport | TlsReport


class ReportLimits(Struct, frozen=True):
    archive: ArchiveLimits = ArchiveLimits()
    records: int = 100_000  # of an aggregate report
    tls_bytes: int = REPORT_LIMIT_BYTES  # of a report on TLS, unpacked


class Found(Struct, frozen=True):
    report: Report
    problems: tuple[str, ...] = ()  # what was wrong with it, and has not kept it from being read


Steps = Generator[None, None, tuple[Found, ...]]


def at_once(steps: Steps) -> tuple[Found, ...]:
    """All steps without a pause. Raises ReportError."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found: tuple[Found, ...] = stop.value
            return found


def in_file(octets: bytes, limits: ReportLimits) -> Steps:
    """The reports of a file: a message, or what messages have attached. Raises ReportError."""
    if _HEADER_BEGINS.match(octets):
        return (yield from in_message(octets, limits))
    return tuple((yield from _in_attachment(octets, limits)))


def in_message(content: bytes, limits: ReportLimits) -> Steps:
    """The reports of a message; lines may end in either way. Raises ReportError."""
    if content.startswith(b"From "):  # of a mailbox file
        content = content.partition(b"\n")[2]
    parts = yield from _parts(content)
    if parts.feedback is not None:
        return (Found(read_feedback(parts.feedback, parts.original)),)
    if parts.plain_failure:
        return (Found(read_plain_failure(parts.plain_failure)),)
    found: list[Found] = []
    trouble: ReportError | None = None
    for encoding, body in parts.attachments:
        try:
            found += yield from _in_attachment(_decoded(encoding, body), limits)
        except ReportError as error:
            trouble = trouble or error
        if len(found) >= _REPORTS_LIMIT:
            break
    if not found:
        raise trouble or ReportError("the message holds no report")
    return tuple(found[:_REPORTS_LIMIT])


# -- the parts of a message


class _Parts(Struct):
    """What may be a report: encoded bodies with their encodings, or decoded."""

    attachments: list[tuple[bytes, bytes]]
    feedback: bytes | None = None
    plain_failure: bytes = b""
    original: bytes = b""


def _parts(content: bytes) -> Generator[None, None, _Parts]:
    """Raises ReportError."""
    parts = _Parts([])
    entity: Entity | None = None
    header, body = b"", bytearray()
    wants = False
    if content.count(b"\n") != content.count(b"\r\n"):
        content = _LINE_END.sub(b"\r\n", content)
    for event in _events(content):
        if event is None:
            yield
        elif event.kind is Kind.HEADER:
            if entity is not None:
                _take(parts, entity, header, bytes(body))
            body.clear()
            entity, header = event.entity, event.data
            if entity.number > _PARTS_LIMIT:
                raise ReportError("the message has too many parts")
            if entity.is_message and entity.parent is not None and not parts.original:
                parts.original = event.data[:_ORIGINAL_LIMIT_BYTES]
            wants = not entity.is_composite and not _is_enclosed(entity)
            if not wants:
                entity = None
        elif event.kind is Kind.BODY and wants:
            body += event.data
    if entity is not None:
        _take(parts, entity, header, bytes(body))
    return parts


def _events(content: bytes) -> Iterator[Event | None]:
    """None: a step is done."""
    parser = MimeParser(_MIME)
    for at in range(0, len(content), _STEP_BYTES):
        yield from parser.feed(content[at : at + _STEP_BYTES])
        yield None
    yield from parser.finish()


def _is_enclosed(entity: Entity) -> bool:
    """Whether it belongs to a message that is attached."""
    above: Entity | None = entity
    while above is not None:
        if above.is_message and above.parent is not None:
            return True
        above = above.parent
    return False


def _take(parts: _Parts, entity: Entity, header: bytes, body: bytes) -> None:
    kind = entity.type + b"/" + entity.subtype
    if kind == _FEEDBACK and parts.feedback is None:
        parts.feedback = _fields_of(_decoded(entity.encoding, body))
    elif kind in _ORIGINAL_TYPES:
        if not parts.original:
            parts.original = _fields_of(_decoded(entity.encoding, body))[:_ORIGINAL_LIMIT_BYTES]
    elif kind in _ARCHIVE_TYPES or _is_named(header):
        parts.attachments.append((entity.encoding, body))
    elif kind == b"text/plain" and not parts.plain_failure and PLAIN_FAILURE in body[:_STEP_BYTES]:
        parts.plain_failure = _decoded(entity.encoding, body)[: 2 * _ORIGINAL_LIMIT_BYTES]


def _fields_of(body: bytes) -> bytes:
    """The header at the beginning of a body, which empty lines may go before."""
    text = body.lstrip(b"\r\n")[:_ORIGINAL_LIMIT_BYTES]
    return _LINE_END.sub(b"\r\n", text).partition(b"\r\n\r\n")[0] + b"\r\n"


def _is_named(header: bytes) -> bool:
    return any(
        _NAMED.search(header, field.value, field.end) is not None
        for field in fields(header)
        if field.name in (b"content-type", b"content-disposition")
    )


def _decoded(encoding: bytes, body: bytes) -> bytes:
    """What is no base64 in a body of base64 is passed over, and so is an end that is missing. Raises ReportError."""
    if encoding in (b"", b"7bit", b"8bit", b"binary"):
        return body
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    if encoding != b"base64":
        raise ReportError("the report is in an unknown encoding")
    for padding in (b"", b"=", b"=="):
        try:
            return binascii.a2b_base64(body + padding)
        except binascii.Error:
            continue
    raise ReportError("the report is no base64")


# -- attachments


def _in_attachment(octets: bytes, limits: ReportLimits) -> Generator[None, None, list[Found]]:
    """Raises ReportError."""
    found: list[Found] = []
    trouble: ReportError | None = None
    for pieces in documents(octets, limits.archive):
        first = next((piece for piece in pieces if piece.strip(_BLANK)), b"")
        head = first.lstrip(_BLANK)[:1]
        document = itertools.chain((first,), pieces)
        if first.startswith((b"\xff\xfe", b"\xfe\xff")) or head == b"<":
            found.append((yield from _aggregate(document, limits)))
        elif head == b"{":
            found.append((yield from _on_tls(document, limits)))
        else:
            why = "the document is neither XML nor JSON" if first else "the document is empty"
            trouble = trouble or ReportError(why)
            for _ in pieces:  # an archive is read in order
                yield
        if len(found) >= _REPORTS_LIMIT:
            break
    if not found:
        raise trouble or ReportError("the archive is empty")
    return found


def _aggregate(document: Iterator[bytes], limits: ReportLimits) -> Generator[None, None, Found]:
    reader = AggregateReader(records=limits.records)
    for piece in document:
        reader.feed(piece)
        yield
    return Found(reader.finish(), tuple(reader.problems))


def _on_tls(document: Iterator[bytes], limits: ReportLimits) -> Generator[None, None, Found]:
    octets = bytearray()
    for piece in document:
        octets += piece
        if len(octets) > limits.tls_bytes:
            raise ReportError(f"the report is longer than {limits.tls_bytes} bytes when unpacked")
        yield
    return Found(decode(bytes(octets).lstrip(_BLANK), limit=limits.tls_bytes))

"""The form in which one server gets a message: what its extensions allow, and what must change where one is missing.

In:   a job, the recipients to ask for, and what the server offers.
Out:  a Form; or the result of all recipients when this server cannot take the message at all. Recipients that alone
      stand in the way have their result in the job already, and are not in the Form.
"""

from __future__ import annotations

from msgspec import Struct

from ekiden.deliver.connection import Connection
from ekiden.deliver.smtp_conversion import converted, is_ascii
from ekiden.deliver.smtp_job import Job
from ekiden.deliver.smtp_outcome import label
from ekiden.deliver.smtp_settings import SmtpSettings
from ekiden.dns.name import dns_name
from ekiden.message.address import Address
from ekiden.message.content import InlineContent, OutgoingContent
from ekiden.message.delivery import DeliveryResult, failed
from ekiden.message.envelope import BodyType
from ekiden.message.mime_downgrade import Survey
from ekiden.message.status import Status
from ekiden.protocol.smtp.client import Transaction
from ekiden.protocol.smtp.client_parameters import asks_nothing, mail_parameters, recipient_parameters, seconds_left
from ekiden.protocol.smtp.client_transaction import wire_path
from ekiden.protocol.smtp.client_xforward import xforward
from ekiden.queue.content import chunks


class Form(Struct):
    asked: list[int]  # the recipients in it, by their place in the job
    transaction: Transaction
    content: OutgoingContent
    survey: Survey | None = None  # how the content is to be changed on its way out


async def form_for(
    job: Job, asked: list[int], connection: Connection, settings: SmtpSettings, *, now: float
) -> Form | DeliveryResult:
    """``now``: seconds since the epoch. Raises StoreTrouble."""
    request, extensions = job.request, connection.client.extensions
    body, by = request.envelope.body, request.envelope.deliver_by
    if by is not None and by.returns and (left := seconds_left(by, now)) < max(1, extensions.least_by_s):
        # RFC 2852 §4.1.4.1: with less than the server can promise, the message fails here.
        text = (
            f"{left} seconds are left for its delivery, host {label(connection.endpoint)} needs {extensions.least_by_s}"
        )
        return failed(Status(5, 4, 7), text, relay=connection.relay)
    sender, paths, content = job.sender, [job.paths[at] for at in asked], job.content
    chunked = extensions.chunking and settings.chunking
    binary = body is BodyType.BINARY_MIME and chunked and extensions.binary_mime
    size, survey = content.size, None
    if not binary and (body is BodyType.BINARY_MIME or not extensions.eight_bit_mime):
        found = await _converted(job, connection, settings)
        if isinstance(found, DeliveryResult):
            return found
        content, size, survey, body = found
    if 0 < extensions.size_limit < size:
        text = f"message size {size} exceeds size limit {extensions.size_limit} of server {label(connection.endpoint)}"
        return failed(Status(5, 3, 4), text, relay=connection.relay)
    needs_utf8 = request.envelope.smtputf8 and not await _has_ascii_header(job)
    if not extensions.smtputf8 and not (needs_utf8 is False and sender.isascii() and all(map(bytes.isascii, paths))):
        lacking = _smtputf8_lacking(connection)
        ascii_sender = None if needs_utf8 else _in_ascii(request.envelope.sender, quotes=job.quotes)
        if ascii_sender is None:
            return lacking
        sender, places, asked, paths = ascii_sender, asked, [], []
        for at in places:
            path = _in_ascii(request.recipients[at].address, quotes=job.quotes)
            if path is None:
                job.results[at] = lacking
                job.open.remove(at)
            else:
                asked.append(at)
                paths.append(path)
    if extensions.dsn:
        utf8 = extensions.smtputf8 and (needs_utf8 or not sender.isascii() or not all(map(bytes.isascii, paths)))
        for place, at in enumerate(asked):
            if not asks_nothing(request.recipients[at]):
                paths[place] += recipient_parameters(request.recipients[at], smtputf8=utf8)
    preface: tuple[bytes, ...] = ()
    if settings.xforward and (attributes := extensions.keywords.get("XFORWARD")):
        preface = xforward(request.envelope.client, request.queue_id, attributes)
    transaction = Transaction(
        sender + mail_parameters(request.envelope, extensions, now=now),
        paths,
        size=size,
        eight_bit=body is BodyType.EIGHT_BIT_MIME,
        binary=binary,
        smtputf8=needs_utf8,
        chunked=chunked,
        content=content.data if isinstance(content, InlineContent) else None,
        early=size <= settings.early_content,
        preface=preface,
    )
    return Form(asked, transaction, content, survey)


async def _converted(
    job: Job, connection: Connection, settings: SmtpSettings
) -> tuple[OutgoingContent, int, Survey | None, BodyType] | DeliveryResult:
    """The content for a server without BINARYMIME or without 8BITMIME: what it is, its size, and its body type."""
    content, body, mime = job.content, job.request.envelope.body, settings.mime
    binary_only = connection.client.extensions.eight_bit_mime
    if body is not BodyType.BINARY_MIME and (
        not mime.converts or (body is BodyType.SEVEN_BIT and not mime.looks) or await is_ascii(job)
    ):
        return content, content.size, None, body
    found = (
        await converted(job, mime.limits, binary_only=binary_only) if mime.converts else "conversion is switched off"
    )
    if isinstance(found, str):
        missing = "BINARYMIME" if body is BodyType.BINARY_MIME else "8BITMIME"
        text = (
            f"host {label(connection.endpoint)} does not offer {missing}, and the message cannot be converted: {found}"
        )
        return failed(Status(5, 6, 3), text, relay=connection.relay)
    return found.content, found.size, found.survey, BodyType.EIGHT_BIT_MIME if binary_only else BodyType.SEVEN_BIT


def _smtputf8_lacking(connection: Connection) -> DeliveryResult:
    """RFC 6531 §3.5, §3.6.1.2."""
    text = f"SMTPUTF8 is required, but was not offered by host {label(connection.endpoint)}"
    return failed(Status(5, 6, 7), text, relay=connection.relay)


def _in_ascii(address: Address, *, quotes: bool) -> bytes | None:
    """A path for a server without SMTPUTF8: an international domain in A-labels (RFC 6531 §3.2, RFC 5891 §4).

    None: the local part is not ASCII, and there is no other way to write it.
    """
    if str(address).isascii():
        return wire_path(address, quotes=quotes)
    domain = dns_name(address.domain)
    return wire_path(Address(address.local, domain), quotes=quotes) if address.local.isascii() and domain else None


async def _has_ascii_header(job: Job) -> bool:
    """Whether the header needs no SMTPUTF8, in a message whose sender asked for it (RFC 6532 §3.7)."""
    if job.has_ascii_header is None:
        job.has_ascii_header = True
        tail = b""
        async for chunk in chunks(job.content):
            data = tail + chunk
            end = data.find(b"\r\n\r\n")
            if not (data if end < 0 else data[:end]).isascii():
                job.has_ascii_header = False
            if end >= 0 or not job.has_ascii_header:
                break
            tail = data[-3:]
    return job.has_ascii_header

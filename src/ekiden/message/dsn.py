"""Delivery status notifications (RFC 3464, in a multipart/report of RFC 6522), composed from values.

In:   who reports, about which message, what became of which recipients, and the original (its head or all of it).
Out:  the content of a message in wire form. It is 7-bit throughout unless the original returned with it is not, or the
      report is an international one (RFC 6533), which only a reader with SMTPUTF8 gets.
Never: lets a byte of a diagnostic, an address or the original break out of its field or part: control characters are
replaced, lines folded, and the boundary does not occur in what it bounds.

RFC 3464 §2
    delivery-status-content = per-message-fields 1*( CRLF per-recipient-fields )
    per-message-fields = [ Original-Envelope-Id ] Reporting-MTA [ DSN-Gateway ] [ Received-From-MTA ] [ Arrival-Date ]
                         [ Deliver-By-Date (RFC 2852 §5) ] [ Future-Release-Request (RFC 4865 §6) ]
    per-recipient-fields = [ Original-Recipient ] Final-Recipient Action Status [ Remote-MTA ] [ Diagnostic-Code ]
                           [ Last-Attempt-Date ] [ Final-Log-ID ] [ Will-Retry-Until ]
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from ekiden.message.address import Address
from ekiden.message.date import header_date
from ekiden.message.delivery import Action, DeliveryResult
from ekiden.message.envelope import Recipient


class DsnKind(enum.Enum):
    """What a notification is about; the value is the log's word for it."""

    FAILURE = "non-delivery"
    DELAY = "delay"
    SUCCESS = "delivery status"


class DsnRecipient(Struct, frozen=True):
    recipient: Recipient
    result: DeliveryResult
    retry_until: float | None = None  # seconds since the epoch; only for a delay


class Original(Struct, frozen=True):
    """What is returned of the message: ``data`` is its header, or all of it when ``is_whole``."""

    data: bytes
    is_whole: bool = False


class DsnReport(Struct, frozen=True):
    """One notification. Times are seconds since the epoch."""

    kind: DsnKind
    host: str  # myhostname
    mail_name: str
    sender: Address  # the sender of the original, whom it returns to
    to: Address  # who is told
    message_id: str  # of the notification, with its angle brackets
    boundary: str  # start of the boundary; made unique against the original
    now: float
    queue_id: str
    arrived: float
    recipients: Sequence[DsnRecipient]
    original: Original | None = None
    from_name: str = "MAILER-DAEMON"
    subject: str = ""  # another one than the kind's
    is_for_postmaster: bool = False
    received_from: str = ""  # the name of the host that the message came from; "" if it was born here
    is_expired: bool = False
    has_obsolete_from: bool = False  # header_from_format = obsolete
    envelope_id: str = ""  # ENVID of the original
    deliver_by: float | None = None  # the time that the sender set for the delivery (RFC 2852)
    held_until: float = 0.0  # until when the sender wanted it held (RFC 4865)
    is_global: bool = False  # in UTF-8, with the types of RFC 6533
    about: str = ""  # the Message-ID of the original, with its angle brackets, that mail readers thread by


_SUBJECTS = {
    DsnKind.FAILURE: "Undelivered Mail Returned to Sender",
    DsnKind.DELAY: "Delayed Mail (still being retried)",
    DsnKind.SUCCESS: "Successful Mail Delivery Report",
}
_PARTS = {
    DsnKind.FAILURE: ("Undelivered Message", "Undelivered Message Headers"),
    DsnKind.DELAY: ("Delayed Message", "Delayed Message Headers"),
    DsnKind.SUCCESS: ("Delivered Message", "Message Headers"),
}
_INTRODUCTIONS = {
    DsnKind.FAILURE: """\
Your message could not be delivered to one or more recipients. It is
returned to you below.

Nothing further will be tried for the recipients listed here. If you need
help, write to postmaster and include this report; the text of your own
message may be left out.
""",
    DsnKind.DELAY: """\
THIS IS ONLY A WARNING. YOU NEED NOT SEND YOUR MESSAGE AGAIN.

Your message has not reached one or more recipients yet. Delivery will be
tried again until {until}.
You will be told if it fails in the end.
""",
    DsnKind.SUCCESS: """\
Your message was delivered as listed below. If it went on to a system that
does not report deliveries, or to an alias, you may hear nothing further.
""",
}
_POSTMASTER = """\
A message could not be delivered{and_not_returned}. This report is for your
information; its sender was <{sender}>.
"""
_EXPIRED = """\
The message was in the queue for longer than it may be; the last reason for
each recipient is given below.
"""
# What may stand in a line of a report: printable ASCII and blank (RFC 5322 §2.2).
_UNPRINTABLE = re.compile(r"[^ -~]")
# RFC 5322 §3.6.4 msg-id, as far as it may be repeated; what a broken program wrapped around it is left behind.
_MSG_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_LINE = 76
# RFC 5322 §2.1.1: a line has at most 998 characters.
_MOST_LINE = 998
# Of what another host said; a reply of a megabyte is cut.
_MOST_TEXT = 1024


def _ascii(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)


def _from_field(report: DsnReport) -> str:
    address = f"{report.from_name}@{_ascii(report.host)}"
    if report.has_obsolete_from:
        return f"From: {address} (Mail Delivery System)"
    return f"From: Mail Delivery System <{address}>"


def _thread(about: str) -> list[str]:
    """RFC 5322 §3.6.4; nothing for a Message-ID that is none."""
    found = _MSG_ID.search(about)
    return [f"In-Reply-To: {found[0]}", f"References: {found[0]}"] if found is not None else []


class _Writer:
    """Texts as they may stand in a line: nothing ends a line or hides, and all is ASCII, or UTF-8 (RFC 6533)."""

    def __init__(self, *, utf8: bool) -> None:
        self.utf8 = utf8
        # RFC 5322 §2.1.1, RFC 6532 §3.4: 998 octets, of which a character may take four.
        self.longest = _MOST_LINE // 4 if utf8 else _MOST_LINE

    def clean(self, text: str) -> str:
        if self.utf8 and not text.isascii():
            return "".join(char if char.isprintable() else " " if char in "\r\n\t" else "?" for char in text)
        return _UNPRINTABLE.sub(lambda found: " " if found[0] in "\r\n\t" else "?", text)

    def field(self, name: str, body: str) -> list[str]:
        # One blank: unfolding gives the words back (RFC 5322 §2.2.3).
        return self.wrapped(f"{name}: {self.clean(body)}", " ")

    def wrapped(self, text: str, indent: str) -> list[str]:
        """Lines of at most 76 characters, broken at blanks; a longer word is broken where RFC 5322 wants it."""
        lines: list[str] = []
        line = ""
        for word in text.split(" "):
            if not word:
                continue
            if line and len(line) + 1 + len(word) > _LINE:
                lines.append(line)
                line = indent + word
            else:
                line = f"{line} {word}" if line else word
            while len(line) > self.longest:
                lines.append(line[: self.longest])
                line = indent + line[self.longest :]
        lines.append(line)
        return lines

    def typed(self, address: Address) -> str:
        """RFC 3464 §2.1.2 address-type; RFC 6533 §3 utf-8, with its escapes where the report is ASCII."""
        text = str(address)
        return f"rfc822; {text}" if text.isascii() else f"utf-8; {self._international(text)}"

    def original(self, recipient: Recipient) -> str:
        """RFC 3461 §6.3 (e): as ORCPT has it; else the address that the sender gave."""
        kind, semicolon, address = recipient.orcpt.partition(";")
        if semicolon:
            text = address if address.isascii() and kind.lower() != "utf-8" else self._international(address)
            return f"{kind}; {text}"
        return self.typed(recipient.original if recipient.original is not None else recipient.address)

    def _international(self, text: str) -> str:
        if self.utf8:
            return "".join("?" if 0xD800 <= ord(char) <= 0xDFFF else char for char in text)
        return "".join(char if "!" <= char <= "~" and char not in "\\+=" else _escaped(char) for char in text)


def compose(report: DsnReport) -> bytes:
    """The notification, header and body, lines ending in CRLF."""
    original = report.original
    returned, needs_8bit = _returned(original) if original is not None else (b"", False)
    writer = _Writer(utf8=report.is_global)
    human = _human(report, writer)
    status = _status_part(report, writer)
    boundary = _boundary(report.boundary, human, status, returned)
    encoding = "8bit" if needs_8bit or report.is_global else "7bit"
    kind = "global-delivery-status" if report.is_global else "delivery-status"
    out = [
        _from_field(report),
        *_address_field("To", report.to, writer),
        f"Subject: {_ascii(report.subject or _SUBJECTS[report.kind])}",
        f"Date: {header_date(report.now)}",
        f"Message-ID: {_ascii(report.message_id)}",
        *_thread(report.about),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={kind};\r\n boundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
        "This is a MIME-encapsulated message.",
        "",
        f"--{boundary}",
        "Content-Description: Notification",
        f"Content-Type: text/plain; charset={'utf-8' if report.is_global else 'us-ascii'}",
        *(["Content-Transfer-Encoding: 8bit"] if report.is_global else []),
        "",
    ]
    head = "\r\n".join(out).encode("utf-8") + b"\r\n" + human
    part_encoding = encoding if report.is_global else ""
    parts = [head, _part_head(boundary, "Delivery report", f"message/{kind}", part_encoding), status]
    if original is not None:
        whole, header_only = _PARTS[report.kind]
        if original.is_whole:
            content_type = "message/global" if report.is_global else "message/rfc822"
            parts.append(_part_head(boundary, whole, content_type, encoding))
        else:
            # RFC 6522 §4: only the header; text/rfc822-headers is text, so 8-bit needs a charset that fits any byte.
            content_type = "text/rfc822-headers" + ("; charset=utf-8" if needs_8bit else "")
            if report.is_global:
                content_type = "message/global-headers"
            parts.append(_part_head(boundary, header_only, content_type, encoding))
        parts.append(returned)
    parts.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    return b"".join(parts)


def _part_head(boundary: str, description: str, content_type: str, encoding: str = "") -> bytes:
    lines = ["", f"--{boundary}", f"Content-Description: {description}", f"Content-Type: {content_type}"]
    if encoding:
        lines.append(f"Content-Transfer-Encoding: {encoding}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _boundary(wanted: str, *parts: bytes) -> str:
    """RFC 2046 §5.1.1: it must not occur in the parts; another one is tried until it does not."""
    wanted = re.sub(r"[^A-Za-z0-9./]", "", wanted)[:50] or "ekiden"
    boundary, tries = wanted, 0
    while any(f"--{boundary}".encode("ascii") in part for part in parts):
        tries += 1
        boundary = f"{wanted}.{tries}"
    return boundary


# -- the part for people


def _human(report: DsnReport, writer: _Writer) -> bytes:
    lines = [f"This is the mail system at host {writer.clean(report.host)}.", ""]
    if report.is_for_postmaster:
        not_returned = " and not be returned either" if report.sender.is_null else ""
        text = _POSTMASTER.format(and_not_returned=not_returned, sender=writer.clean(str(report.sender)))
    else:
        until = max((each.retry_until or 0.0 for each in report.recipients), default=0.0)
        text = _INTRODUCTIONS[report.kind].format(until=header_date(until) if until else "further notice")
    lines += text.split("\n")
    if report.is_expired:
        lines += _EXPIRED.split("\n")
    lines += [f"                   The mail system ({writer.clean(report.mail_name)})", ""]
    for each in report.recipients:
        lines += writer.wrapped(_story(each, writer), "    ")
        lines.append("")
    return "\r\n".join(lines).encode("utf-8")


def _story(each: DsnRecipient, writer: _Writer) -> str:
    recipient, result = each.recipient, each.result
    to = f"<{writer.clean(str(recipient.address))}>"
    if recipient.original is not None and recipient.original != recipient.address:
        to += f" (expanded from <{writer.clean(str(recipient.original))}>)"
    return f"{to}: {writer.clean(result.text[:_MOST_TEXT])}"


# -- the part for programs


def _status_part(report: DsnReport, writer: _Writer) -> bytes:
    lines = writer.field("Original-Envelope-Id", report.envelope_id) if report.envelope_id else []
    lines += writer.field("Reporting-MTA", f"dns; {report.host}")
    lines += writer.field("X-Ekiden-Queue-ID", report.queue_id)
    if not report.sender.is_null:
        lines += writer.field("X-Ekiden-Sender", writer.typed(report.sender))
    if report.received_from:
        lines += writer.field("Received-From-MTA", f"dns; {report.received_from}")
    lines += writer.field("Arrival-Date", header_date(report.arrived))
    if report.deliver_by is not None:
        lines += writer.field("Deliver-By-Date", header_date(report.deliver_by))
    if report.held_until:
        until = datetime.fromtimestamp(int(report.held_until), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines += writer.field("Future-Release-Request", f"until;{until}")
    for each in report.recipients:
        lines.append("")
        lines += _recipient_fields(report.kind, each, writer)
    return "\r\n".join([*lines, ""]).encode("utf-8")


_ACTIONS = {DsnKind.FAILURE: Action.FAILED, DsnKind.DELAY: Action.DELAYED}


def _recipient_fields(kind: DsnKind, each: DsnRecipient, writer: _Writer) -> Iterator[str]:
    recipient, result = each.recipient, each.result
    yield from writer.field("Final-Recipient", writer.typed(recipient.address))
    yield from writer.field("Original-Recipient", writer.original(recipient))
    # A message that was too old to wait longer failed for its recipients, whatever the last attempt said.
    yield from writer.field("Action", _ACTIONS.get(kind, result.action).value)
    yield from writer.field("Status", str(result.status))
    if result.remote_mta:
        yield from writer.field("Remote-MTA", result.remote_mta)
    if kind is not DsnKind.SUCCESS or result.diagnostic:
        # RFC 3464 §2.3.6: type and text; what no protocol said is this system's own.
        yield from writer.field("Diagnostic-Code", (result.diagnostic or f"x-ekiden; {result.text}")[:_MOST_TEXT])
    if each.retry_until is not None:
        yield from writer.field("Will-Retry-Until", header_date(each.retry_until))


def _escaped(char: str) -> str:
    # RFC 6533 §3 utf-8-addr-xtext: \x{HEXPOINT}; a lone surrogate stands for a byte that was not UTF-8.
    point = ord(char)
    return "?" if 0xD800 <= point <= 0xDFFF or point < 0x20 else f"\\x{{{point:X}}}"


def _address_field(name: str, address: Address, writer: _Writer) -> list[str]:
    text = str(address)
    if text.isascii() or writer.utf8:
        return [f"{name}: {writer.clean(text)}"[: writer.longest]]
    # RFC 5322 has no way to write such an address, and the reader of a report may lack RFC 6532; the envelope has it.
    return [f"{name}: undisclosed-recipients:;"]


# -- the original

_LINE_END = re.compile(rb"\r\n|\r|\n")


def _returned(original: Original) -> tuple[bytes, bool]:
    """The original with clean line ends and no line that is too long, and whether it needs 8 bits.

    NUL, which no encoding but binary may hold (RFC 2045 §2.8), becomes a question mark.
    """
    data = original.data.replace(b"\x00", b"?")
    lines: list[bytes] = []
    for line in _LINE_END.split(data):
        for at in range(0, len(line) or 1, _MOST_LINE):
            lines.append(line[at : at + _MOST_LINE])
    return b"\r\n".join(lines), not data.isascii()


def header_of(data: bytes) -> bytes:
    """The header of a message: what stands before its first empty line, with its last line end."""
    if data.startswith(b"\r\n"):
        return b""
    end = data.find(b"\r\n\r\n")
    return data if end < 0 else data[: end + 2]


def whole_lines(data: bytes) -> bytes:
    """``data`` without the part of a line at its end that a cut left."""
    return data[: data.rfind(b"\r\n") + 2] if b"\r\n" in data else data

"""Fields that a message of this host's own users must have and often lacks: Date, From, Message-ID (RFC 5322 §3.6)."""

from __future__ import annotations

from ekiden.cleanup.header_scan import HeaderScan
from ekiden.message.address import Address
from ekiden.message.date import header_date


def missing_fields(
    scan: HeaderScan, *, sender: Address, full_name: str, queue_id: str, hostname: str, at: float
) -> bytes:
    """The fields, with their line ends, to put before the header that ``scan`` has read."""
    lines: list[str] = []
    if not scan.has(b"message-id"):
        lines.append(f"Message-Id: <{queue_id}@{hostname}>")
    if not scan.has(b"date"):
        lines.append(f"Date: {header_date(at)}")
    if not scan.has(b"from"):
        lines.append(f"From: {_mailbox(sender, full_name, hostname)}")
    return "".join(line + "\r\n" for line in lines).encode("utf-8", "surrogateescape")


def _mailbox(sender: Address, full_name: str, hostname: str) -> str:
    if sender.is_null:
        return f"Mail Delivery System <MAILER-DAEMON@{hostname}>"
    # Only names that need no encoding are written; a quoted-string cannot hold control characters (RFC 5322 §3.2.4).
    name = full_name.strip()
    if not name or not name.isascii() or not name.isprintable():
        return str(sender)
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{sender}>'

"""SMTP replies (RFC 5321 §4.2) with their enhanced status (RFC 2034): what a server says and a client hears."""

from __future__ import annotations

import enum

from msgspec import Struct

from ekiden.message.status import Status


class Severity(enum.IntEnum):
    """The first digit of a reply code (RFC 5321 §4.2.1)."""

    OK = 2
    MORE = 3
    TEMPORARY = 4
    PERMANENT = 5


class Reply(Struct, frozen=True, cache_hash=True):
    """One reply of one or more lines.

    ``status`` is None where RFC 2034 §4 wants none: the greeting, EHLO's and HELO's answer, 3yz.
    """

    code: int
    status: Status | None
    lines: tuple[str, ...]
    closes: bool = False  # the connection ends after this reply

    @property
    def severity(self) -> Severity:
        return Severity(self.code // 100)

    @property
    def text(self) -> str:
        """The whole reply on one line, as the log and DSNs show it: ``250 2.0.0 Ok``."""
        head = f"{self.code} {self.status} " if self.status else f"{self.code} "
        return head + " ".join(self.lines)

    def softened(self) -> Reply:
        """A permanent refusal as a temporary one (``soft_bounce``)."""
        if self.code < 500:
            return self
        status = self.status.with_class(4) if self.status else None
        return Reply(self.code - 100, status, self.lines, self.closes)

    def render(self) -> bytes:
        """The bytes on the wire."""
        head = f"{self.status} " if self.status else ""
        if len(self.lines) == 1:
            return f"{self.code} {head}{self.lines[0]}\r\n".encode("utf-8", "surrogateescape")
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{'-' if at < last else ' '}{head}{line}\r\n" for at, line in enumerate(self.lines)
        ).encode("utf-8", "surrogateescape")


def reply(code: int, status: str | None, *lines: str, closes: bool = False) -> Reply:
    """A reply from its parts: ``reply(250, "2.1.0", "Ok")``."""
    parsed = None
    if status is not None:
        parsed = Status.parse(status)
        if parsed is None:
            raise ValueError(f"not an enhanced status code: {status!r}")
    return Reply(code, parsed, lines, closes)


class Refusal(Struct, frozen=True):
    """Why something was not accepted: the reply for the peer, the reason and details for log and trace only."""

    reply: Reply
    reason: str  # stable name: "relay-denied", "unknown-user", "queue-full", ...
    detail: str = ""

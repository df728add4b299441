"""The content of a message as it comes in after DATA (RFC 5321 §4.1.1.4, §4.5.2): the end-of-message detector.

In:   what the client sends after 354, in pieces of any size.
Out:  the content with dot-stuffing undone, lines ending in CRLF; where it ends; why it cannot be accepted.
Never: takes anything but <CR><LF>.<CR><LF> for the end, whatever the settings say: two servers that disagree about
      the end of a message are what SMTP smuggling needs. Holds more than four bytes between two pieces.
"""

from __future__ import annotations

import enum

from ekiden.message.newlines import bare_newlines
from ekiden.message.reply import Refusal
from ekiden.protocol.smtp.server_replies import BARE_CR, BARE_LF, MESSAGE_TOO_BIG

_END = b"\r\n.\r\n"


class BareNewline(enum.Enum):
    """``smtpd_forbid_bare_newline``: what happens to a CR or LF that stands alone.

    Content that is not rejected always leaves here with clean lines, as it does in Postfix: a bare LF becomes CRLF, a
    bare CR a space (``cleanup_replace_stray_cr_lf``). So NORMALIZE, NOTE and ALLOW differ only in what is logged.
    """

    REJECT = "reject"
    NORMALIZE = "normalize"
    ALLOW = "no"
    NOTE = "note"


class DataReceiver:
    """Fed with pieces until ``ended``; then the last ``unused`` bytes of the last piece are commands again."""

    __slots__ = (
        *("_bare_cr", "_bare_lf", "_held", "_lead", "_rejects", "_size_limit"),
        *("ended", "has_bare_newline", "refusal", "size", "unused"),
    )

    def __init__(self, *, bare_newline: BareNewline, size_limit: int) -> None:
        """``size_limit`` counts the octets that come out; 0 is no limit."""
        self._rejects = bare_newline is BareNewline.REJECT
        self._size_limit = size_limit
        # A dot on the first line counts as much as on any other, so the content begins behind a line end. It was the
        # client's own, the one of its DATA command (RFC 5321 §4.1.1.4), and is not part of the content.
        self._held = b"\r\n"
        self._lead = 2
        self._bare_lf = False
        self._bare_cr = False
        self.has_bare_newline = False
        self.refusal: Refusal | None = None  # why it is not acceptable as far as it is known; final once ``ended``
        self.size = 0
        self.ended = False
        self.unused = 0

    def feed(self, data: bytes) -> bytes:
        """The content in this piece; b"" once the content is refused: the rest of it is let go."""
        if self._lead and self._held == b"\r\n" and data and not data.startswith(b"."):
            self._held, self._lead = b"", 0  # no dot on the first line: the line end before it has no meaning
        window = self._held + data if self._held else data
        dot = window.find(b"\r\n.")
        end = window.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            self._held, self.unused = b"", len(window) - end - len(_END)
            body = window[: end + 2]
        else:
            keep = len(window) - _undecided(window)
            self._held, body = window[keep:], window[:keep]
        if not body:
            return b""
        body = self._clean(body, dotted=0 <= dot != end)
        if self._lead:
            body, self._lead = body[self._lead :], 0
        self.size += len(body)
        if (self._rejects and self.has_bare_newline) or (self._size_limit and self.size > self._size_limit):
            self.refusal = self._reason()
            return b""
        return body

    def _reason(self) -> Refusal:
        if self._rejects and self._bare_lf:
            return Refusal(BARE_LF, "bare-newline", "<LF> without <CR> in content")
        if self._rejects and self._bare_cr:
            return Refusal(BARE_CR, "bare-newline", "<CR> without <LF> in content")
        return Refusal(MESSAGE_TOO_BIG, "message-too-big", f"over {self._size_limit} octets")

    def _clean(self, body: bytes, *, dotted: bool) -> bytes:
        """``body`` without dot-stuffing and with whole line ends; neither a line end nor a leading dot is cut apart."""
        bare_lf, bare_cr = bare_newlines(body)
        if bare_lf or bare_cr:
            self._bare_lf |= bare_lf
            self._bare_cr |= bare_cr
            self.has_bare_newline = True
            # Who ends lines in LF has stuffed the dots of such lines.
            lines = body.replace(b"\n.", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b" ")
            return lines.replace(b"\n", b"\r\n")
        return body.replace(b"\r\n.", b"\r\n") if dotted else body


def _undecided(window: bytes) -> int:
    """How many of the last bytes have a meaning that depends on what follows them."""
    last = window[-1:]
    if last == b"\n":
        return 2 if window.endswith(b"\r\n") else 1
    if last == b"\r":
        return 4 if window.endswith(b"\r\n.\r") else 1
    if last == b"." and window.endswith(b"\r\n."):
        return 3
    return 0

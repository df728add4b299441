"""What a client says, as values: the commands of RFC 5321 §4.1.1 and the parts of a message's content.

These are the events of the server core. All but Content are questions: each wants one reply before the next comes.
"""

from __future__ import annotations

from msgspec import Struct

from ekiden.message.address import Address
from ekiden.message.envelope import BodyType
from ekiden.message.reply import Refusal, Reply


class Helo(Struct, frozen=True, gc=False):
    """HELO, or EHLO when ``extended``. ``name`` is as given, with what could break a header field made ``?``."""

    name: str
    extended: bool


class Mail(Struct, frozen=True, gc=False):
    """MAIL FROM. ``size`` is what the client announces (RFC 1870), in octets."""

    sender: Address
    size: int | None = None
    body: BodyType = BodyType.SEVEN_BIT


class Rcpt(Struct, frozen=True, gc=False):
    """RCPT TO. An address without a domain is one of this host: ``<postmaster>``."""

    address: Address


class Data(Struct, frozen=True, gc=False):
    """DATA. A 354 reply opens the content, any other reply leaves the transaction as it is."""


class Rset(Struct, frozen=True, gc=False):
    pass


class Noop(Struct, frozen=True, gc=False):
    pass


class Vrfy(Struct, frozen=True, gc=False):
    """``text`` is printable ASCII."""

    text: str


class Help(Struct, frozen=True, gc=False):
    pass


class Quit(Struct, frozen=True, gc=False):
    pass


class AuthStart(Struct, frozen=True, gc=False):
    """AUTH (RFC 4954 §4). ``mechanism`` is in upper case; ``initial`` is None without an initial response.

    A 334 reply asks for an AuthResponse, any other ends the exchange.
    """

    mechanism: str
    initial: bytes | None = None

    def __repr__(self) -> str:
        return f"AuthStart({self.mechanism!r}, ***)"


class AuthResponse(Struct, frozen=True, gc=False):
    """What the client answers to 334; a ``refusal`` ends the exchange: the client cancelled, or this is no response."""

    data: bytes
    refusal: Refusal | None = None

    def __repr__(self) -> str:
        return f"AuthResponse(***, {self.refusal!r})"


class Invalid(Struct, frozen=True):
    """What the core refuses by itself. The driver gives ``reply`` back, or a harder one: 421 after too many errors."""

    verb: str  # the verb when the core knows it, else the first word as far as it is printable; "" when there is none
    reply: Reply
    reason: str  # stable name for log and statistics: "unknown-command", "bad-sequence", "not-smtp", ...
    junk: bool = False  # the verb is one of those that smtpd_junk_command_limit counts


class Content(Struct, frozen=True, gc=False):
    """Part of a message's content, dot-stuffing undone, cut anywhere but inside a CRLF. Not to be answered."""

    data: bytes


class EndOfContent(Struct, frozen=True):
    """The end of a message's content, to be answered. With a ``refusal`` the content that came is not the whole."""

    refusal: Refusal | None = None
    size: int = 0  # octets of content; also counts what a refusal dropped
    has_bare_newline: bool = False  # bare CR or LF were there: refused, or made whole (see BareNewline)


Command = Helo | Mail | Rcpt | Data | Rset | Noop | Vrfy | Help | Quit | AuthStart
Question = Command | AuthResponse | Invalid | EndOfContent
Event = Question | Content

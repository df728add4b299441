"""What a client says, as values: the commands of RFC 5321 §4.1.1 and the parts of a message's content.

These are the events of the server core. All but Content are questions: each wants one reply before the next comes.
"""

from __future__ import annotations

from msgspec import Struct

from ekiden.message.address import Address
from ekiden.message.envelope import BodyType, Notify, Ret
from ekiden.message.reply import Refusal, Reply


class Helo(Struct, frozen=True, gc=False):
    """HELO, or EHLO when ``extended``. ``name`` is as given, with what could break a header field made ``?``."""

    name: str
    extended: bool


class By(Struct, frozen=True, gc=False):
    """BY= (RFC 2852 §4): ``seconds`` from now; negative ones have passed already, which mode N only may say."""

    seconds: int
    returns: bool  # mode R
    traces: bool = False


class MailOptions(Struct, frozen=True, gc=False):
    """What extensions say about a message in MAIL FROM; parameters.py has the table of them."""

    smtputf8: bool = False  # SMTPUTF8 (RFC 6531 §3.4)
    ret: Ret | None = None  # RET= (RFC 3461 §4.3)
    envid: str = ""  # ENVID= (RFC 3461 §4.4), xtext decoded
    by: By | None = None
    hold_for: int | None = None  # HOLDFOR= (RFC 4865 §4), seconds
    hold_until: float | None = None  # HOLDUNTIL= (RFC 4865 §4), seconds since the epoch
    priority: int | None = None  # MT-PRIORITY= (RFC 6710 §4.1)
    require_tls: bool = False  # REQUIRETLS (RFC 8689 §4.2.1)
    auth: str | None = None  # AUTH= (RFC 4954 §5), xtext decoded: an address, or "<>"


NO_OPTIONS = MailOptions()


class Mail(Struct, frozen=True, gc=False):
    """MAIL FROM. ``size`` is what the client announces (RFC 1870), in octets."""

    sender: Address
    size: int | None = None
    body: BodyType = BodyType.SEVEN_BIT
    options: MailOptions = NO_OPTIONS


class Rcpt(Struct, frozen=True, gc=False):
    """RCPT TO. An address without a domain is one of this host: ``<postmaster>``.

    ``orcpt`` is ORCPT= (RFC 3461 §4.2) with its coding undone: ``rfc822;user@example.com``.
    """

    address: Address
    notify: Notify | None = None  # NOTIFY= (RFC 3461 §4.1); None without it
    orcpt: str = ""


class Data(Struct, frozen=True, gc=False):
    """DATA. A 354 reply opens the content, any other reply leaves the transaction as it is."""


class Bdat(Struct, frozen=True, gc=False):
    """BDAT (RFC 3030 §2): ``size`` octets of content follow. It stays in the core; drivers see what it comes to."""

    size: int
    last: bool = False


class Rset(Struct, frozen=True, gc=False):
    pass


class Noop(Struct, frozen=True, gc=False):
    pass


class Vrfy(Struct, frozen=True, gc=False):
    """VRFY (RFC 5321 §4.1.1.6). An address without a domain is one of this host."""

    address: Address


class Etrn(Struct, frozen=True, gc=False):
    """ETRN (RFC 1985). ``domain`` is in lower case, or an address literal."""

    domain: str


class Help(Struct, frozen=True, gc=False):
    pass


class Quit(Struct, frozen=True, gc=False):
    pass


class StartTls(Struct, frozen=True, gc=False):
    """STARTTLS (RFC 3207 §4). A 220 reply is the last thing that is said in the clear; the session begins anew."""


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


class XClient(Struct, frozen=True, gc=False):
    """XCLIENT. ``arguments`` are read by client_attributes.py once the client is known to be one that may."""

    arguments: bytes


class XForward(Struct, frozen=True, gc=False):
    """XFORWARD, as XCLIENT."""

    arguments: bytes


class Invalid(Struct, frozen=True):
    """What the core refuses by itself. The driver gives ``reply`` back, or a harder one: 421 after too many errors."""

    verb: str  # the verb when the core knows it, else the first word as far as it is printable; "" when there is none
    reply: Reply
    reason: str  # stable name for log and statistics: "unknown-command", "bad-sequence", "not-smtp", ...
    junk: bool = False  # the verb is one of those that smtpd_junk_command_limit counts


class Content(Struct, frozen=True, gc=False):
    """Part of a message's content, dot-stuffing undone, cut anywhere but inside a CRLF. Not to be answered.

    Empty when octets of a chunk were read and let go: the client is still sending.
    """

    data: bytes


class FirstChunk(Struct, frozen=True, gc=False):
    """BDAT after the recipients: content follows, as after an accepted DATA. Not to be answered.

    A driver that wants none of it says so in its answer to EndOfChunk or EndOfContent.
    """


class EndOfChunk(Struct, frozen=True):
    """All octets of a chunk that is not the last have come; to be answered. EndOfContent is for the last one.

    A refusal refuses the message: what follows is read and let go until RSET or the last chunk (RFC 3030 §2).
    """

    size: int  # octets, as announced
    refusal: Refusal | None = None


class EndOfContent(Struct, frozen=True):
    """The end of a message's content, to be answered. With a ``refusal`` the content that came is not the whole."""

    refusal: Refusal | None = None
    size: int = 0  # octets of content; also counts what a refusal dropped
    has_bare_newline: bool = False  # bare CR or LF were there: refused, or made whole (see BareNewline)


Command = (
    Helo | Mail | Rcpt | Data | Rset | Noop | Vrfy | Etrn | Help | Quit | StartTls | AuthStart | XClient | XForward
)
Question = Command | AuthResponse | Invalid | EndOfContent | EndOfChunk
Event = Question | Content | FirstChunk

"""The addresses of MAIL FROM and RCPT TO (RFC 5321 §4.1.2).

In:   bytes that begin with the path, after the colon of ``FROM:`` or ``TO:``.
Out:  the Address and what follows it, or a PathProblem.
Never: lets NUL, CR, LF or another control character into an Address; takes more than linear time.

With ``utf8`` an address may have characters beyond ASCII (RFC 6531 §3.3): well-formed UTF-8 without control characters
and line separators.

Lenient (``strict_rfc821_envelopes = no``, the default as in Postfix) also takes spaces around the path, a path
without angle brackets, an address without a domain, dots at odd places of a local part (Japanese mobile carriers
gave such addresses out) and the dot at the end of a domain, which is dropped. A ``_`` in a domain is taken always,
as Postfix does. Comments and phrases of RFC 822 are taken never.
"""

from __future__ import annotations

import enum
import ipaddress
import re

from ekiden.message.address import NULL_SENDER, Address
from ekiden.protocol.smtp.limits import PathLimits

# RFC 5321 §4.1.2
#   Path           = "<" [ A-d-l ":" ] Mailbox ">"         A-d-l = At-domain *( "," At-domain )
#   Mailbox        = Local-part "@" ( Domain / address-literal )
#   Local-part     = Dot-string / Quoted-string
#   Dot-string     = Atom *("." Atom)                      Atom = 1*atext (RFC 5322 §3.2.3)
#   Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
#   qtextSMTP      = %d32-33 / %d35-91 / %d93-126          quoted-pairSMTP = %d92 %d32-126
#   Domain         = sub-domain *("." sub-domain)          sub-domain = Let-dig [Ldh-str]
# No pattern has two ways to read the same text, so what does not match fails in linear time. (Possessive quantifiers
# would say so, but those of Debian 12's Python (3.11.2) match too little.)
_ATEXT = rb"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]"
_LABEL = rb"[0-9A-Za-z_]+(?:-+[0-9A-Za-z_]+)*"
DOT_STRING = _ATEXT + rb"+(?:\." + _ATEXT + rb"+)*"
DOMAIN = _LABEL + rb"(?:\." + _LABEL + rb")*"


class _Grammar:
    """The patterns; ``more`` are the bytes that atoms, quoted strings and labels may have besides ASCII."""

    def __init__(self, more: bytes) -> None:
        atext = b"[!#$%&'*+\\-/=?^_`{|}~0-9A-Za-z" + more + b"]"
        letter = b"[0-9A-Za-z_" + more + b"]"
        label = letter + b"+(?:-+" + letter + b"+)*"
        domain = label + rb"(?:\." + label + b")*"
        qtext = rb"[ !#-\[\]-~" + more + b"]*"
        self.strict_local = re.compile(atext + rb"+(?:\." + atext + b"+)*")
        self.lenient_local = re.compile(b"[!#$%&'*+\\-/=?^_`{|}~0-9A-Za-z." + more + b"]+")
        self.quoted_local = re.compile(b'"' + qtext + rb"(?:\\[ -~]" + qtext + b')*"')
        self.domain = re.compile(domain)
        self.source_route = re.compile(b"@" + domain + b"(?:,@" + domain + b")*:")


_ASCII = _Grammar(b"")
_UTF8 = _Grammar(rb"\x80-\xff")  # RFC 6531 §3.3; whether it is UTF-8 is seen when it is decoded

# What nobody means in an address, and what could break a line of a header or a log.
_UNWANTED = re.compile(r"[\x80-\x9f\u2028\u2029]")

_QUOTED_PAIR = re.compile(r"\\(.)")
_LITERAL = re.compile(rb"\[([0-9A-Za-z:.]+)\]")
_LABEL_BYTES = 63  # RFC 1035 §2.3.4


class PathProblem(enum.Enum):
    SYNTAX = "syntax"
    TOO_LONG = "too long"
    NOT_ASCII = "not ASCII"  # needs SMTPUTF8 (RFC 6531)


class _NoPath(Exception):
    """Leaves the parser from any depth; never leaves this module."""

    def __init__(self, problem: PathProblem) -> None:
        self.problem = problem


class _Cursor:
    __slots__ = ("at", "data", "grammar")

    def __init__(self, data: bytes, grammar: _Grammar) -> None:
        self.data, self.at, self.grammar = data, 0, grammar

    def take(self, token: bytes) -> bool:
        if self.data.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def skip_spaces(self) -> None:
        while self.data.startswith(b" ", self.at):
            self.at += 1

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        found = pattern.match(self.data, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def expect(self, pattern: re.Pattern[bytes]) -> bytes:
        found = self.match(pattern)
        if found is None:
            raise _NoPath(PathProblem.SYNTAX)
        return found[0]


_DEFAULT_LIMITS = PathLimits()


def parse_path(
    data: bytes, *, lenient: bool, limits: PathLimits = _DEFAULT_LIMITS, utf8: bool = False
) -> tuple[Address, bytes] | PathProblem:
    """The path at the start of ``data`` and the bytes after it.

    ``<>`` gives NULL_SENDER: only MAIL may take it. What follows is for the caller: it must be empty or begin with a
    space.
    """
    if utf8 and data.isascii():
        utf8 = False
    cursor = _Cursor(data, _UTF8 if utf8 else _ASCII)
    try:
        address = _path(cursor, lenient=lenient, limits=limits)
    except _NoPath as trouble:
        return trouble.problem if utf8 or data.isascii() else PathProblem.NOT_ASCII
    except UnicodeDecodeError:
        return PathProblem.SYNTAX
    if utf8 and not _is_text(data[: cursor.at]):
        return PathProblem.SYNTAX
    return address, data[cursor.at :]


def parse_mailbox(
    text: str, *, lenient: bool = False, limits: PathLimits = _DEFAULT_LIMITS, utf8: bool = False
) -> Address | None:
    """``text`` as one whole mailbox without angle brackets: ``user@example.com``, ``"a b"@[192.0.2.1]``."""
    if not text.isascii() and not (utf8 and _is_text(text.encode("utf-8", "surrogateescape"))):
        return None
    cursor = _Cursor(text.encode("utf-8"), _UTF8 if utf8 else _ASCII)
    try:
        address = _mailbox(cursor, lenient=lenient, limits=limits)
    except _NoPath:
        return None
    return address if cursor.at == len(cursor.data) else None


def _is_text(data: bytes) -> bool:
    try:
        return _UNWANTED.search(data.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def _path(cursor: _Cursor, *, lenient: bool, limits: PathLimits) -> Address:
    if lenient:
        cursor.skip_spaces()
    start = cursor.at
    if not cursor.take(b"<"):
        if not lenient:
            raise _NoPath(PathProblem.SYNTAX)
        return _mailbox(cursor, lenient=True, limits=limits)
    if lenient:
        cursor.skip_spaces()
    if cursor.take(b">"):
        return NULL_SENDER
    # RFC 5321 §4.1.2, Appendix C: source routes are taken and ignored.
    cursor.match(cursor.grammar.source_route)
    address = _mailbox(cursor, lenient=lenient, limits=limits)
    if lenient:
        cursor.skip_spaces()
    if not cursor.take(b">"):
        raise _NoPath(PathProblem.SYNTAX)
    if cursor.at - start > limits.path_bytes:
        raise _NoPath(PathProblem.TOO_LONG)
    return address


def _mailbox(cursor: _Cursor, *, lenient: bool, limits: PathLimits) -> Address:
    grammar = cursor.grammar
    quoted = cursor.match(grammar.quoted_local)
    written = quoted[0] if quoted else cursor.expect(grammar.lenient_local if lenient else grammar.strict_local)
    if len(written) > limits.local_part_bytes:
        raise _NoPath(PathProblem.TOO_LONG)
    local = written.decode("utf-8")
    if quoted:
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if cursor.take(b"@"):
        return Address(local, _domain(cursor, lenient=lenient, limits=limits))
    # RFC 5321 §4.1.1.3: <postmaster> needs no domain, in any case of letters. Any other name of this host is a
    # courtesy; an empty one would be the null sender.
    if local and (lenient or local.lower() == "postmaster"):
        return Address(local)
    raise _NoPath(PathProblem.SYNTAX)


def _domain(cursor: _Cursor, *, lenient: bool, limits: PathLimits) -> str:
    literal = cursor.match(_LITERAL)
    if literal is not None:
        if not _is_address(literal[1].decode("ascii")):
            raise _NoPath(PathProblem.SYNTAX)
        return literal[0].decode("ascii")
    domain = cursor.expect(cursor.grammar.domain)
    if lenient:
        cursor.take(b".")
    if len(domain) > limits.domain_bytes:
        raise _NoPath(PathProblem.TOO_LONG)
    if domain.isascii():
        if max(map(len, domain.split(b"."))) > _LABEL_BYTES:
            raise _NoPath(PathProblem.TOO_LONG)
        return domain.decode("ascii")
    # How long the label becomes that is asked for in the DNS (RFC 5890 §2.3.1) is found out there.
    return domain.decode("utf-8")


def _is_address(text: str) -> bool:
    """RFC 5321 §4.1.3: an IPv4 address, or an IPv6 address behind its tag. There is no other registered tag."""
    try:
        if text[:5].lower() == "ipv6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True

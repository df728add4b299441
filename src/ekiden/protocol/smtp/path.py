"""The addresses of MAIL FROM and RCPT TO (RFC 5321 §4.1.2).

In:   bytes that begin with the path, after the colon of ``FROM:`` or ``TO:``.
Out:  the Address and what follows it, or a PathProblem.
Never: lets NUL, CR, LF or another control character into an Address; takes more than linear time.

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

_STRICT_LOCAL = re.compile(DOT_STRING)
_LENIENT_LOCAL = re.compile(rb"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z.]+")
_QUOTED_LOCAL = re.compile(rb'"[ !#-\[\]-~]*(?:\\[ -~][ !#-\[\]-~]*)*"')
_QUOTED_PAIR = re.compile(rb"\\(.)")
_DOMAIN = re.compile(DOMAIN)
_LITERAL = re.compile(rb"\[([0-9A-Za-z:.]+)\]")
_SOURCE_ROUTE = re.compile(rb"@" + DOMAIN + rb"(?:,@" + DOMAIN + rb")*:")
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
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

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
    data: bytes, *, lenient: bool, limits: PathLimits = _DEFAULT_LIMITS
) -> tuple[Address, bytes] | PathProblem:
    """The path at the start of ``data`` and the bytes after it.

    ``<>`` gives NULL_SENDER: only MAIL may take it. What follows is for the caller: it must be empty or begin with a
    space.
    """
    cursor = _Cursor(data)
    try:
        address = _path(cursor, lenient=lenient, limits=limits)
    except _NoPath as trouble:
        return trouble.problem if data.isascii() else PathProblem.NOT_ASCII
    return address, data[cursor.at :]


def parse_mailbox(text: str, *, lenient: bool = False, limits: PathLimits = _DEFAULT_LIMITS) -> Address | None:
    """``text`` as one whole mailbox without angle brackets: ``user@example.com``, ``"a b"@[192.0.2.1]``."""
    if not text.isascii():
        return None
    cursor = _Cursor(text.encode("ascii"))
    try:
        address = _mailbox(cursor, lenient=lenient, limits=limits)
    except _NoPath:
        return None
    return address if cursor.at == len(cursor.data) else None


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
    cursor.match(_SOURCE_ROUTE)
    address = _mailbox(cursor, lenient=lenient, limits=limits)
    if lenient:
        cursor.skip_spaces()
    if not cursor.take(b">"):
        raise _NoPath(PathProblem.SYNTAX)
    if cursor.at - start > limits.path_bytes:
        raise _NoPath(PathProblem.TOO_LONG)
    return address


def _mailbox(cursor: _Cursor, *, lenient: bool, limits: PathLimits) -> Address:
    quoted = cursor.match(_QUOTED_LOCAL)
    written = quoted[0] if quoted else cursor.expect(_LENIENT_LOCAL if lenient else _STRICT_LOCAL)
    if len(written) > limits.local_part_bytes:
        raise _NoPath(PathProblem.TOO_LONG)
    local = (_QUOTED_PAIR.sub(rb"\1", written[1:-1]) if quoted else written).decode("ascii")
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
    domain = cursor.expect(_DOMAIN)
    if lenient:
        cursor.take(b".")
    if len(domain) > limits.domain_bytes or max(map(len, domain.split(b"."))) > _LABEL_BYTES:
        raise _NoPath(PathProblem.TOO_LONG)
    return domain.decode("ascii")


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

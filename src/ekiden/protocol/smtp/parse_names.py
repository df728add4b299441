"""VRFY and ETRN: commands that ask about an address or a domain (RFC 5321 §4.1.1.6, RFC 1985 §4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ekiden.message.address import NULL_SENDER
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import Command, Etrn, Invalid, Vrfy
from ekiden.protocol.smtp.parse_envelope import is_ascii
from ekiden.protocol.smtp.path import PathProblem, parse_path
from ekiden.protocol.smtp.printable import printable

if TYPE_CHECKING:
    from ekiden.protocol.smtp.verbs import Rules

# RFC 6531 §3.7.4.2: VRFY and EXPN take SMTPUTF8 behind the address.
_UTF8 = re.compile(rb" +SMTPUTF8", re.IGNORECASE)


def parse_vrfy(arguments: bytes, rules: Rules) -> Command | Invalid:
    if not arguments:
        return Invalid("VRFY", replies.VRFY_SYNTAX, "syntax", junk=True)
    parsed = parse_path(arguments, lenient=True, limits=rules.limits.path, utf8=rules.offers_utf8)
    if isinstance(parsed, PathProblem):
        answer, reason = _PROBLEMS[parsed]
        return Invalid("VRFY", answer, reason, junk=True)
    address, rest = parsed
    declared = rest and rules.offers_utf8 and _UTF8.fullmatch(rest) is not None
    if address == NULL_SENDER or (rest.strip() and not declared):
        return Invalid("VRFY", replies.BAD_RECIPIENT, "bad-address", junk=True)
    if not (declared or is_ascii(address)):
        return Invalid("VRFY", replies.SMTPUTF8_NOT_DECLARED, "needs-smtputf8", junk=True)
    return Vrfy(address)


_PROBLEMS = {
    PathProblem.SYNTAX: (replies.BAD_RECIPIENT, "bad-address"),
    PathProblem.TOO_LONG: (replies.LONG_RECIPIENT, "address-too-long"),
    PathProblem.NOT_ASCII: (replies.NEEDS_SMTPUTF8, "needs-smtputf8"),
}

# RFC 1985 §5.3: a domain, "@" for one with its subdomains, "#" for a queue, whose names are those of domains here.
_NODE = re.compile(rb"[@#]?([0-9A-Za-z_](?:[0-9A-Za-z_.-]{0,253}[0-9A-Za-z_])?|\[[0-9A-Za-z:.]{2,60}\])")


def parse_etrn(arguments: bytes, rules: Rules) -> Command | Invalid:
    found = _NODE.fullmatch(arguments)
    if found is None:
        return Invalid("ETRN", replies.ETRN_SYNTAX, "syntax", junk=True)
    return Etrn(printable(found[1], limit=255).lower())

"""MAIL FROM and RCPT TO: the path and the parameters behind it (RFC 5321 §4.1.1.2, §4.1.1.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import BodyType
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import NO_OPTIONS, Command, Invalid, Mail, MailOptions, Rcpt
from ekiden.protocol.smtp.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS, Unacceptable, read_parameters
from ekiden.protocol.smtp.path import DOMAIN, DOT_STRING, PathProblem, parse_path

if TYPE_CHECKING:
    from ekiden.protocol.smtp.verbs import Rules

# The forms that nearly all commands have, read in one step; what they do not match goes to the full parser. The
# bounds of local part and domain are within every limit that path.py knows.
_COMMON_PATH = rb"<(?=[^@]{1,64}@[^>]{1,63}>)(" + DOT_STRING + rb")@(" + DOMAIN + rb")>"
_COMMON_MAIL = re.compile(
    rb"(?i:FROM):" + _COMMON_PATH + rb"(?: (?i:SIZE)=([0-9]{1,19}))?(?: (?i:BODY)=(?:(8BITMIME)|7BIT))?"
)
# Postfix says ORCPT= with every recipient (RFC 3461 §4.2); xtext without "+" stands for itself.
_COMMON_RCPT = re.compile(rb"(?i:TO):" + _COMMON_PATH + rb"(?: (?i:ORCPT)=((?i:rfc822);[!-*,-<>-~]{1,400}))?")


def parse_mail(arguments: bytes, rules: Rules) -> Command | Invalid:
    common = _COMMON_MAIL.fullmatch(arguments)
    if common is not None:
        local, domain, announced, eight_bit = common.groups()
        size = None if announced is None else int(announced)
        if size is not None and 0 < rules.size_limit < size:
            return Invalid("MAIL", replies.SIZE_TOO_BIG, "message-too-big")
        body = BodyType.SEVEN_BIT if eight_bit is None else BodyType.EIGHT_BIT_MIME
        return Mail(Address(local.decode("ascii"), domain.decode("ascii")), size, body)
    return _full_mail(arguments, rules)


def _full_mail(arguments: bytes, rules: Rules) -> Command | Invalid:
    if arguments[:5].upper() != b"FROM:":
        return Invalid("MAIL", replies.MAIL_SYNTAX, "syntax")
    parsed = parse_path(
        arguments[5:], lenient=not rules.strict_envelopes, limits=rules.limits.path, utf8=rules.offers_utf8
    )
    if isinstance(parsed, PathProblem):
        return Invalid("MAIL", *_SENDER_PROBLEMS[parsed])
    sender, rest = parsed
    if rest and not rest.startswith(b" "):
        return Invalid("MAIL", *_SENDER_PROBLEMS[PathProblem.SYNTAX])
    values = read_parameters(rest, MAIL_PARAMETERS, rules.allowed) if rest else {}
    if isinstance(values, Unacceptable):
        return Invalid("MAIL", values.reply, values.reason)
    # RFC 4865 §4: the one or the other.
    if "hold_for" in values and "hold_until" in values:
        return Invalid("MAIL", replies.REPEATED_PARAMETER, "repeated-parameter")
    size, body = values.pop("size", None), values.pop("body", BodyType.SEVEN_BIT)
    options = MailOptions(**values) if values else NO_OPTIONS
    if not (options.smtputf8 or is_ascii(sender)):
        return Invalid("MAIL", replies.SMTPUTF8_NOT_DECLARED, "needs-smtputf8")
    return Mail(sender, size, body, options)


def parse_rcpt(arguments: bytes, rules: Rules) -> Command | Invalid:
    common = _COMMON_RCPT.fullmatch(arguments)
    if common is not None and (common[3] is None or "DSN" in rules.offered):
        local, domain, orcpt = common.groups(b"")
        return Rcpt(Address(local.decode("ascii"), domain.decode("ascii")), None, orcpt.decode("ascii"))
    if arguments[:3].upper() != b"TO:":
        return Invalid("RCPT", replies.RCPT_SYNTAX, "syntax")
    parsed = parse_path(
        arguments[3:], lenient=not rules.strict_envelopes, limits=rules.limits.path, utf8=rules.offers_utf8
    )
    if isinstance(parsed, PathProblem):
        return Invalid("RCPT", *_RECIPIENT_PROBLEMS[parsed])
    address, rest = parsed
    # RFC 5321 §4.1.1.3: the null path is for senders only.
    if address == NULL_SENDER or (rest and not rest.startswith(b" ")):
        return Invalid("RCPT", *_RECIPIENT_PROBLEMS[PathProblem.SYNTAX])
    if not rest:
        return Rcpt(address)
    values = read_parameters(rest, RCPT_PARAMETERS, rules.allowed)
    if isinstance(values, Unacceptable):
        return Invalid("RCPT", values.reply, values.reason)
    return Rcpt(address, **values)


def is_ascii(address: Address) -> bool:
    return address.local.isascii() and address.domain.isascii()


_SENDER_PROBLEMS = {
    PathProblem.SYNTAX: (replies.BAD_SENDER, "bad-address"),
    PathProblem.TOO_LONG: (replies.LONG_SENDER, "address-too-long"),
    PathProblem.NOT_ASCII: (replies.NEEDS_SMTPUTF8, "needs-smtputf8"),
}
_RECIPIENT_PROBLEMS = {
    PathProblem.SYNTAX: (replies.BAD_RECIPIENT, "bad-address"),
    PathProblem.TOO_LONG: (replies.LONG_RECIPIENT, "address-too-long"),
    PathProblem.NOT_ASCII: (replies.NEEDS_SMTPUTF8, "needs-smtputf8"),
}

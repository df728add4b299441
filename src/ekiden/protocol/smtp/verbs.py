"""The verbs of SMTP as a table (RFC 5321 §4.1.1): where each is legal, what it costs, how its arguments are read."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct, structs

from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import BodyType
from ekiden.message.reply import Reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import (
    AuthStart,
    Command,
    Data,
    Helo,
    Help,
    Invalid,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
)
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.login import parse_auth
from ekiden.protocol.smtp.path import DOMAIN, DOT_STRING, PathProblem, parse_path
from ekiden.protocol.smtp.states import State

# Lines that are remembered, and how long they may be: 1024 of them take some 300 KiB.
_KNOWN_LINES = 1024
_KNOWN_LINE_BYTES = 128


class Rules:
    """What the parsers must know of the settings; one for all sessions of a service.

    Clients say the same things over and over (``DATA``, ``QUIT``, the names and addresses of busy hosts), so accepted
    lines are remembered with what they mean. What a line means depends on nothing but these rules.
    """

    __slots__ = (
        *(
            "_known",
            "bare_newline_code",
            "filter_line",
            "forbids_early_input",
            "has_login",
            "is_forbidden",
            "is_noop",
            "limits",
        ),
        *("size_limit", "soft_bounce", "strict_envelopes", "verbs"),
    )

    def __init__(
        self,
        limits: Limits,
        size_limit: int,
        strict_envelopes: bool,
        *,
        soft_bounce: bool = False,
        is_forbidden: Callable[[bytes], bool] | None = None,
        is_noop: Callable[[bytes], bool] | None = None,
        filter_line: Callable[[bytes], bytes | Reply] | None = None,
        forbids_early_input: bool = False,
        bare_newline_code: int = replies.BARE_LF.code,
        has_login: bool = False,
    ) -> None:
        """``size_limit`` is in octets of content; 0 is no limit (``message_size_limit``).

        ``soft_bounce``: every 5yz reply goes out as a 4yz one. ``is_forbidden``: which verbs, of those that are none
        of SMTP's, end the session (FOREIGN). ``is_noop``: which verbs of any kind do nothing. Both get upper case.
        ``filter_line`` gives the command to execute in place of a line (without its line end), or refuses it.
        ``forbids_early_input``: what a client sends before its turn (RFC 2920 §3.1) ends the session.
        ``has_login``: AUTH is a command here.
        """
        self.soft_bounce = soft_bounce
        self.limits = limits
        self.size_limit = size_limit
        self.strict_envelopes = strict_envelopes
        self.is_forbidden = FOREIGN.__contains__ if is_forbidden is None else is_forbidden
        self.is_noop = is_noop
        self.filter_line = filter_line
        self.forbids_early_input = forbids_early_input
        self.bare_newline_code = bare_newline_code
        self.has_login = has_login
        self.verbs = VERBS | {b"AUTH": _AUTH} if has_login else VERBS
        if is_noop is not None:
            noops = {name: Verb(name, VERBS[b"NOOP"].parse, junk=True) for name in self.verbs if is_noop(name)}
            self.verbs = self.verbs | noops
        self._known: dict[bytes, tuple[Verb, Command]] = {}

    def known(self, line: bytes) -> tuple[Verb, Command] | None:
        return self._known.get(line)

    def coded(self, refusal: Reply) -> Reply:
        """A refusal of a bare newline with the code that was asked for."""
        code = self.bare_newline_code
        if refusal.code == code or refusal.status is None:
            return refusal
        return structs.replace(refusal, code=code, status=refusal.status.with_class(code // 100))

    def remember(self, line: bytes, verb: Verb, command: Command) -> None:
        """Of what holds secrets nothing is remembered."""
        if len(line) <= _KNOWN_LINE_BYTES and type(command) is not AuthStart:
            if len(self._known) >= _KNOWN_LINES:
                self._known.clear()
            self._known[line] = (verb, command)


# What Postfix makes "?" in a HELO name before anyone sees it: characters that mean something in header fields,
# comments and log lines. Control characters never come this far; what is not ASCII goes the same way.
_NEUTERED = bytes(ord("?") if byte in b' <>()\\";@' or not 0x20 < byte < 0x7F else byte for byte in range(256))


def _parse_helo(arguments: bytes, rules: Rules) -> Command | Invalid:
    return _hello("HELO", arguments, rules, replies.HELO_SYNTAX)


def _parse_ehlo(arguments: bytes, rules: Rules) -> Command | Invalid:
    return _hello("EHLO", arguments, rules, replies.EHLO_SYNTAX)


def _hello(verb: str, arguments: bytes, rules: Rules, syntax: Reply) -> Command | Invalid:
    if not arguments:
        return Invalid(verb, syntax, "syntax", junk=True)
    if len(arguments) > rules.limits.helo_bytes:
        return Invalid(verb, replies.HELO_TOO_LONG, "too-long", junk=True)
    return Helo(arguments.translate(_NEUTERED).decode("ascii"), verb == "EHLO")


# The forms that nearly all commands have, read in one step; what they do not match goes to the full parser. The
# bounds of local part and domain are within every limit that path.py knows.
_COMMON_PATH = rb"<(?=[^@]{1,64}@[^>]{1,63}>)(" + DOT_STRING + rb")@(" + DOMAIN + rb")>"
_COMMON_MAIL = re.compile(
    rb"(?i:FROM):" + _COMMON_PATH + rb"(?: (?i:SIZE)=([0-9]{1,19}))?(?: (?i:BODY)=(?:(8BITMIME)|7BIT))?"
)
_COMMON_RCPT = re.compile(rb"(?i:TO):" + _COMMON_PATH)


def _parse_mail(arguments: bytes, rules: Rules) -> Command | Invalid:
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
    parsed = parse_path(arguments[5:], lenient=not rules.strict_envelopes, limits=rules.limits.path)
    if isinstance(parsed, PathProblem):
        return Invalid("MAIL", *_SENDER_PROBLEMS[parsed])
    sender, rest = parsed
    if rest and not rest.startswith(b" "):
        return Invalid("MAIL", *_SENDER_PROBLEMS[PathProblem.SYNTAX])
    size: int | None = None
    body: BodyType | None = None
    for parameter in rest.split():
        keyword, _, value = parameter.upper().partition(b"=")
        if keyword == b"SIZE":
            if size is not None:
                return Invalid("MAIL", replies.REPEATED_PARAMETER, "repeated-parameter")
            # RFC 1870 §3: size-value = 1*20DIGIT
            if not (value.isdigit() and len(value) <= 20):
                return Invalid("MAIL", replies.BAD_SIZE, "syntax")
            size = int(value)
            if 0 < rules.size_limit < size:
                return Invalid("MAIL", replies.SIZE_TOO_BIG, "message-too-big")
        elif keyword == b"BODY" and value in _BODY_TYPES:
            if body is not None:
                return Invalid("MAIL", replies.REPEATED_PARAMETER, "repeated-parameter")
            body = _BODY_TYPES[value]
        else:
            return _unsupported("MAIL", parameter)
    return Mail(sender, size, body or BodyType.SEVEN_BIT)


# RFC 6152 §2
_BODY_TYPES = {b"7BIT": BodyType.SEVEN_BIT, b"8BITMIME": BodyType.EIGHT_BIT_MIME}


def _parse_rcpt(arguments: bytes, rules: Rules) -> Command | Invalid:
    common = _COMMON_RCPT.fullmatch(arguments)
    if common is not None:
        return Rcpt(Address(common[1].decode("ascii"), common[2].decode("ascii")))
    if arguments[:3].upper() != b"TO:":
        return Invalid("RCPT", replies.RCPT_SYNTAX, "syntax")
    parsed = parse_path(arguments[3:], lenient=not rules.strict_envelopes, limits=rules.limits.path)
    if isinstance(parsed, PathProblem):
        return Invalid("RCPT", *_RECIPIENT_PROBLEMS[parsed])
    address, rest = parsed
    # RFC 5321 §4.1.1.3: the null path is for senders only.
    if address == NULL_SENDER or (rest and not rest.startswith(b" ")):
        return Invalid("RCPT", *_RECIPIENT_PROBLEMS[PathProblem.SYNTAX])
    for parameter in rest.split():
        return _unsupported("RCPT", parameter)
    return Rcpt(address)


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


def _unsupported(verb: str, parameter: bytes) -> Invalid:
    return Invalid(verb, replies.unsupported_option(printable(parameter)), "unknown-parameter")


def _parse_vrfy(arguments: bytes, _rules: Rules) -> Command | Invalid:
    if not arguments:
        return Invalid("VRFY", replies.VRFY_SYNTAX, "syntax", junk=True)
    return Vrfy(printable(arguments, limit=256))


def _without_arguments(
    command: Command, syntax: Reply, *, junk: bool = False
) -> Callable[[bytes, Rules], Command | Invalid]:
    invalid = Invalid(type(command).__name__.upper(), syntax, "syntax", junk)
    return lambda arguments, _rules: invalid if arguments else command


def _any_arguments(command: Command) -> Callable[[bytes, Rules], Command | Invalid]:
    return lambda _arguments, _rules: command


def printable(text: bytes, limit: int = 64) -> str:
    """``text`` for replies and logs: ASCII without control characters, not longer than ``limit``."""
    return text[:limit].translate(_PRINTABLE).decode("ascii")


_PRINTABLE = bytes(byte if 0x20 <= byte < 0x7F else ord("?") for byte in range(256))

_ANY = frozenset({State.CONNECTED, State.GREETED, State.SENDER, State.RECIPIENTS})


class Verb(Struct, frozen=True):
    name: bytes
    parse: Callable[[bytes, Rules], Command | Invalid]
    states: frozenset[State] = _ANY
    junk: bool = False  # smtpd_junk_command_limit counts it


VERBS: dict[bytes, Verb] = {
    verb.name: verb
    for verb in (
        Verb(b"HELO", _parse_helo, junk=True),
        Verb(b"EHLO", _parse_ehlo, junk=True),
        # smtpd_helo_required is the driver's: without it a session may begin with MAIL, as in Postfix.
        Verb(b"MAIL", _parse_mail, frozenset({State.CONNECTED, State.GREETED})),
        Verb(b"RCPT", _parse_rcpt, frozenset({State.SENDER, State.RECIPIENTS})),
        Verb(b"DATA", _without_arguments(Data(), replies.DATA_SYNTAX), frozenset({State.RECIPIENTS})),
        Verb(b"RSET", _without_arguments(Rset(), replies.RSET_SYNTAX, junk=True), junk=True),
        Verb(b"NOOP", _any_arguments(Noop()), junk=True),
        Verb(b"VRFY", _parse_vrfy, junk=True),
        Verb(b"HELP", _any_arguments(Help()), junk=True),
        Verb(b"QUIT", _without_arguments(Quit(), replies.QUIT_SYNTAX)),
    )
}

# One of the verbs where Rules.has_login says so.
_AUTH = Verb(b"AUTH", lambda arguments, _rules: parse_auth(arguments), frozenset({State.GREETED}))

# The answer to a verb in each state where it is not legal (RFC 5321 §4.1.4).
OUT_OF_ORDER: dict[tuple[bytes, State], Reply] = {
    # RFC 4954 §4: not during a mail transaction.
    (b"AUTH", State.CONNECTED): replies.AUTH_NEEDS_HELO,
    (b"AUTH", State.SENDER): replies.AUTH_IN_TRANSACTION,
    (b"AUTH", State.RECIPIENTS): replies.AUTH_IN_TRANSACTION,
    (b"MAIL", State.SENDER): replies.NESTED_MAIL,
    (b"MAIL", State.RECIPIENTS): replies.NESTED_MAIL,
    (b"RCPT", State.CONNECTED): replies.NEED_MAIL,
    (b"RCPT", State.GREETED): replies.NEED_MAIL,
    (b"DATA", State.CONNECTED): replies.NEED_RCPT,
    (b"DATA", State.GREETED): replies.NEED_RCPT,
    # RFC 2920 §3.1: what a client gets that pipelined DATA behind recipients none of whom was taken.
    (b"DATA", State.SENDER): replies.NO_VALID_RECIPIENTS,
}

# Real verbs that this server does not have: RFC 5321 §4.2.4 wants 502 for these, 500 for what nobody knows.
NOT_IMPLEMENTED = frozenset(
    {
        b"AUTH",
        b"BDAT",
        b"BURL",
        b"ETRN",
        b"EXPN",
        b"SAML",
        b"SEND",
        b"SOML",
        b"STARTTLS",
        b"TURN",
        b"XCLIENT",
        b"XFORWARD",
    }
)

# A web client or proxy scanner, not a mail client (smtpd_forbidden_commands): the session ends at once, before a
# request whose body happens to be SMTP gets anywhere.
FOREIGN = frozenset({b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PRI", b"PUT", b"TRACE"})

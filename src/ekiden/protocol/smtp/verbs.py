"""The verbs of SMTP as a table (RFC 5321 §4.1.1): where each is legal, what it costs, how its arguments are read."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable

from msgspec import Struct, structs

from ekiden.message.reply import Reply
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import (
    AuthStart,
    Command,
    Data,
    Helo,
    Help,
    Invalid,
    Noop,
    Quit,
    Rset,
    StartTls,
    XClient,
    XForward,
)
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.login import parse_auth
from ekiden.protocol.smtp.parameters import Allowed
from ekiden.protocol.smtp.parse_envelope import parse_mail, parse_rcpt
from ekiden.protocol.smtp.parse_names import parse_etrn, parse_vrfy
from ekiden.protocol.smtp.states import State

# Lines that are remembered, and how long they may be: 1024 of them take some 300 KiB.
_KNOWN_LINES = 1024
_KNOWN_LINE_BYTES = 128
_SIBLINGS = 16  # sets of extensions that clients are offered; a service has a handful


class Encryption(enum.Enum):
    """What STARTTLS is in a session (RFC 3207 §4)."""

    NONE = "there is no such command"
    OFFERED = "the client may encrypt"
    REQUIRED = "the client must encrypt before it says anything of weight"
    ACTIVE = "the session is encrypted"


class Rules:
    """What the parsers must know of the settings and of what a client was offered.

    Clients say the same things over and over (``DATA``, ``QUIT``, the names and addresses of busy hosts), so accepted
    lines are remembered with what they mean. What a line means depends on nothing but these rules: sessions that were
    offered the same share them, and ``offering`` gives those for another set of extensions.
    """

    __slots__ = (
        *(
            "_remembered",
            "siblings",
            "allowed",
            "bare_newline_code",
            "filter_line",
            "forbids_early_input",
            "has_login",
            "is_forbidden",
            "is_lmtp",
            "is_noop",
            "known",
            "limits",
            "line_bytes",
        ),
        *("offered", "offers_utf8", "size_limit", "soft_bounce", "strict_envelopes", "verbs"),
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
        is_lmtp: bool = False,
        encryption: Encryption = Encryption.NONE,
    ) -> None:
        """``size_limit`` is in octets of content; 0 is no limit (``message_size_limit``).

        ``soft_bounce``: every 5yz reply goes out as a 4yz one. ``is_forbidden``: which verbs, of those that are none
        of SMTP's, end the session (FOREIGN). ``is_noop``: which verbs of any kind do nothing. Both get upper case.
        ``filter_line`` gives the command to execute in place of a line (without its line end), or refuses it.
        ``forbids_early_input``: what a client sends before its turn (RFC 2920 §3.1) ends the session.
        ``has_login``: AUTH is a command here. ``is_lmtp``: LHLO takes the place of HELO and EHLO (RFC 2033 §4.1).
        ``encryption``: what STARTTLS is here.
        """
        self.soft_bounce = soft_bounce
        self.limits = limits
        self.line_bytes = max(limits.command_line_bytes, limits.auth_line_bytes if has_login else 0)
        self.size_limit = size_limit
        self.strict_envelopes = strict_envelopes
        self.is_forbidden = FOREIGN.__contains__ if is_forbidden is None else is_forbidden
        self.is_noop = is_noop
        self.filter_line = filter_line
        self.forbids_early_input = forbids_early_input
        self.bare_newline_code = bare_newline_code
        self.has_login = has_login
        self.is_lmtp = is_lmtp
        verbs = LMTP_VERBS if is_lmtp else VERBS
        self.verbs = verbs | {b"AUTH": _AUTH} if has_login else verbs
        if encryption is not Encryption.NONE:
            self.verbs = self.verbs | {b"STARTTLS": _STARTTLS_AGAIN if encryption is Encryption.ACTIVE else _STARTTLS}
        if encryption is Encryption.REQUIRED:
            self.verbs = {name: verb if verb.before_tls else _not_in_clear(verb) for name, verb in self.verbs.items()}
        if is_noop is not None:
            # Not BDAT: its octets would be commands then.
            noops = {
                name: Verb(name, VERBS[b"NOOP"].parse, junk=True)
                for name in self.verbs
                if name != b"BDAT" and is_noop(name)
            }
            self.verbs = self.verbs | noops
        self.siblings: dict[frozenset[str], Rules] = {}
        self._offer(frozenset())

    def _offer(self, extensions: frozenset[str]) -> None:
        self.offered = extensions
        self.allowed = Allowed(extensions, self.size_limit)
        self.offers_utf8 = "SMTPUTF8" in extensions
        self._remembered: dict[bytes, tuple[frozenset[State], Command]] = {}
        # What a line that was remembered means, and in which states it may be said.
        self.known = self._remembered.get

    def offering(self, extensions: frozenset[str]) -> Rules:
        """These rules for a client that was offered ``extensions`` (the keywords of EHLO)."""
        if extensions == self.offered:
            return self
        rules = self.siblings.get(extensions)
        if rules is None:
            if len(self.siblings) >= _SIBLINGS:
                self.siblings.clear()
            rules = copy.copy(self)
            rules._offer(extensions)
            self.siblings[extensions] = rules
        return rules

    def out_of_order(self, verb: bytes, state: State) -> Reply:
        """The answer to a verb in a state where it is not legal."""
        found = OUT_OF_ORDER[b"EHLO" if verb == b"LHLO" else verb, state]
        return replies.LMTP_NO_VALID_RECIPIENTS if self.is_lmtp and found is replies.NO_VALID_RECIPIENTS else found

    def coded(self, refusal: Reply) -> Reply:
        """A refusal of a bare newline with the code that was asked for."""
        code = self.bare_newline_code
        if refusal.code == code or refusal.status is None:
            return refusal
        return structs.replace(refusal, code=code, status=refusal.status.with_class(code // 100))

    def remember(self, line: bytes, verb: Verb, command: Command) -> None:
        """Of what holds secrets nothing is remembered."""
        if len(line) <= _KNOWN_LINE_BYTES and type(command) is not AuthStart:
            if len(self._remembered) >= _KNOWN_LINES:
                self._remembered.clear()
            self._remembered[line] = (verb.states, command)


# What Postfix makes "?" in a HELO name before anyone sees it: characters that mean something in header fields,
# comments and log lines. Control characters never come this far; what is not ASCII goes the same way.
NEUTERED = bytes(ord("?") if byte in b' <>()\\";@' or not 0x20 < byte < 0x7F else byte for byte in range(256))


def _parse_helo(arguments: bytes, rules: Rules) -> Command | Invalid:
    return _hello("HELO", arguments, rules, replies.HELO_SYNTAX)


def _parse_lhlo(arguments: bytes, rules: Rules) -> Command | Invalid:
    return _hello("LHLO", arguments, rules, replies.LHLO_SYNTAX)


def _parse_ehlo(arguments: bytes, rules: Rules) -> Command | Invalid:
    return _hello("EHLO", arguments, rules, replies.EHLO_SYNTAX)


def _hello(verb: str, arguments: bytes, rules: Rules, syntax: Reply) -> Command | Invalid:
    if not arguments:
        return Invalid(verb, syntax, "syntax", junk=True)
    if len(arguments) > rules.limits.helo_bytes:
        return Invalid(verb, replies.HELO_TOO_LONG, "too-long", junk=True)
    return Helo(arguments.translate(NEUTERED).decode("ascii"), verb != "HELO")


def _parse_xclient(arguments: bytes, _rules: Rules) -> Command | Invalid:
    return XClient(arguments) if arguments else Invalid("XCLIENT", replies.XCLIENT_SYNTAX, "syntax", junk=True)


def _parse_xforward(arguments: bytes, _rules: Rules) -> Command | Invalid:
    return XForward(arguments) if arguments else Invalid("XFORWARD", replies.XFORWARD_SYNTAX, "syntax")


def _without_arguments(
    command: Command, syntax: Reply, *, junk: bool = False
) -> Callable[[bytes, Rules], Command | Invalid]:
    invalid = Invalid(type(command).__name__.upper(), syntax, "syntax", junk)
    return lambda arguments, _rules: invalid if arguments else command


def _any_arguments(command: Command) -> Callable[[bytes, Rules], Command | Invalid]:
    return lambda _arguments, _rules: command


def _never_parsed(_arguments: bytes, _rules: Rules) -> Command | Invalid:
    raise AssertionError("the core has a way of its own for this command")


_CHUNKS = frozenset({State.CHUNKS, State.CHUNK_REFUSED})
_ANY = frozenset({State.CONNECTED, State.GREETED, State.SENDER, State.RECIPIENTS}) | _CHUNKS


class Verb(Struct, frozen=True):
    name: bytes
    parse: Callable[[bytes, Rules], Command | Invalid]
    states: frozenset[State] = _ANY
    junk: bool = False  # smtpd_junk_command_limit counts it
    extension: str = ""  # the EHLO keyword that offers it: without that it is "not implemented"; "": always there
    before_tls: bool = False  # it may be said where encryption is required and has not begun (RFC 3207 §4)


VERBS: dict[bytes, Verb] = {
    verb.name: verb
    for verb in (
        Verb(b"HELO", _parse_helo, junk=True, before_tls=True),
        Verb(b"EHLO", _parse_ehlo, junk=True, before_tls=True),
        # smtpd_helo_required is the driver's: without it a session may begin with MAIL, as in Postfix.
        Verb(b"MAIL", parse_mail, frozenset({State.CONNECTED, State.GREETED})),
        Verb(b"RCPT", parse_rcpt, frozenset({State.SENDER, State.RECIPIENTS})),
        Verb(b"DATA", _without_arguments(Data(), replies.DATA_SYNTAX), frozenset({State.RECIPIENTS})),
        # Legal or not, its octets are read: the core parses it (chunks.py), and knows what to do in each state.
        Verb(b"BDAT", _never_parsed, extension="CHUNKING"),
        Verb(b"RSET", _without_arguments(Rset(), replies.RSET_SYNTAX, junk=True), junk=True),
        Verb(b"NOOP", _any_arguments(Noop()), junk=True, before_tls=True),
        Verb(b"VRFY", parse_vrfy, junk=True),
        Verb(b"ETRN", parse_etrn, frozenset({State.CONNECTED, State.GREETED}), junk=True, extension="ETRN"),
        Verb(b"HELP", _any_arguments(Help()), junk=True),
        Verb(b"XCLIENT", _parse_xclient, frozenset({State.CONNECTED, State.GREETED}), junk=True),
        Verb(b"XFORWARD", _parse_xforward, frozenset({State.CONNECTED, State.GREETED})),
        Verb(b"QUIT", _without_arguments(Quit(), replies.QUIT_SYNTAX), before_tls=True),
    )
}

# One of the verbs where Rules.has_login says so.
_AUTH = Verb(b"AUTH", lambda arguments, _rules: parse_auth(arguments), frozenset({State.GREETED}))

# RFC 2033 §4.1: neither HELO nor EHLO may be answered with success.
LMTP_VERBS: dict[bytes, Verb] = {
    **{name: verb for name, verb in VERBS.items() if name not in (b"HELO", b"EHLO")},
    b"LHLO": Verb(b"LHLO", _parse_lhlo, VERBS[b"EHLO"].states, junk=True, before_tls=True),
}
# The same where Rules.encryption says so.
_STARTTLS = Verb(b"STARTTLS", _without_arguments(StartTls(), replies.STARTTLS_SYNTAX), before_tls=True)
_STARTTLS_AGAIN = Verb(b"STARTTLS", lambda _arguments, _rules: Invalid("STARTTLS", replies.TLS_ACTIVE, "tls-active"))


def _not_in_clear(verb: Verb) -> Verb:
    refused = Invalid(verb.name.decode("ascii"), replies.TLS_REQUIRED, "tls-required", verb.junk)
    return Verb(verb.name, lambda _arguments, _rules: refused)


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
    **{
        (verb, state): replies.IN_TRANSACTION
        for verb in (b"ETRN", b"XCLIENT", b"XFORWARD")
        for state in (State.SENDER, State.RECIPIENTS)
    },
    # RFC 3030 §2: once a message has begun in chunks, only chunks go on with it.
    **{
        (verb, state): replies.AFTER_CHUNK
        for verb in (b"AUTH", b"DATA", b"ETRN", b"MAIL", b"RCPT", b"XCLIENT", b"XFORWARD")
        for state in _CHUNKS
    },
}

# Real verbs that this server does not have: RFC 5321 §4.2.4 wants 502 for these, 500 for what nobody knows.
NOT_IMPLEMENTED = frozenset(
    {
        b"AUTH",
        b"BURL",
        b"EXPN",
        b"SAML",
        b"SEND",
        b"SOML",
        b"STARTTLS",
        b"TURN",
    }
)

# A web client or proxy scanner, not a mail client (smtpd_forbidden_commands): the session ends at once, before a
# request whose body happens to be SMTP gets anywhere.
FOREIGN = frozenset({b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PRI", b"PUT", b"TRACE"})

"""Events as lines of the mail log, in the format that Postfix writes and log tools (pflogsumm ...) read.

In:   an Event.
Out:  (program, text): the name after the slash of ``postfix/smtpd[123]:`` and what follows the colon.
Never: lets bytes of a peer make a line or a field. What a peer chose and stands in a field of its own
      (address, HELO name, Message-ID) has blanks and angle brackets escaped as ``\\x20``, ``\\x3c``, ``\\x3e``;
      free text (replies) cannot hold ``=<``, which is how the fields with brackets begin; what cannot be printed
      (control characters, line separators, direction marks, bytes that are no UTF-8) is escaped everywhere.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping

from ekiden.message.delivery import Action
from ekiden.message.envelope import Client
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe.events import (
    Accepting,
    Activated,
    Administered,
    Attempted,
    Authenticated,
    Connected,
    ConnectionLost,
    Disconnected,
    Event,
    Expired,
    LoginFailed,
    MessageId,
    Note,
    Notified,
    PickedUp,
    Rejected,
    Removed,
    TlsEstablished,
    TlsFailed,
)

Rendered = tuple[str, str]

_STATUS_WORDS = {
    Action.DELIVERED: "sent",
    Action.RELAYED: "sent",
    Action.EXPANDED: "sent",
    Action.DELAYED: "deferred",
    Action.FAILED: "bounced",
}
# The program of a transport where it is not the transport's name, as the master.cf that Postfix ships has it.
_PROGRAMS = {"relay": "relay/smtp", "retry": "error"}
_CHANGES = {
    "hold": "placed on hold",
    "release": "released from hold",
    "requeue": "requeued",
    "delete": "removed",
    "expire": "expired",
}
# The stages at which a sender is known, so that an empty one is the null sender.
_AFTER_MAIL = frozenset({"RCPT", "DATA", "BDAT", "END-OF-MESSAGE"})

_FIELD_BREAKERS = re.compile(r"[ <>]")
_WORD_BREAKERS = re.compile(r"[ ,<>]")


def _hex(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}"


def field(text: str) -> str:
    """``text`` of a peer as it may stand between the brackets of a field."""
    if " " in text or "<" in text or ">" in text:
        return _FIELD_BREAKERS.sub(_hex, text)
    return text


def _client(client: Client) -> str:
    """``name[address]``, as every line about a session has it."""
    text = _name_and_address(client.name, client.address)
    return f"{text}:{client.port}" if client.shows_port else text


@functools.lru_cache(maxsize=1024)
def _name_and_address(name: str, address: str) -> str:
    """The name comes from DNS, where whoever owns the address writes what he likes."""
    return f"{field(name)}[{field(address)}]"


def _word(text: str) -> str:
    """``text`` of a peer as it may stand between commas."""
    return _WORD_BREAKERS.sub(_hex, text) if "," in text or " " in text or "<" in text or ">" in text else text


def free(text: str) -> str:
    """``text`` of a peer as it may stand at the end of a line."""
    return text.replace("=<", "=\\x3c") if "=<" in text else text


def printable(line: str) -> str:
    """A line in which everything that cannot be printed is escaped (``\\x0a``, ``\\u2028``)."""
    return line if line.isprintable() else "".join(map(_visible, line))


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8 (surrogateescape)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def seconds(value: float) -> str:
    """A duration as Postfix logs it: two significant digits, no finer than 1/100 s, no zeros at the end."""
    if value < 0.005:
        return "0"
    if value >= 9.95:
        return f"{value:.0f}"
    if value >= 0.995:
        text = f"{value:.1f}"
        return text[:-2] if text.endswith(".0") else text
    text = f"{value:.2f}"
    return text[:-1] if text[-1] == "0" else text


class MailLogRenderer:
    """Turns events into (program, text). ``programs`` names the program of transports that have another name."""

    __slots__ = ("_programs", "by_type")

    def __init__(self, programs: Mapping[str, str] | None = None) -> None:
        self._programs = {**_PROGRAMS, **(programs or {})}
        # The renderer of each type of events.
        self.by_type: dict[type[Event], Callable[..., Rendered]] = defaultdict(lambda: anything, _RENDERERS)
        self.by_type[Attempted] = self._attempted

    def render(self, event: Event) -> Rendered:
        return self.by_type[type(event)](event)

    def _attempted(self, event: Attempted) -> Rendered:
        result = event.result
        transport = event.transport
        original = f"orig_to=<{field(event.original)}>, " if event.original else ""
        before, inside, connect, transmit = event.delays_s
        return self._programs.get(transport, transport), (
            f"{event.queue_id}: to=<{field(event.recipient)}>, {original}relay={_word(result.relay)}, "
            f"delay={seconds(event.delay_s)}, "
            f"delays={seconds(before)}/{seconds(inside)}/{seconds(connect)}/{seconds(transmit)}, "
            f"dsn={result.status}, status={_STATUS_WORDS[result.action]} ({free(result.text)})"
        )


def _connected(event: Connected) -> Rendered:
    return event.service, f"connect from {_client(event.client)}"


def _disconnected(event: Disconnected) -> Rendered:
    counts = _counts(tuple(event.commands.items()), event.received)
    return event.service, f"disconnect from {_client(event.client)}{counts}"


@functools.lru_cache(maxsize=1024)  # most sessions are like others
def _counts(commands: tuple[tuple[str, tuple[int, int]], ...], received: int) -> str:
    """How often each verb came, accepted and in all, and how many messages."""
    accepted = total = 0
    words = []
    for verb, (good, every) in commands:
        accepted += good
        total += every
        words.append(f" {verb.lower()}={good if good == every else f'{good}/{every}'}")
    # Postfix has no line with this word, and administrators grep for it; it stands among words of the same form.
    if received:
        words.append(f" received={received}")
    words.append(f" commands={accepted if accepted == total else f'{accepted}/{total}'}")
    return "".join(words)


def _connection_lost(event: ConnectionLost) -> Rendered:
    return event.service, f"{event.problem} after {field(event.after)} from {_client(event.client)}"


def _tls_established(event: TlsEstablished) -> Rendered:
    facts = event.client.tls
    assert facts is not None  # the event says that there was a handshake
    trust = "Trusted" if facts.trusted else "Untrusted" if facts.fingerprint else "Anonymous"
    name = f" to {field(facts.server_name)}" if facts.server_name else ""
    return event.service, f"{trust} TLS connection established from {_client(event.client)}{name}: {_cipher(facts)}"


def _tls_failed(event: TlsFailed) -> Rendered:
    return event.service, f"SSL_accept error from {_client(event.client)}: {free(event.reason)}"


def _cipher(facts: TlsFacts) -> str:
    return f"{facts.protocol} with cipher {facts.cipher} ({facts.bits}/{facts.bits} bits)"


def _accepting(event: Accepting) -> Rendered:
    client = event.client
    text = f"{event.queue_id}: client={_client(client)}{_login(client) if client.login else ''}"
    if event.submitter:
        text += f", sasl_sender={_word(event.submitter)}"
    if event.original_id:
        text += f", orig_queue_id={field(event.original_id)}"
    if event.original is not None:
        text += f", orig_client={_client(event.original)}"
    return event.service, text


def _login(client: Client) -> str:
    return f", sasl_method={client.login_method}, sasl_username={_word(client.login)}"


def _login_failed(event: LoginFailed) -> Rendered:
    """In Postfix's words, which fail2ban and the like look for."""
    what = "aborted" if event.is_aborted else f"failed: {free(event.reason)}"
    account = f", sasl_username={_word(event.account)}" if event.account else ""
    return event.service, f"warning: {_client(event.client)}: SASL {event.mechanism} authentication {what}{account}"


def _rejected(event: Rejected) -> Rendered:
    client = event.client
    reply, facts = event.reply, []
    if event.sender or event.stage in _AFTER_MAIL:
        facts.append(f"from=<{field(event.sender)}>")
    if event.recipient:
        facts.append(f"to=<{field(event.recipient)}>")
    if client.helo:
        facts.append(f"proto={client.protocol} helo=<{field(client.helo)}>")
    # The reply repeats what the peer said; it must not say more there than in its own field.
    for said in (event.recipient, event.sender, client.helo):
        if (shown := field(said)) != said:
            reply = reply.replace(said, shown)
    what = "reject_warning" if event.is_warning else "reject"
    text = f"{event.queue_id or 'NOQUEUE'}: {what}: {field(event.stage)} from {_client(client)}: {free(reply)}"
    return event.service, f"{text}; {' '.join(facts)}" if facts else text


def _picked_up(event: PickedUp) -> Rendered:
    return "pickup", f"{event.queue_id}: uid={event.uid} from=<{field(event.sender)}>"


def _authenticated(event: Authenticated) -> Rendered:
    decision = f"; {free(event.decision)}" if event.decision else ""
    return event.service, f"{event.queue_id}: authentication: {free(event.results)}{decision}"


def _message_id(event: MessageId) -> Rendered:
    identifier = event.message_id.strip()
    if identifier[:1] == "<" and identifier[-1:] == ">":
        identifier = identifier[1:-1]
    return "cleanup", f"{event.queue_id}: message-id=<{field(identifier)}>"


def _activated(event: Activated) -> Rendered:
    return "qmgr", (
        f"{event.queue_id}: from=<{field(event.sender)}>, size={event.size}, nrcpt={event.recipients} (queue active)"
    )


def _expired(event: Expired) -> Rendered:
    return "qmgr", f"{event.queue_id}: from=<{field(event.sender)}>, status=expired, returned to sender"


def _notified(event: Notified) -> Rendered:
    who = "postmaster" if event.to_postmaster else "sender"
    return "bounce", f"{event.queue_id}: {who} {event.kind} notification: {event.notification_id}"


def _removed(event: Removed) -> Rendered:
    return "qmgr", f"{event.queue_id}: removed"


def _administered(event: Administered) -> Rendered:
    return "postsuper", f"{event.queue_id}: {_CHANGES.get(event.change, event.change)}"


def _note(event: Note) -> Rendered:
    level = "" if event.level == "info" else f"{event.level}: "
    queue_id = f"{event.queue_id}: " if event.queue_id else ""
    return event.service, f"{level}{queue_id}{free(event.text)}"


def anything(event: Event) -> Rendered:
    """An event that Postfix has no line for: its tag and its fields."""
    facts: dict[str, object] = {name: getattr(event, name) for name in event.__struct_fields__}
    queue_id = facts.pop("queue_id", "")
    program = str(facts.pop("service", "ekiden"))
    words = ", ".join(f"{name}=<{field(str(value))}>" for name, value in facts.items())
    tag = event.__struct_config__.tag
    return program, f"{f'{queue_id}: ' if queue_id else ''}{tag}{': ' if words else ''}{words}"


_RENDERERS: dict[type[Event], Callable[..., Rendered]] = {
    TlsEstablished: _tls_established,
    TlsFailed: _tls_failed,
    Connected: _connected,
    Disconnected: _disconnected,
    ConnectionLost: _connection_lost,
    Accepting: _accepting,
    Rejected: _rejected,
    PickedUp: _picked_up,
    LoginFailed: _login_failed,
    Authenticated: _authenticated,
    MessageId: _message_id,
    Activated: _activated,
    Expired: _expired,
    Notified: _notified,
    Removed: _removed,
    Administered: _administered,
    Note: _note,
}

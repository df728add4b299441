"""The SMTP extensions that a server session offers in its answer to EHLO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.message.reply import Reply
from ekiden.protocol.smtp import server_replies
from ekiden.protocol.smtp.client_attributes import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES
from ekiden.receive.message_options import utc_text


class Occasion(Struct, frozen=True):
    """What decides, besides the settings, which extensions a client is offered now."""

    discarded: frozenset[str] = frozenset()  # keywords in upper case that it is not offered
    is_trusted: bool = False  # it may send anywhere: one of mynetworks, or logged in
    may_log_in: bool = False
    is_encrypted: bool = False
    may_xclient: bool = False
    may_xforward: bool = False
    minute: int = 0  # since the epoch
    mechanisms: tuple[str, ...] = ()  # of login (SASL) that it may use
    can_encrypt: bool = False  # there is a certificate for a handshake


class Extension(Protocol):
    def __call__(self, parameters: Parameters, occasion: Occasion) -> str | None:
        """The line of EHLO, its keyword and parameters; None: not offered."""


class Offered(Struct, frozen=True):
    """An answer to EHLO, and the keywords in it as the protocol core wants to know them."""

    reply: Reply
    keywords: frozenset[str]


def _always(line: str) -> Extension:
    return lambda parameters, occasion: line


def _size(parameters: Parameters, occasion: Occasion) -> str | None:
    return f"SIZE {parameters.message_size_limit}" if parameters.message_size_limit else "SIZE"


def _vrfy(parameters: Parameters, occasion: Occasion) -> str | None:
    return None if parameters.disable_vrfy_command else "VRFY"


def _xclient(parameters: Parameters, occasion: Occasion) -> str | None:
    return " ".join(("XCLIENT", *XCLIENT_ATTRIBUTES)) if occasion.may_xclient else None


def _xforward(parameters: Parameters, occasion: Occasion) -> str | None:
    return " ".join(("XFORWARD", *XFORWARD_ATTRIBUTES)) if occasion.may_xforward else None


def _binary_mime(parameters: Parameters, occasion: Occasion) -> str | None:
    return None if "CHUNKING" in occasion.discarded else "BINARYMIME"  # RFC 3030 §3: it needs the other


def _smtputf8(parameters: Parameters, occasion: Occasion) -> str | None:
    return "SMTPUTF8" if parameters.smtputf8_enable else None


def _deliver_by(parameters: Parameters, occasion: Occasion) -> str | None:
    minimum = parameters.smtpd_deliver_by_minimum
    return f"DELIVERBY {minimum:.0f}" if minimum else "DELIVERBY"


def _future_release(parameters: Parameters, occasion: Occasion) -> str | None:
    """RFC 4865 §3: how long from now, and until when. Who can still log in must hear of it before that."""
    limit = int(parameters.smtpd_future_release_limit)
    if not limit or not (occasion.is_trusted or occasion.may_log_in):
        return None
    return f"FUTURERELEASE {limit} {utc_text(occasion.minute * 60 + limit)}"


def _require_tls(parameters: Parameters, occasion: Occasion) -> str | None:
    return "REQUIRETLS" if occasion.is_encrypted else None  # RFC 8689 §4.2.1


def _limits(parameters: Parameters, occasion: Occasion) -> str | None:
    return f"LIMITS RCPTMAX={parameters.smtpd_recipient_limit}"  # RFC 9422 §4.2


def _auth(parameters: Parameters, occasion: Occasion) -> str | None:
    return f"AUTH {' '.join(occasion.mechanisms)}" if occasion.mechanisms else None


def _old_auth(parameters: Parameters, occasion: Occasion) -> str | None:
    """A form that never was in an RFC: broken_sasl_auth_clients."""
    if not parameters.broken_sasl_auth_clients or "AUTH" in occasion.discarded:
        return None
    return f"AUTH={' '.join(occasion.mechanisms)}" if occasion.mechanisms else None


def _starttls(parameters: Parameters, occasion: Occasion) -> str | None:
    """RFC 3207 §4.2: not offered again when it is done."""
    return "STARTTLS" if occasion.can_encrypt and not occasion.is_encrypted else None


# In the order of the answer.
EXTENSIONS: tuple[Extension, ...] = (
    _always("PIPELINING"),
    _size,
    _vrfy,
    _always("ETRN"),
    _auth,
    _old_auth,
    _starttls,
    _always("ENHANCEDSTATUSCODES"),
    _always("8BITMIME"),
    _always("CHUNKING"),
    _binary_mime,
    _always("DSN"),
    _smtputf8,
    _deliver_by,
    _future_release,
    _always("MT-PRIORITY"),
    _require_tls,
    _limits,
    _xclient,
    _xforward,
)


def offered_extensions(parameters: Parameters, occasion: Occasion) -> list[str]:
    lines = [line for extension in EXTENSIONS if (line := extension(parameters, occasion)) is not None]
    return [line for line in lines if keyword(line) not in occasion.discarded]


def keyword(line: str) -> str:
    return line.partition(" ")[0]


class Offers:
    """The answers to EHLO of one service; each is made once."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._made: dict[Occasion, Offered] = {}
        # The answer that was made before, if there was this occasion.
        self.known = self._made.get

    def on(self, occasion: Occasion) -> Offered:
        offered = self._made.get(occasion)
        if offered is None:
            if len(self._made) >= _REMEMBERED:
                self._made.clear()
            offered = self._made[occasion] = self._make(occasion)
        return offered

    def _make(self, occasion: Occasion) -> Offered:
        lines = offered_extensions(self._parameters, occasion)
        answer = server_replies.ehlo_reply(self._parameters.myhostname, lines)
        return Offered(answer, frozenset(map(keyword, lines)))


# smtpd_discard_ehlo_keyword_address_maps may name any set of keywords.
_REMEMBERED = 64

"""Reports on one message: complaints of readers (ARF, RFC 5965) and failures of authentication (RFC 6591, RFC 9991).

In:   the machine-readable part, and the header of the message that it is about.
Out:  a FeedbackReport, in bounded text.
Never: raises anything but ReportError, keeps the body of anybody's message.

What a stranger's report holds is a stranger's text: whoever shows it quotes it.
"""

from __future__ import annotations

import email.utils
import ipaddress
import itertools
import re
from collections.abc import Iterator

from msgspec import Struct

from ekiden.message.address_list import parse_addresses
from ekiden.message.header_fields import fields
from ekiden.tls.tlsrpt import ReportError

_TEXT_LIMIT = 300  # characters of a field
_FIELDS_LIMIT = 200
_VALUES_LIMIT = 20  # of a field that may come several times
_INCIDENTS_LIMIT = 10**9
_TOKENS_LIMIT = 200  # of the author's addresses
_DELIVERY_RESULTS = ("delivered", "spam", "policy", "reject", "other")
_WORD = re.compile(r"[A-Za-z0-9-]+")

# The words of the mail that Exim sends where others send a machine-readable part.
PLAIN_FAILURE = b"A message claiming to be from you has failed"
_PLAIN_FIELD = re.compile(
    rb"^[ \t]*(Sender Domain|Sender IP Address|Received date|SPF Alignment|DKIM Alignment):(.*)$", re.M
)
_PLAIN_ENDS = b"error was detected."


class FeedbackReport(Struct, frozen=True):
    """Fields have the names of RFC 5965 §3, RFC 6591 §3 and RFC 9991 §4; "" and () where the report has none."""

    feedback_type: str  # abuse, fraud, virus, not-spam, opt-out, other; auth-failure
    source_ip: str = ""
    arrival: int | None = None  # seconds since the epoch
    mail_from: str = ""
    rcpt_to: tuple[str, ...] = ()
    reported_domains: tuple[str, ...] = ()
    incidents: int = 1
    user_agent: str = ""
    reporting_mta: str = ""
    authentication_results: tuple[str, ...] = ()
    auth_failure: tuple[str, ...] = ()  # adsp, bodyhash, revoked, signature, spf, dmarc
    identity_alignment: str = ""  # "none", or the mechanisms that failed to align: "dkim, spf"
    delivery_result: str = ""  # delivered, spam, policy, reject, other
    dkim_domain: str = ""
    dkim_selector: str = ""
    dkim_identity: str = ""
    # Of the message that it is about:
    author_domain: str = ""
    subject: str = ""
    message_id: str = ""

    @property
    def is_failure(self) -> bool:
        return self.feedback_type == "auth-failure"

    @property
    def domain(self) -> str:
        """Whose mail it is about; "" where nothing tells."""
        return self.reported_domains[0] if self.reported_domains else self.author_domain


def read_feedback(part: bytes, original: bytes) -> FeedbackReport:
    """``part`` is message/feedback-report, ``original`` the message's header or b"". Raises ReportError."""
    values = _values(part)

    def one(name: str) -> str:
        return values.get(name, [""])[0]

    kind = _word(one("feedback-type"))
    if not kind:
        raise ReportError("the report has no Feedback-Type")
    header = _values(original)
    return FeedbackReport(
        feedback_type=kind,
        source_ip=_address(one("source-ip")),
        arrival=_time(one("arrival-date") or one("received-date")),
        mail_from=one("original-mail-from").strip("<> "),
        rcpt_to=tuple(each.strip("<> ") for each in values.get("original-rcpt-to", ())),
        reported_domains=tuple(each.lower().rstrip(".") for each in values.get("reported-domain", ()) if each),
        incidents=_incidents(one("incidents")),
        user_agent=one("user-agent"),
        reporting_mta=one("reporting-mta").partition(";")[2].strip() or one("reporting-mta"),
        authentication_results=tuple(values.get("authentication-results", ())),
        auth_failure=tuple(itertools.islice(_words(one("auth-failure")), _VALUES_LIMIT)),
        identity_alignment=one("identity-alignment").lower(),
        delivery_result=_delivery_result(one("delivery-result").lower()),
        dkim_domain=one("dkim-domain").lower(),
        dkim_selector=one("dkim-selector"),
        dkim_identity=one("dkim-identity"),
        author_domain=_author_domain(original),
        subject=header.get("subject", [""])[0],
        message_id=header.get("message-id", [""])[0],
    )


def read_plain_failure(text: bytes) -> FeedbackReport:
    """Exim's mail for people, with the header of the message behind a line that announces it. Raises ReportError."""
    head, _, original = text.partition(_PLAIN_ENDS)
    found = {name: _text(value) for name, value in _PLAIN_FIELD.findall(head)}
    address = _address(found.get(b"Sender IP Address", ""))
    if not address:
        raise ReportError("the report does not say where the message came from")
    header = _values(original.lstrip())
    domain = found.get(b"Sender Domain", "").lower().rstrip(".")
    return FeedbackReport(
        feedback_type="auth-failure",
        source_ip=address,
        arrival=_time(found.get(b"Received date", "")),
        reported_domains=(domain,) if domain else (),
        authentication_results=tuple(header.get("authentication-results", ())),
        auth_failure=("dmarc",),
        identity_alignment=", ".join(
            name.lower()
            for name, field in (("DKIM", b"DKIM Alignment"), ("SPF", b"SPF Alignment"))
            if found.get(field, "").lower() == "no"
        ),
        author_domain=_author_domain(original.lstrip()),
        subject=header.get("subject", [""])[0],
        message_id=header.get("message-id", [""])[0],
    )


def _values(header: bytes) -> dict[str, list[str]]:
    """The values of each field, in order."""
    found: dict[str, list[str]] = {}
    for name, value in _fields(header):
        values = found.setdefault(name, [])
        if len(values) < _VALUES_LIMIT:
            values.append(_text(value))
    return found


def _fields(header: bytes) -> Iterator[tuple[str, bytes]]:
    for number, field in enumerate(fields(header)):
        if number >= _FIELDS_LIMIT:
            return
        yield field.name.decode("ascii"), header[field.value : field.end]


def _text(value: bytes) -> str:
    return " ".join(value[: 4 * _TEXT_LIMIT].decode("utf-8", "replace").split())[:_TEXT_LIMIT]


def _author_domain(header: bytes) -> str:
    for name, value in _fields(header):
        if name == "from":
            for mailbox in parse_addresses(value, token_limit=_TOKENS_LIMIT).mailboxes:
                if mailbox.domain:
                    return _text(mailbox.domain.lower().encode("utf-8", "replace"))
    return ""


def _address(text: str) -> str:
    """An IP address, which some put into brackets or words behind; "" for what is none."""
    try:
        return str(ipaddress.ip_address(text.partition(" ")[0].strip("[]")))
    except ValueError:
        return ""


def _time(text: str) -> int | None:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _delivery_result(text: str) -> str:
    """Some write words of their own around that of RFC 6591 §3.2.2."""
    return next((word for word in _DELIVERY_RESULTS if word in text), _word(text))


def _incidents(text: str) -> int:
    return min(int(text), _INCIDENTS_LIMIT) if text.isascii() and text.isdigit() and len(text) < 20 else 1


def _words(text: str) -> Iterator[str]:
    return (found[0].lower() for found in _WORD.finditer(text))


def _word(text: str) -> str:
    return next(_words(text), "")

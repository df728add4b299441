"""The evaluator of restriction lists (postconf(5)): one small function a restriction, by its name.

In:   a list (restriction_parser.py), and the situation: who the client is, its HELO name, sender and recipient.
Out:  PERMIT (the rest of the list does not count), None (nothing was decided), or a Refusal.
Errors: TableTrouble, where a table cannot be asked: nobody knows, so that the client must come back.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct, structs

from ekiden.auth.verdict import Result, Verdicts
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal, reply
from ekiden.policy.pop_before_smtp import PopBeforeSmtp
from ekiden.policy.relay_access import Destinations, deferring, relay_denied, sender_refusal
from ekiden.policy.restriction_parser import Restriction, RestrictionList
from ekiden.policy.sender_login import SenderLogins
from ekiden.policy.unknown_domains import DomainState, MailDomains
from ekiden.tables.open import Maps


class Stage(enum.Enum):
    """What a list is about; the value is what Postfix calls it in a refusal."""

    CLIENT = "Client host rejected"
    HELO = "Helo command rejected"
    SENDER = "Sender address rejected"
    RECIPIENT = "Recipient address rejected"
    DATA = "Data command rejected"
    END_OF_DATA = "End-of-data rejected"
    ETRN = "Etrn command rejected"


class Situation(Struct, frozen=True):
    client: Client
    is_trusted: bool  # the client is one of mynetworks
    sender: Address | None = None  # None before MAIL
    recipient: Address | None = None  # None when the list is about no recipient or about several
    verdicts: Verdicts = Verdicts()  # of sender authentication, at the end of data


class _Permit(enum.Enum):
    PERMIT = "permit"


PERMIT = _Permit.PERMIT


class Deferred(Struct, frozen=True):
    """Nobody could say now: what everything else would permit is to come back for this."""

    refusal: Refusal


Outcome: TypeAlias = Literal[_Permit.PERMIT] | Refusal | None
Found: TypeAlias = Outcome | Deferred


class Facilities(Struct, frozen=True):
    """What restrictions ask."""

    parameters: Parameters
    destinations: Destinations
    sender_logins: SenderLogins
    client_certificates: Maps  # relay_clientcerts
    pop_before_smtp: PopBeforeSmtp | None = None
    domains: MailDomains | None = None  # None: nothing is looked up, and no domain is unknown


class Evaluation:
    """The lists of one moment (a RCPT, a DATA), one after the other: what one defers, another may decide."""

    def __init__(self, facilities: Facilities, situation: Situation) -> None:
        self.facilities = facilities
        self.situation = situation
        self.warnings: list[Refusal] = []  # what warn_if_reject kept from happening
        self.recipient_checked = False  # reject_unlisted_recipient was there
        self.decided_by = ""  # "smtpd_relay_restrictions: permit_mynetworks"
        self._defer_if_permit: Refusal | None = None
        self._defer_if_reject: Refusal | None = None
        self.stage: Stage | None = None  # of the list that is walked over

    async def run(self, restrictions: RestrictionList, stage: Stage) -> Outcome:
        """Raises TableTrouble."""
        if stage is not self.stage:  # two lists about recipients are one in this
            self._defer_if_reject = None
        self.stage = stage
        return await self._walk(restrictions.restrictions, restrictions.parameter, only_warns=False)

    def softened(self, refusal: Refusal) -> Refusal:
        """``refusal``, or what defer_if_reject has in its place."""
        if self._defer_if_reject is not None and refusal.reply.code >= 500:
            return self._defer_if_reject
        return refusal

    @property
    def deferral(self) -> Refusal | None:
        """What a client gets that all lists would let pass, when one wanted it to come back for that."""
        return self._defer_if_permit

    async def _walk(self, restrictions: Sequence[Restriction], parameter: str, *, only_warns: bool) -> Outcome:
        warns_next = False
        for restriction in restrictions:
            if restriction.name == "warn_if_reject":
                warns_next = True
                continue
            warns = only_warns or warns_next
            warns_next = False
            if restriction.members:
                inner = await self._walk(restriction.members, parameter, only_warns=warns)
                if inner is not None:
                    return inner
                continue
            outcome: Found = await _RESTRICTIONS[restriction.name](self)
            if outcome is None:
                continue
            by = f"{parameter}: {restriction.name}"
            waits = isinstance(outcome, Deferred)
            if isinstance(outcome, Deferred):
                outcome = outcome.refusal
            if isinstance(outcome, Refusal):
                outcome = structs.replace(outcome, detail=f"{by} ({outcome.detail})" if outcome.detail else by)
                if warns:
                    self.warnings.append(outcome)
                    continue
                if waits:
                    self._defer_if_permit = self._defer_if_permit or outcome
                    continue
                if restriction.name == "defer_if_reject":
                    self._defer_if_reject = self._defer_if_reject or outcome
                    continue
                outcome = self.softened(outcome)
            self.decided_by = by
            return outcome
        return None

    # What refusals are made of.

    def refuse(self, code: int, status: str, text: str, reason: str, *, stage: Stage | None = None) -> Refusal:
        """A refusal of what the list is about, or of ``stage``. The class of the status follows the code."""
        stage = stage or self.stage
        assert stage is not None  # a list is walked over
        answer = reply(code, f"{code // 100}{status[1:]}", f"{self._subject(stage)}: {stage.value}: {text}")
        return Refusal(answer, reason)

    def _subject(self, stage: Stage) -> str:
        client, situation = self.situation.client, self.situation
        match stage:
            case Stage.CLIENT:
                return f"<{client.name}[{client.address}]>"
            case Stage.HELO:
                return f"<{client.helo}>"
            case Stage.SENDER:
                return f"<{situation.sender or ''}>"
            case Stage.RECIPIENT:
                return f"<{situation.recipient or ''}>"
            case Stage.DATA:
                return "<DATA>"
            case Stage.END_OF_DATA:
                return "<END-OF-MESSAGE>"
            case Stage.ETRN:
                return "<ETRN command>"


# The restrictions, in the order of their names.


async def _defer(evaluation: Evaluation) -> Outcome:
    code = evaluation.facilities.parameters.defer_code
    return evaluation.refuse(code, "4.3.2", "Try again later", "deferred")


async def _defer_if_permit(evaluation: Evaluation) -> Found:
    return Deferred(evaluation.refuse(450, "4.7.0", "defer_if_permit requested", "defer-if-permit"))


async def _defer_if_reject(evaluation: Evaluation) -> Outcome:
    return evaluation.refuse(450, "4.7.0", "defer_if_reject requested", "defer-if-reject")


async def _defer_unauth_destination(evaluation: Evaluation) -> Outcome:
    code = evaluation.facilities.parameters.relay_domains_reject_code
    return await _unauth_destination(evaluation, deferring(code))


async def _permit(_evaluation: Evaluation) -> Outcome:
    return PERMIT


async def _permit_auth_destination(evaluation: Evaluation) -> Outcome:
    recipient = evaluation.situation.recipient
    if recipient is None:
        return None
    return PERMIT if await evaluation.facilities.destinations.is_relay_allowed_destination(recipient) else None


async def _permit_mynetworks(evaluation: Evaluation) -> Outcome:
    return PERMIT if evaluation.situation.is_trusted else None


async def _permit_pop_before_smtp(evaluation: Evaluation) -> Outcome:
    rule = evaluation.facilities.pop_before_smtp
    return PERMIT if rule is not None and rule.allows(evaluation.situation.client.address) else None


async def _permit_sasl_authenticated(evaluation: Evaluation) -> Outcome:
    return PERMIT if evaluation.situation.client.login else None


async def _permit_tls_all_clientcerts(evaluation: Evaluation) -> Outcome:
    tls = evaluation.situation.client.tls
    return PERMIT if tls is not None and tls.trusted and tls.fingerprint else None


async def _permit_tls_clientcerts(evaluation: Evaluation) -> Outcome:
    tls = evaluation.situation.client.tls
    for fingerprint in () if tls is None else (tls.fingerprint, tls.key_fingerprint):
        if fingerprint and await evaluation.facilities.client_certificates.lookup(fingerprint) is not None:
            return PERMIT
    return None


async def _reject(evaluation: Evaluation) -> Outcome:
    code = evaluation.facilities.parameters.reject_code
    return evaluation.refuse(code, "5.7.1", "Access denied", "access-denied")


async def _reject_authenticated_sender_login_mismatch(evaluation: Evaluation) -> Outcome:
    return await _login_mismatch(evaluation, authenticated=True, unauthenticated=False)


async def _reject_dmarc_fail(evaluation: Evaluation) -> Found:
    verdict = evaluation.situation.verdicts.dmarc
    if verdict is None or verdict.result not in _BAD:
        return None
    # RFC 7372 §3.3: X.7.26, multiple authentication checks failed.
    return _unauthentic(f"{verdict.from_domain}: DMARC", verdict.result, "7.26", "dmarc")


async def _reject_invalid_helo_hostname(evaluation: Evaluation) -> Outcome:
    name = evaluation.situation.client.helo
    if not name or (not name.startswith("[") and (_is_hostname(name) or _is_address(name))):
        return None
    return _bad_helo_literal(evaluation) if name.startswith("[") else _invalid_helo(evaluation, "Invalid name")


async def _reject_known_sender_login_mismatch(evaluation: Evaluation) -> Outcome:
    return await _login_mismatch(evaluation, authenticated=True, unauthenticated=True, only_known=True)


async def _reject_non_fqdn_helo_hostname(evaluation: Evaluation) -> Outcome:
    name = evaluation.situation.client.helo
    if name.startswith("["):
        return _bad_helo_literal(evaluation)
    if not name or _is_fqdn(name):
        return None
    code = evaluation.facilities.parameters.non_fqdn_reject_code
    return evaluation.refuse(code, "5.5.2", "need fully-qualified hostname", "non-fqdn-helo", stage=Stage.HELO)


async def _reject_non_fqdn_recipient(evaluation: Evaluation) -> Outcome:
    return _non_fqdn_address(evaluation, Stage.RECIPIENT, evaluation.situation.recipient)


async def _reject_non_fqdn_sender(evaluation: Evaluation) -> Outcome:
    return _non_fqdn_address(evaluation, Stage.SENDER, evaluation.situation.sender)


async def _reject_plaintext_session(evaluation: Evaluation) -> Outcome:
    if evaluation.situation.client.tls is not None:
        return None
    code = evaluation.facilities.parameters.plaintext_reject_code
    return Refusal(reply(code, f"{code // 100}.7.1", "Session encryption is required"), "plaintext-session")


async def _reject_sender_login_mismatch(evaluation: Evaluation) -> Outcome:
    return await _login_mismatch(evaluation, authenticated=True, unauthenticated=True)


async def _reject_spf_fail(evaluation: Evaluation) -> Found:
    verdict = evaluation.situation.verdicts.spf
    if verdict is None or verdict.result not in _BAD:
        return None
    # RFC 7372 §3.2: X.7.23, SPF validation failed; X.7.24, it could not be done.
    status = "7.23" if verdict.result is Result.FAIL else "7.24"
    return _unauthentic(f"{verdict.domain}: SPF", verdict.result, status, "spf")


def _unauthentic(what: str, result: Result, status: str, reason: str) -> Found:
    if result is Result.FAIL:
        return Refusal(reply(550, f"5.{status}", f"{what} fails"), reason)
    return Deferred(Refusal(reply(451, f"4.{status}", f"{what} cannot be checked now"), reason))


async def _reject_unauth_destination(evaluation: Evaluation) -> Outcome:
    return await _unauth_destination(evaluation, evaluation.facilities.parameters.relay_domains_reject_code)


async def _reject_unauthenticated_sender_login_mismatch(evaluation: Evaluation) -> Outcome:
    return await _login_mismatch(evaluation, authenticated=False, unauthenticated=True)


async def _reject_unknown_client_hostname(evaluation: Evaluation) -> Outcome:
    client = evaluation.situation.client
    if client.name != "unknown":
        return None
    code = 450 if client.name_failed else evaluation.facilities.parameters.unknown_client_reject_code
    text = f"Client host rejected: cannot find your hostname, [{client.address}]"
    return Refusal(reply(code, f"{code // 100}.7.25", text), "unknown-client")  # RFC 7372 §3.3


async def _reject_unknown_helo_hostname(evaluation: Evaluation) -> Found:
    name, facilities = evaluation.situation.client.helo, evaluation.facilities
    if facilities.domains is None or not name or name.startswith("["):
        return None
    # What is no name is none that DNS knows.
    match await facilities.domains.state_of(name) if _is_hostname(name) else DomainState.UNKNOWN:
        case DomainState.UNKNOWN:
            code = facilities.parameters.unknown_hostname_reject_code
            return evaluation.refuse(code, "4.7.1", "Host not found", "unknown-helo", stage=Stage.HELO)
        case DomainState.TROUBLE:
            return Deferred(evaluation.refuse(450, "4.7.1", "Host not found", "unknown-helo", stage=Stage.HELO))
    return None


async def _reject_unknown_recipient_domain(evaluation: Evaluation) -> Found:
    return await _unknown_domain(evaluation, Stage.RECIPIENT, evaluation.situation.recipient, "4.1.2", "5.1.10", 556)


async def _reject_unknown_sender_domain(evaluation: Evaluation) -> Found:
    return await _unknown_domain(evaluation, Stage.SENDER, evaluation.situation.sender, "4.1.8", "5.7.27", 550)


async def _reject_unlisted_recipient(evaluation: Evaluation) -> Outcome:
    recipient = evaluation.situation.recipient
    if recipient is None or evaluation.recipient_checked:
        return None
    evaluation.recipient_checked = True
    return await evaluation.facilities.destinations.check_recipient(recipient)


async def _reject_unlisted_sender(evaluation: Evaluation) -> Outcome:
    sender = evaluation.situation.sender
    return None if sender is None else await sender_refusal(evaluation.facilities.destinations, sender)


_BAD = (Result.FAIL, Result.TEMPERROR)

_RESTRICTIONS: Mapping[str, Callable[[Evaluation], Awaitable[Found]]] = {
    "defer": _defer,
    "defer_if_permit": _defer_if_permit,
    "defer_if_reject": _defer_if_reject,
    "defer_unauth_destination": _defer_unauth_destination,
    "permit": _permit,
    "permit_auth_destination": _permit_auth_destination,
    "permit_mynetworks": _permit_mynetworks,
    "permit_pop_before_smtp": _permit_pop_before_smtp,
    "permit_sasl_authenticated": _permit_sasl_authenticated,
    "permit_tls_all_clientcerts": _permit_tls_all_clientcerts,
    "permit_tls_clientcerts": _permit_tls_clientcerts,
    "reject": _reject,
    "reject_authenticated_sender_login_mismatch": _reject_authenticated_sender_login_mismatch,
    "reject_dmarc_fail": _reject_dmarc_fail,
    "reject_invalid_helo_hostname": _reject_invalid_helo_hostname,
    "reject_known_sender_login_mismatch": _reject_known_sender_login_mismatch,
    "reject_non_fqdn_helo_hostname": _reject_non_fqdn_helo_hostname,
    "reject_non_fqdn_recipient": _reject_non_fqdn_recipient,
    "reject_non_fqdn_sender": _reject_non_fqdn_sender,
    "reject_plaintext_session": _reject_plaintext_session,
    "reject_sender_login_mismatch": _reject_sender_login_mismatch,
    "reject_spf_fail": _reject_spf_fail,
    "reject_unauth_destination": _reject_unauth_destination,
    "reject_unauthenticated_sender_login_mismatch": _reject_unauthenticated_sender_login_mismatch,
    "reject_unknown_client_hostname": _reject_unknown_client_hostname,
    "reject_unknown_helo_hostname": _reject_unknown_helo_hostname,
    "reject_unknown_recipient_domain": _reject_unknown_recipient_domain,
    "reject_unknown_sender_domain": _reject_unknown_sender_domain,
    "reject_unlisted_recipient": _reject_unlisted_recipient,
    "reject_unlisted_sender": _reject_unlisted_sender,
}


# What several of them share.


async def _unauth_destination(evaluation: Evaluation, code: int) -> Outcome:
    recipient = evaluation.situation.recipient
    if recipient is None or await evaluation.facilities.destinations.is_relay_allowed_destination(recipient):
        return None
    return relay_denied(recipient, code)


async def _login_mismatch(
    evaluation: Evaluation, *, authenticated: bool, unauthenticated: bool, only_known: bool = False
) -> Outcome:
    sender, login = evaluation.situation.sender, evaluation.situation.client.login
    if sender is None or not evaluation.facilities.parameters.smtpd_sasl_auth_enable:
        return None  # where nobody can log in, nobody is expected to
    logins = evaluation.facilities.sender_logins
    if login:
        return await logins.check_authenticated(sender, login, only_known=only_known) if authenticated else None
    return await logins.check_unauthenticated(sender, login) if unauthenticated else None


async def _unknown_domain(
    evaluation: Evaluation, stage: Stage, address: Address | None, status: str, null_status: str, null_code: int
) -> Found:
    """``status`` of a domain that is not there, code and status of one that takes no mail (RFC 7505 §4.1, §4.2)."""
    facilities = evaluation.facilities
    if facilities.domains is None or address is None or not address.domain or address.domain.startswith("["):
        return None
    if await facilities.domains.is_final(address):
        return None  # what ends here need not be in DNS
    reason = f"unknown-{stage.name.lower()}-domain"
    match await facilities.domains.state_of(address.domain):
        case DomainState.NULL_MX:
            text = f"Domain {address.domain} does not accept mail (nullMX)"
            return evaluation.refuse(null_code, null_status, text, reason, stage=stage)
        case DomainState.UNKNOWN:
            code = facilities.parameters.unknown_address_reject_code
            return evaluation.refuse(code, status, "Domain not found", reason, stage=stage)
        case DomainState.TROUBLE:
            return Deferred(evaluation.refuse(450, status, "Domain not found", reason, stage=stage))
    return None


def _bad_helo_literal(evaluation: Evaluation) -> Outcome:
    return None if _is_literal(evaluation.situation.client.helo) else _invalid_helo(evaluation, "invalid ip address")


def _invalid_helo(evaluation: Evaluation, text: str) -> Refusal:
    code = evaluation.facilities.parameters.invalid_hostname_reject_code
    return evaluation.refuse(code, "5.5.2", text, "invalid-helo", stage=Stage.HELO)


def _non_fqdn_address(evaluation: Evaluation, stage: Stage, address: Address | None) -> Outcome:
    if address is None or address.is_null or (address.domain and _is_fqdn(address.domain)):
        return None
    if address.domain.startswith("[") or (stage is Stage.RECIPIENT and address.local.lower() == "postmaster"):
        return None  # RFC 5321 §4.5.1: <postmaster> is an address as it is
    code = evaluation.facilities.parameters.non_fqdn_reject_code
    reason = f"non-fqdn-{stage.name.lower()}"
    return evaluation.refuse(code, "5.5.2", "need fully-qualified address", reason, stage=stage)


# RFC 1123 §2.1, and the underscore that many hosts have in fact.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"(?=.{{1,255}}\Z){_LABEL}(?:\.{_LABEL})*")
_ALL_NUMERIC = re.compile(r"[0-9.]+")


def _is_hostname(name: str) -> bool:
    stripped = name.removesuffix(".")
    return _HOSTNAME.fullmatch(stripped) is not None and _ALL_NUMERIC.fullmatch(stripped) is None


def _is_fqdn(name: str) -> bool:
    stripped = name.removesuffix(".")
    if not stripped.isascii():  # RFC 6531: a domain in U-labels
        return "." in stripped
    return "." in stripped and _is_hostname(stripped)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_literal(name: str) -> bool:
    """RFC 5321 §4.1.3"""
    if not name.endswith("]"):
        return False
    inner = name[1:-1]
    is_ipv6 = inner[:5].upper() == "IPV6:"
    address = inner[5:] if is_ipv6 else inner
    return _is_address(address) and (":" in address) is is_ipv6

"""The restriction lists of one service: who may send what to whom (SMTPD_ACCESS_README).

Where the lists are those that nearly everybody has, policy/relay_access.py decides without walking any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.message.reply import Refusal
from ekiden.policy.relay_access import sender_refusal
from ekiden.policy.relay_guard import is_guarded
from ekiden.policy.restriction_names import OF_CONTENT
from ekiden.policy.restriction_parser import Restriction, RestrictionList, parse_restrictions
from ekiden.policy.restrictions import Evaluation, Facilities, Situation, Stage

LISTS = {
    "smtpd_client_restrictions": Stage.CLIENT,
    "smtpd_helo_restrictions": Stage.HELO,
    "smtpd_sender_restrictions": Stage.SENDER,
    "smtpd_relay_restrictions": Stage.RECIPIENT,
    "smtpd_recipient_restrictions": Stage.RECIPIENT,
    "smtpd_data_restrictions": Stage.DATA,
    "smtpd_end_of_data_restrictions": Stage.END_OF_DATA,
    "smtpd_etrn_restrictions": Stage.ETRN,
}
_BEFORE_SENDER = ("smtpd_client_restrictions", "smtpd_helo_restrictions")
_BEFORE_RECIPIENT = (*_BEFORE_SENDER, "smtpd_sender_restrictions")
_RELAY, _RECIPIENT = "smtpd_relay_restrictions", "smtpd_recipient_restrictions"


class Decision(Struct, frozen=True):
    """``refusal`` None: it may. ``by`` is the list and the restriction that decided; "" when all let it pass."""

    refusal: Refusal | None
    warnings: tuple[Refusal, ...] = ()  # what would have been refused without warn_if_reject
    by: str = ""


class AccessLists(Struct, frozen=True):
    """The lists of one service, by the names of their parameters."""

    by_name: dict[str, RestrictionList]

    @property
    def is_plain(self) -> bool:
        """Nothing but the relay restrictions, and they a row of permits for known clients before one guard."""
        relay = [restriction.name for restriction in self.by_name[_RELAY].restrictions]
        if any(found for name, found in self.by_name.items() if name != _RELAY):
            return False
        return (
            relay[:1] == ["permit_mynetworks"]
            and relay[1:-1] in ([], ["permit_sasl_authenticated"])
            and relay[-1] in ("defer_unauth_destination", "reject_unauth_destination")
        )

    def names_of(self, parameter: str) -> list[str]:
        return [restriction.name for restriction in self.by_name[parameter].restrictions]


def access_lists(parameters: Parameters) -> AccessLists:
    """Raises ConfigError for words that are none, and for lists that would let anybody relay."""
    classes = restriction_classes(parameters)
    lists = AccessLists({name: parse_restrictions(name, getattr(parameters, name), classes) for name in LISTS})
    for name, found in lists.by_name.items():
        if name != "smtpd_end_of_data_restrictions" and (early := names_in(found.restrictions) & OF_CONTENT):
            raise ConfigError(f"{name}: {min(early)} can only stand in smtpd_end_of_data_restrictions")
    if not is_guarded(lists.by_name[_RELAY].restrictions, lists.by_name[_RECIPIENT].restrictions):
        raise ConfigError(
            f"{_RELAY}: neither it nor {_RECIPIENT} keeps strangers from sending mail anywhere through this host: "
            "let one of them come to reject_unauth_destination, defer_unauth_destination, reject or defer"
        )
    return lists


def names_in(restrictions: Sequence[Restriction]) -> set[str]:
    """All names, those in classes too."""
    found = {each.name for each in restrictions}
    return found.union(*(names_in(each.members) for each in restrictions if each.members))


def restriction_classes(parameters: Parameters) -> dict[str, tuple[str, ...]]:
    """What each of smtpd_restriction_classes stands for. Raises ConfigError."""
    found = {}
    for name in parameters.smtpd_restriction_classes:
        text = parameters.raw(name)
        if text is None:
            raise ConfigError(f"smtpd_restriction_classes: {name} is named, but not defined")
        found[name] = tuple(split_words(parameters.expanded(text)))
    return found


def passed_over(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """What the lists have that is not there yet: parameter and restriction. Raises ConfigError."""
    for name, found in access_lists(parameters).by_name.items():
        for written in found.passed_over:
            yield name, written


class AccessRules:
    def __init__(self, lists: AccessLists, facilities: Facilities, *, reject_unlisted_recipient: bool) -> None:
        self._facilities = facilities
        self._reject_unlisted_recipient = reject_unlisted_recipient
        by_name, parameters = lists.by_name, facilities.parameters
        order = (_RELAY, _RECIPIENT) if parameters.smtpd_relay_before_recipient_restrictions else (_RECIPIENT, _RELAY)
        self._for_recipient = [by_name[name] for name in (*_BEFORE_RECIPIENT, *order)]
        self._for_data = [by_name["smtpd_data_restrictions"]]
        self._for_end_of_data = [by_name["smtpd_end_of_data_restrictions"]]
        self._for_etrn = [by_name[name] for name in (*_BEFORE_SENDER, "smtpd_etrn_restrictions")]
        self.has_data = bool(self._for_data[0])
        self.has_end_of_data = bool(self._for_end_of_data[0])

    async def recipient(self, situation: Situation) -> Decision:
        """At RCPT, where all that comes before is judged too (smtpd_delay_reject). Raises TableTrouble."""
        recipient = situation.recipient
        if recipient is not None and not recipient.domain and recipient.local.lower() == "postmaster":
            return Decision(None)  # RFC 5321 §4.5.1: that address is always open, to everybody
        evaluation = Evaluation(self._facilities, situation)
        refusal = await self._first_refusal(evaluation, self._for_recipient)
        if refusal is None and evaluation.deferral is None:
            refusal = await self._unlisted(evaluation)
            refusal = None if refusal is None else evaluation.softened(refusal)
        return self._decision(evaluation, refusal)

    async def data(self, situation: Situation) -> Decision:
        """At DATA. Raises TableTrouble."""
        evaluation = Evaluation(self._facilities, situation)
        return self._decision(evaluation, await self._first_refusal(evaluation, self._for_data))

    async def end_of_data(self, situation: Situation) -> Decision:
        """When the content is there. Raises TableTrouble."""
        evaluation = Evaluation(self._facilities, situation)
        return self._decision(evaluation, await self._first_refusal(evaluation, self._for_end_of_data))

    async def etrn(self, situation: Situation) -> Decision:
        """At ETRN. Raises TableTrouble."""
        evaluation = Evaluation(self._facilities, situation)
        return self._decision(evaluation, await self._first_refusal(evaluation, self._for_etrn))

    async def _first_refusal(self, evaluation: Evaluation, lists: Sequence[RestrictionList]) -> Refusal | None:
        for restrictions in lists:
            if restrictions:
                outcome = await evaluation.run(restrictions, LISTS[restrictions.parameter])
                if isinstance(outcome, Refusal):
                    return outcome
        return None

    async def _unlisted(self, evaluation: Evaluation) -> Refusal | None:
        """Whoever was permitted: mail for nobody, or from nobody, is not taken (smtpd_reject_unlisted_...)."""
        situation, destinations = evaluation.situation, self._facilities.destinations
        if self._facilities.parameters.smtpd_reject_unlisted_sender and situation.sender is not None:
            refusal = await sender_refusal(destinations, situation.sender)
            if refusal is not None:
                return refusal
        if self._reject_unlisted_recipient and not evaluation.recipient_checked and situation.recipient is not None:
            return await destinations.check_recipient(situation.recipient)
        return None

    def _decision(self, evaluation: Evaluation, refusal: Refusal | None) -> Decision:
        if refusal is None:
            refusal = evaluation.deferral
        return Decision(refusal, tuple(evaluation.warnings), evaluation.decided_by)

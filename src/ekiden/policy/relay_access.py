"""Who may send mail to whom through this host: the rule that keeps it from being an open relay.

Trusted clients (``mynetworks``, the sendmail command, who has logged in) may send anywhere; everybody else only to the
domains that this host is responsible for, and there only to recipients that exist. Other rules: access_rules.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from ekiden.message.address import Address
from ekiden.message.reply import Refusal, reply
from ekiden.message.status import Status

if TYPE_CHECKING:
    from ekiden.policy.access_rules import AccessRules


class Destinations(Protocol):
    """What routing knows about an address at SMTP time."""

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        """Whether this host takes mail for the domain from anybody. Raises TableTrouble."""

    async def check_recipient(self, address: Address) -> Refusal | None:
        """A refusal when the address is in one of our domains but does not exist there."""

    def lasts(self, address: Address) -> bool:
        """Whether the two say the same of the address as long as the parameters live: nothing that may change is asked.

        (It may be False of one that has not been asked about yet.)
        """


# Recipients that are remembered; when there are more, all are forgotten at once.
_REMEMBERED = 4096


class RelayAccess:
    """Decides RCPT TO. Without ``reject_unlisted`` only the delivery finds out who does not exist."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        reject_unlisted: bool = True,
        reject_unlisted_sender: bool = False,
        relay_reject_code: int = 554,
        trusts_logins: bool = True,
        rules: AccessRules | None = None,
    ) -> None:
        """``trusts_logins``: who has logged in may send anywhere (permit_sasl_authenticated).

        ``rules`` are to be asked instead, where there are lists that this cannot stand for.
        """
        self._destinations = destinations
        self._code = relay_reject_code
        self._reject_unlisted = reject_unlisted
        self.trusts_logins = trusts_logins
        self.rules = rules
        self.checks_senders = reject_unlisted_sender
        self._open: set[Address] = set()
        # Whether it is known of an address that anybody may send to it. If it is not, it has to be asked.
        self.is_open = self._open.__contains__

    async def check_sender(self, address: Address) -> Refusal | None:
        """A refusal when the sender is in one of our domains and does not exist there. Raises TableTrouble."""
        return await sender_refusal(self._destinations, address)

    async def check(self, address: Address, *, trusted: bool) -> Refusal | None:
        """None when the recipient is accepted. Raises TableTrouble: nobody knows, so the client tries again later."""
        if not trusted and not await self._destinations.is_relay_allowed_destination(address):
            return relay_denied(address, self._code)
        refusal = await self._destinations.check_recipient(address) if self._reject_unlisted else None
        if refusal is None and not trusted and self._destinations.lasts(address):
            if len(self._open) >= _REMEMBERED:
                self._open.clear()
            self._open.add(address)
        return refusal


async def sender_refusal(destinations: Destinations, address: Address) -> Refusal | None:
    """(reject_unlisted_sender.) Raises TableTrouble."""
    found = None if address.is_null else await destinations.check_recipient(address)
    if found is None:
        return None
    answer = found.reply
    lines = tuple([line.replace("Recipient address", "Sender address", 1) for line in answer.lines])
    # RFC 3463 §3.2: X.1.0, another address status; X.1.1 is for recipients.
    status = Status(answer.code // 100, 1, 0)
    return Refusal(structs.replace(answer, lines=lines, status=status), "unknown-sender", found.detail)


def deferring(code: int) -> int:
    """The code of defer_unauth_destination, from that of reject_unauth_destination."""
    return code - 100 if code >= 500 else code


def relay_denied(address: Address, code: int) -> Refusal:
    return Refusal(reply(code, f"{code // 100}.7.1", f"<{address}>: Relay access denied"), "relay-denied")

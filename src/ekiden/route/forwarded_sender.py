"""The envelope sender of mail that this host forwards: its own, or one of ours that leads back to it (SRS).

Forwarded is what came for an address of this host and goes, by an alias or a .forward file, to an address of others.
The queue keeps the sender as it came: notifications of this host go to whom they are for, and recipients inside see
who wrote. What goes out gets its sender when it gets its route.

In:   a recipient as the queue has it; the sender of its message.
Out:  the sender to name to the next host, and why.
Never: changes a null sender, a sender of this host's own domains, or mail that is only passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from ekiden.auth.srs import SrsError
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.envelope import Recipient
from ekiden.policy.srs_addresses import SrsAddresses
from ekiden.route.domain_class import DomainClass, a_labels, domain_key
from ekiden.tables.match import DomainList, subdomains_of
from ekiden.tables.table import Table, TableTrouble


class Leaving(Struct, frozen=True):
    """``reason``: empty where nothing is forwarded; ``setting``: the parameter that is it, if one is."""

    sender: Address
    reason: str = ""
    setting: str = ""


class ForwardedSenders:
    def __init__(
        self,
        parameters: Parameters,
        srs: SrsAddresses,
        class_of: Callable[[Address], Awaitable[DomainClass]],
        open_table: Callable[[str], Table],
        *,
        complete: Callable[[Address], Address],
    ) -> None:
        """``complete`` adds what an address lacks (myorigin, say): no forwarding is what came of that.

        Raises ConfigError.
        """
        self._srs = srs
        self._complete = complete
        self._class_of = class_of
        self._excluded = DomainList(
            a_labels(parameters.srs_exclude_domains),
            subdomains=subdomains_of("srs_exclude_domains", parameters.parent_domain_matches_subdomains),
            opener=open_table,
        )

    async def leaving(self, recipient: Recipient, sender: Address) -> Leaving:
        """Raises TableTrouble."""
        address = recipient.address
        original = None if recipient.original is None else self._complete(recipient.original)
        if original is None or original == address or not await self._is_outside(address):
            return Leaving(sender)
        if await self._is_outside(original) and not self._srs.is_ours(original):
            return Leaving(sender)
        if not self._srs:
            return Leaving(sender, "the sender stays: there is no domain for SRS", "srs_domain")
        if sender.is_null:
            return Leaving(sender, "the null sender stays")
        if not await self._is_outside(sender) or domain_key(sender.domain) == self._srs.domain:
            return Leaving(sender, f"the sender stays: {sender.domain or 'its domain'} is a domain of this host")
        for domain in (sender.domain, address.domain):
            if self._excluded and await self._excluded.matches(domain_key(domain)):
                return Leaving(sender, f"the sender stays: {domain} is excluded from SRS", "srs_exclude_domains")
        try:
            ours = self._srs.sender_for(sender)
        except SrsError as error:
            return Leaving(sender, f"the sender stays: {error}", "srs_local_part_limit")
        except TableTrouble as trouble:
            # Mail that SPF may refuse is better than mail that waits for an administrator.
            return Leaving(sender, f"the sender stays: {trouble}", "srs_secret_file")
        return Leaving(ours, "leaves with a sender of this host that leads back to it", "srs_domain")

    async def _is_outside(self, address: Address) -> bool:
        return await self._class_of(address) is DomainClass.DEFAULT

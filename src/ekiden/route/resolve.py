"""Where a recipient goes: the transport, the next hop, or why nowhere (trivial-rewrite(8), ADDRESS_CLASS_README).

In:   an address; the parameters, tables, the addresses of this host.
Out:  a Route; or a result: failed for an unknown alias, deferred when a table could not be asked.
Never: routes by what a local part says: ``user%other@here`` is a user of here, with an odd name.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryResult, Route, deferred, failed
from ekiden.message.reply import Refusal
from ekiden.message.status import Status
from ekiden.route.domain_class import DomainClass, DomainClasses, domain_key
from ekiden.route.recipients import KnownRecipients, LocalAliases
from ekiden.route.transport import Transport, applied, parse_transport
from ekiden.tables.address import find_transport
from ekiden.tables.open import Maps, open_table
from ekiden.tables.table import Table, TableTrouble

_USER_UNKNOWN = Status(5, 1, 1)
_TABLE_TROUBLE = Status(4, 3, 0)

# Source routes and their kin: user%other@here, other!user@here, "user@other"@here (RFC 5321 §C, RFC 1123 §5.2.16).
_ROUTING_CHARACTERS = frozenset("@%!")


def user_exists(name: str) -> bool:
    """Whether the system has a user of this name (getpwnam(3), which may block where users are in a directory)."""
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


class Router:
    """Resolves recipients for the scheduler, and answers what RCPT TO must know.

    The tables that parameters name are opened here and now; raises ConfigError for a wrong word.
    ``local_aliases`` stands for alias_maps when local recipients are checked.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        own_addresses: frozenset[str] = frozenset(),
        user_exists: Callable[[str], bool] = user_exists,
        local_aliases: LocalAliases | None = None,
        open_table: Callable[[str], Table] = open_table,
    ) -> None:
        self._classes = DomainClasses(parameters, own_addresses=own_addresses, open_table=open_table)
        self._recipients = KnownRecipients(parameters, open_table, user_exists=user_exists, local_aliases=local_aliases)
        self._transports = Maps([open_table(word) for word in parameters.transport_maps])
        self._parents_match = "transport_maps" in parameters.parent_domain_matches_subdomains
        self._delimiter = parameters.recipient_delimiter
        self._relayhost = parameters.relayhost
        self._defaults = {
            DomainClass.LOCAL: parse_transport(parameters.local_transport),
            DomainClass.VIRTUAL_MAILBOX: parse_transport(parameters.virtual_transport),
            DomainClass.RELAY: parse_transport(parameters.relay_transport),
            DomainClass.DEFAULT: parse_transport(parameters.default_transport),
        }
        self._routes_untrusted = parameters.allow_untrusted_routing
        self._looks_inside_quotes = parameters.resolve_dequoted_address
        self._my_name = parameters.myhostname
        self._origin = domain_key(parameters.myorigin)

    async def resolve(self, address: Address, sender: Address) -> Route | DeliveryResult:
        """The way of one recipient. ``sender`` is for routes that depend on it."""
        domain = domain_key(address.domain)
        try:
            klass = await self._classes.of(domain)
            default = self._default(klass, domain)
            if self._transports:
                asked = Address(address.local.lower(), domain or self._origin)
                found = await find_transport(
                    self._transports, asked, delimiter=self._delimiter, parent_matches=self._parents_match
                )
                if found is not None:
                    chosen = applied(parse_transport(found.value), default, domain or self._my_name)
                    if chosen.name:
                        return Route(chosen.name, chosen.next_hop, address)
        except TableTrouble as trouble:
            return deferred(_TABLE_TROUBLE, f"address resolver failure: {trouble}")
        if klass is DomainClass.VIRTUAL_ALIAS:
            return failed(_USER_UNKNOWN, "User unknown in virtual alias table")
        return Route(default.name, default.next_hop, address)

    async def check_recipient(self, address: Address) -> Refusal | None:
        """A refusal when the address is in an own domain and does not exist there. Raises TableTrouble."""
        domain = domain_key(address.domain)
        return await self._recipients.check(address, domain, await self._classes.of(domain))

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        """Whether anybody may send to this address through us: an own or relay domain, plainly addressed.

        (reject_unauth_destination.) Raises TableTrouble.
        """
        if not address.local:
            return False
        if not self._routes_untrusted and self._is_routed(address.local):
            return False
        return await self._classes.of(domain_key(address.domain)) is not DomainClass.DEFAULT

    def _is_routed(self, local: str) -> bool:
        """A next hop, or a rewriting rule somewhere, might read another destination out of this local part."""
        if not self._looks_inside_quotes and any(char in ' "(),:;<>@[\\]' for char in local):
            return False  # it was quoted, and what is quoted is a name and nothing else
        return not _ROUTING_CHARACTERS.isdisjoint(local)

    def _default(self, klass: DomainClass, domain: str) -> Transport:
        default = self._defaults.get(klass)
        if default is None:  # in an alias domain nothing is delivered: what aliases had to say they have said
            return Transport("", "")
        if default.next_hop:
            return default
        if self._relayhost and klass in (DomainClass.RELAY, DomainClass.DEFAULT):
            return Transport(default.name, self._relayhost)
        return Transport(default.name, domain or self._my_name)

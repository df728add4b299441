"""Where a recipient goes: the transport, the next hop, or why nowhere (trivial-rewrite(8), ADDRESS_CLASS_README).

In:   an address; the parameters, tables, the addresses of this host.
Out:  a Route; or a result: failed for an unknown alias, deferred when a table could not be asked.
Never: routes by what a local part says: ``user%other@here`` is a user of here, with an odd name.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable
from functools import partial

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryResult, Route, deferred, failed
from ekiden.message.reply import Refusal, Reply
from ekiden.message.status import Status
from ekiden.policy.srs_addresses import SrsAddresses
from ekiden.route.by_address import Relocated, SenderMaps
from ekiden.route.domain_class import DomainClass, DomainClasses, domain_key
from ekiden.route.recipients import KnownRecipients, LocalAliases
from ekiden.route.transport import UNDELIVERABLE, Transport, applied, parse_transport
from ekiden.tables.address import find_transport
from ekiden.tables.open import Maps
from ekiden.tables.open import open_table as open_any_table
from ekiden.tables.table import Table, TableTrouble

_USER_UNKNOWN = Status(5, 1, 1)
_MOVED = Status(5, 1, 6)
_TABLE_TROUBLE = Status(4, 3, 0)

# Source routes and their kin: user%other@here, other!user@here, "user@other"@here (RFC 5321 §C, RFC 1123 §5.2.16).
_ROUTING_CHARACTERS = frozenset("@%!")

# The classes whose mail goes to other hosts: relayhost is for them.
_OFF_HOST = (DomainClass.RELAY, DomainClass.DEFAULT)


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
    ``local_aliases`` stands for alias_maps when local recipients are checked; ``srs`` knows the senders of forwarded
    mail, which are addresses of ours too.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        own_addresses: frozenset[str] = frozenset(),
        user_exists: Callable[[str], bool] = user_exists,
        local_aliases: LocalAliases | None = None,
        open_table: Callable[[str], Table] | None = None,
        srs: SrsAddresses | None = None,
    ) -> None:
        self._srs = srs or None
        if open_table is None:
            open_table = partial(open_any_table, parameters=parameters)
        self._classes = DomainClasses(parameters, own_addresses=own_addresses, open_table=open_table)
        self._recipients = KnownRecipients(parameters, open_table, user_exists=user_exists, local_aliases=local_aliases)
        opened = {
            name: Maps([open_table(word) for word in getattr(parameters, name)])
            for name in (
                "transport_maps",
                "relocated_maps",
                "sender_dependent_relayhost_maps",
                "sender_dependent_default_transport_maps",
            )
        }
        self._transports = opened["transport_maps"] or None
        self._parents_match = "transport_maps" in parameters.parent_domain_matches_subdomains
        self._delimiter = parameters.recipient_delimiter
        self._relayhost = parameters.relayhost
        self._configured = {
            DomainClass.LOCAL: parse_transport(parameters.local_transport),
            DomainClass.VIRTUAL_MAILBOX: parse_transport(parameters.virtual_transport),
            DomainClass.RELAY: parse_transport(parameters.relay_transport),
            DomainClass.DEFAULT: parse_transport(parameters.default_transport),
        }
        # With relayhost where it is the next hop; of what names none, the recipient's domain is.
        self._defaults = {
            klass: Transport(each.name, self._relayhost) if klass in _OFF_HOST and not each.next_hop else each
            for klass, each in self._configured.items()
        }
        self._routes_untrusted = parameters.allow_untrusted_routing
        self._looks_inside_quotes = parameters.resolve_dequoted_address
        self._my_name = parameters.myhostname
        self._origin = domain_key(parameters.myorigin)
        self._no_alias = "User unknown" + (" in virtual alias table" if parameters.show_user_unknown_table_name else "")
        self._relocated = (
            Relocated(
                opened["relocated_maps"],
                delimiter=self._delimiter,
                is_local=self.is_local,
                prefix=parameters.relocated_prefix_enable,
            )
            or None
        )
        self._relayhosts = SenderMaps(
            opened["sender_dependent_relayhost_maps"],
            null_key=parameters.empty_address_relayhost_maps_lookup_key,
            delimiter=self._delimiter,
            is_local=self.is_local,
        )
        self._default_transports = SenderMaps(
            opened["sender_dependent_default_transport_maps"],
            null_key=parameters.empty_address_default_transport_maps_lookup_key,
            delimiter=self._delimiter,
            is_local=self.is_local,
        )
        self._depends_on_sender = bool(self._relayhosts or self._default_transports)
        self._may_be_undeliverable = bool(self._transports or self._relocated) or any(
            each.name in UNDELIVERABLE for each in self._defaults.values()
        )

    async def class_of(self, address: Address) -> DomainClass:
        """What this host is to the domain of an address. Raises TableTrouble."""
        return await self._classes.of(domain_key(address.domain))

    async def is_final_destination(self, address: Address) -> bool:
        """Whether mail for the address ends here, and does not go on to another host. Raises TableTrouble."""
        return await self.class_of(address) not in (DomainClass.DEFAULT, DomainClass.RELAY)

    async def resolve(self, address: Address, sender: Address | None) -> Route | DeliveryResult:
        """The way of one recipient. ``sender`` is for routes that depend on it; None: as if none did."""
        domain = domain_key(address.domain)
        try:
            klass = self._classes.known.get(domain) or await self._classes.of(domain)
            if klass is DomainClass.VIRTUAL_ALIAS:  # transport_maps do not change what aliases had to say
                return failed(_USER_UNKNOWN, self._no_alias)
            default = self._defaults[klass]
            if not default.next_hop:
                default = Transport(default.name, domain or self._my_name)
            if self._depends_on_sender and sender is not None and klass in _OFF_HOST:
                default = await self._default_of_sender(klass, domain, sender)
            if self._transports is not None:
                asked = Address(address.local.lower(), domain or self._origin)
                found = await find_transport(
                    self._transports, asked, delimiter=self._delimiter, parent_matches=self._parents_match
                )
                if found is not None:
                    default = applied(parse_transport(found.value), default, domain or self._my_name)
            if self._relocated is not None and (text := await self._relocated.find(address)) is not None:
                return failed(_MOVED, text)
        except TableTrouble as trouble:
            return deferred(_TABLE_TROUBLE, f"address resolver failure: {trouble}")
        return Route(default.name, default.next_hop, address)

    async def check_recipient(self, address: Address) -> Refusal | None:
        """A refusal when the address is in an own domain and does not exist there, or can go nowhere.

        Raises TableTrouble.
        """
        domain = domain_key(address.domain)
        klass = self._classes.known.get(domain) or await self._classes.of(domain)
        if self._srs is not None and self._srs.is_ours(address):
            # One that virtual aliases or canonical maps know has been made by another program.
            found = self._srs.check(address)
            return None if found is None or await self._recipients.is_mapped(address, domain, klass) else found
        if klass in self._recipients.unlisted and not self._may_be_undeliverable:
            return None
        # smtpd_reject_unlisted_recipient: what is mapped is another address's matter; of what is left, the
        # error and retry transports tell at once what the sender would hear later.
        if await self._recipients.is_mapped(address, domain, klass):
            return None
        if self._may_be_undeliverable and klass is not DomainClass.VIRTUAL_ALIAS:
            refusal = await self._undeliverable(address)
            if refusal is not None:
                return refusal
        return await self._recipients.check(address, domain, klass)

    async def _undeliverable(self, address: Address) -> Refusal | None:
        found = await self.resolve(address, None)
        if isinstance(found, DeliveryResult):
            if found.status == _TABLE_TROUBLE:
                raise TableTrouble(found.text)
            return _refused(address, 550, found.status, found.text)
        if found.transport not in UNDELIVERABLE:
            return None
        code, klass = (550, 5) if found.transport == "error" else (450, 4)
        status = Status.parse(found.next_hop)
        text = found.next_hop
        if status is None or status.is_success:
            status = Status(klass, 1, 1)
        else:
            text = text[len(str(status)) :].lstrip()
            status = status.with_class(klass)
        return _refused(address, code, status, text)

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        """Whether anybody may send to this address through us: an own or relay domain, plainly addressed.

        (reject_unauth_destination.) Raises TableTrouble.
        """
        if not address.local:
            return False
        if self._srs is not None and self._srs.reversed(address) is not None:
            return True  # we have passed on mail of who is behind it
        if not self._routes_untrusted and self._is_routed(address.local):
            return False
        domain = domain_key(address.domain)
        return (self._classes.known.get(domain) or await self._classes.of(domain)) is not DomainClass.DEFAULT

    def lasts(self, address: Address) -> bool:
        """(See Destinations.) No table has a say, nor the secrets and the clock of SRS."""
        if self._may_be_undeliverable or (self._srs is not None and self._srs.looks_like(address.local)):
            return False
        klass = self._classes.known.get(domain_key(address.domain))  # None where a table decides
        return klass in self._recipients.unlisted

    def _is_routed(self, local: str) -> bool:
        """A next hop, or a rewriting rule somewhere, might read another destination out of this local part."""
        if not self._looks_inside_quotes and any(char in ' "(),:;<>@[\\]' for char in local):
            return False  # it was quoted, and what is quoted is a name and nothing else
        return not _ROUTING_CHARACTERS.isdisjoint(local)

    async def _default_of_sender(self, klass: DomainClass, domain: str, sender: Address) -> Transport:
        """The default, where senders have their own transports (of the default class only) and relay hosts."""
        default = self._configured[klass]
        if klass is DomainClass.DEFAULT and self._default_transports:
            own = await self._default_transports.find(sender)
            if own is not None:
                default = parse_transport(own)
        if default.next_hop:
            return default
        relayhost = await self._relayhosts.find(sender) if self._relayhosts else None
        return Transport(default.name, relayhost or self._relayhost or domain or self._my_name)

    async def is_local(self, domain: str) -> bool:
        """Whether names of this domain are looked up without it (virtual(5): $myorigin and $mydestination)."""
        return domain == self._origin or await self._classes.of(domain_key(domain)) is DomainClass.LOCAL


def _refused(address: Address, code: int, status: Status, text: str) -> Refusal:
    reply = Reply(code, status, (f"<{address}>: Recipient address rejected: {text}",))
    return Refusal(reply, "undeliverable-recipient", text)

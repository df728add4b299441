"""All that decides where mail goes, under one configuration: cleanup, access, routes, hosts. It moves nothing.

The stations of a worker (runtime.stations) decide by it, and ``ekiden why`` asks it and tells what it said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

from ekiden.cleanup.address_maps import AddressMaps
from ekiden.cleanup.address_rewriting import local_rewriting
from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.rewrite_clients import RewriteClients
from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.snapshot import Parameters
from ekiden.deliver.aliases import open_aliases
from ekiden.deliver.generic import GenericMaps
from ekiden.deliver.smtp import HostsFor
from ekiden.deliver.smtp_settings import port_number
from ekiden.dns.cache import CachingResolver
from ekiden.dns.cares import CaresResolver
from ekiden.dns.hosts import HostsResolver
from ekiden.dns.resolver import Resolver
from ekiden.dns.stub import StubResolver
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.policy.dkim_signing import DkimSigner
from ekiden.policy.open_access import open_access
from ekiden.policy.pop_before_smtp import MailboxLogins
from ekiden.policy.relay_access import RelayAccess
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.policy.signing import MessageSigner
from ekiden.policy.srs_addresses import SrsAddresses
from ekiden.policy.unknown_domains import MailDomains
from ekiden.reports.collect import Evaluated
from ekiden.route.forwarded_sender import ForwardedSenders
from ekiden.route.mx import MxRouter, uses_dns
from ekiden.route.own_addresses import own_addresses
from ekiden.route.resolve import Router
from ekiden.tables.match import client_list
from ekiden.tables.open import Maps, open_table
from ekiden.tables.table import Table
from ekiden.tls.key_files import KeyFiles


class Decisions:
    """``open_table`` is that of tables.open, or one like it that hears what the tables are asked."""

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        *,
        open_table: Callable[..., Table] = open_table,
        key_files: Callable[[], KeyFiles] = KeyFiles,
    ) -> None:
        """``key_files``: what the files of keys hold now.

        Raises ConfigError when a table or service that the configuration names cannot be had."""
        parameters = configuration.parameters
        self.configuration = configuration
        self._key_files = key_files
        self._clock = clock
        self._stub: StubResolver | None = None
        self.warn: Callable[[str], None] = lambda _: None  # whoever has a log says so here
        self._open = open_table
        self._cares = CaresResolver(parameters)
        self.dns_cache = CachingResolver(self._cares, clock, parameters)
        self.resolver: Resolver = HostsResolver(self.dns_cache, clock, parameters)
        self._own_addresses = own_addresses(parameters.inet_interfaces, parameters.proxy_interfaces)
        self._interfaces = own_addresses(parameters.inet_interfaces)
        self.local_aliases = open_aliases(parameters.alias_maps, parameters=parameters, open_table=open_table)
        self.srs = SrsAddresses(parameters, key_files, clock.time)
        self.router = Router(
            parameters,
            own_addresses=self._own_addresses,
            local_aliases=self.local_aliases,
            open_table=self._open_table(parameters),
            srs=self.srs,
        )
        self._cleanups: dict[str, Cleanup] = {}
        # For what this server forwards and composes itself.
        self.cleanup = self.cleanup_of(parameters)
        self.forwarded_senders = ForwardedSenders(
            parameters,
            self.srs,
            self.router.class_of,
            self._open_table(parameters),
            complete=self.cleanup.standard,
        )

    def cleanup_of(self, parameters: Parameters) -> Cleanup:
        """The cleanup that a service with these parameters uses; its own ``-o`` options hold for it.

        (cleanup_service_name.) Raises ConfigError.
        """
        name = parameters.cleanup_service_name
        found = self._cleanups.get(name)
        if found is None:
            service = next((each for each in self.configuration.services if each.name == name), None)
            if service is None or service.command != "cleanup":
                raise ConfigError(f"cleanup_service_name = {name}: master.cf has no such service that runs cleanup")
            own = self.configuration.parameters_of(service)
            found = self._cleanups[name] = Cleanup(
                own, is_local=self.router.is_local, open_table=self._open_table(own), srs=self.srs
            )
        return found

    def relay_access(self, parameters: Parameters, mailbox_logins: MailboxLogins | None = None) -> RelayAccess:
        """What RCPT TO is asked, by a listener with these parameters. Raises ConfigError."""
        unchecked = "no_unknown_recipient_checks" in parameters.receive_override_options
        return open_access(
            parameters,
            self.router,
            is_local=self.router.is_local,
            open_table=self._open_table(parameters),
            reject_unlisted=parameters.smtpd_reject_unlisted_recipient and not unchecked,
            mailbox_logins=mailbox_logins,
            domains=MailDomains(self.resolver, self.router.is_final_destination),
        )

    def sender_authentication(
        self,
        parameters: Parameters,
        report: Callable[[Evaluated, bytes], None] | None,
    ) -> SenderAuthentication | None:
        """What mail of strangers is asked by a listener with these parameters. Raises ConfigError."""
        if not SenderAuthentication.is_wanted(parameters):
            return None
        return SenderAuthentication(
            parameters,
            resolver=self.dns_cache,
            clock=self._clock,
            open_table=self._open_table(parameters),
            report=report,
            key_files=self._key_files,
            goes_on=self.goes_on,
        )

    async def goes_on(self, address: Address) -> bool:
        """Whether its mail is for another host. Raises TableTrouble."""
        return not await self.router.is_final_destination(address)

    def message_signer(self, parameters: Parameters) -> MessageSigner | None:
        """What signs mail that a listener with these parameters takes; None: nothing does. Raises ConfigError."""
        if not parameters.dkim_signing_table or "no_milters" in parameters.receive_override_options:
            return None
        open_table = self._open_table(parameters)
        clients = self._own_clients(parameters, "dkim_signing_clients")
        maps = Maps([open_table(word) for word in parameters.dkim_signing_table])
        return MessageSigner(DkimSigner(parameters, maps, key_files=self._key_files), clients.include, self._clock)

    def rewrite_clients(self, parameters: Parameters) -> RewriteClients:
        """Raises ConfigError."""
        return self._own_clients(parameters, "local_header_rewrite_clients")

    def _own_clients(self, parameters: Parameters, name: str) -> RewriteClients:
        """The clients that a parameter of this form names. Raises ConfigError."""
        return RewriteClients(
            getattr(parameters, name),
            own_addresses=self._interfaces,
            networks=client_list(parameters, "mynetworks"),
            open_table=self._open_table(parameters),
            certificates=parameters.relay_clientcerts,
            parameter=name,
        )

    def generic(self, parameters: Parameters, words: Sequence[str]) -> GenericMaps | None:
        """smtp_generic_maps and its LMTP twin; None without any. Raises ConfigError."""
        if not words:
            return None
        open_table = self._open_table(parameters)
        maps = AddressMaps(
            Maps([open_table(word) for word in words]),
            delimiter=parameters.recipient_delimiter,
            is_local=self.router.is_local,
            rewriting=local_rewriting(parameters),
            propagate="generic" in parameters.propagate_unmatched_extensions,
        )
        limits = parameters.header_block_limit, parameters.header_address_token_limit
        return GenericMaps(maps, header_limit=limits[0], token_limit=limits[1])

    def hosts_for(self, parameters: Parameters, prefix: str) -> HostsFor:
        """How a transport finds the hosts of a next hop: its ``-o`` options may differ from main.cf.

        ``prefix``: smtp or lmtp, whose parameters count.
        """
        lookup = getattr(parameters, f"{prefix}_host_lookup") if uses_dns(parameters, prefix) else ("native",)
        resolver = self.resolver
        secure = getattr(parameters, f"{prefix}_dns_support_level") == "dnssec"
        if secure or tuple(lookup) != tuple(self.configuration.parameters.smtp_host_lookup):
            behind = self.secure_resolver if secure else self.dns_cache
            resolver = HostsResolver(behind, self._clock, parameters, lookup=lookup)
        router = MxRouter(resolver, parameters, own_addresses=self._own_addresses, prefix=prefix)
        return partial(router.hosts_for, default_port=port_number(getattr(parameters, f"{prefix}_tcp_port")))

    @cached_property
    def secure_resolver(self) -> Resolver:
        """The one that knows what DNSSEC proved, and remembers it."""
        parameters = self.configuration.parameters
        self._stub = StubResolver(parameters, warn=self.warn)
        return CachingResolver(self._stub, self._clock, parameters)

    async def close(self) -> None:
        await self._cares.close()
        if self._stub is not None:
            await self._stub.close()

    def _open_table(self, parameters: Parameters) -> Callable[[str], Table]:
        return partial(self._open, parameters=parameters)

"""The stations of one worker that depend on the configuration, wired together: made at start and anew at each reload.

receive (services) -> policy -> cleanup -> [queue, scheduler: they stay] -> route -> deliver (agents)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from ekiden.cleanup.address_maps import AddressMaps
from ekiden.cleanup.address_rewriting import local_rewriting
from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.rewrite_clients import RewriteClients
from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.snapshot import Parameters
from ekiden.deliver.agent import Agent
from ekiden.deliver.aliases import open_aliases
from ekiden.deliver.discard import DiscardAgent
from ekiden.deliver.error import ErrorAgent
from ekiden.deliver.forward import QueueForward
from ekiden.deliver.generic import GenericMaps
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.local import LocalAgent
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.pipe import PipeAgent
from ekiden.deliver.pipe_service import parse_pipe_service
from ekiden.deliver.smtp import HostsFor, PassOn, SmtpAgent
from ekiden.deliver.smtp_settings import port_number
from ekiden.deliver.status_filter import FilteredAgent
from ekiden.deliver.virtual import VirtualAgent
from ekiden.dns.cache import CachingResolver
from ekiden.dns.cares import CaresResolver
from ekiden.dns.hosts import HostsResolver
from ekiden.dns.resolver import Resolver
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, Route, deferred
from ekiden.message.queued import QueuedMessage
from ekiden.message.status import Status
from ekiden.observe.events import Note, Observer
from ekiden.policy.client_limits import ClientCounts, ClientRates
from ekiden.policy.relay_access import RelayAccess
from ekiden.queue.store import ContentWriter
from ekiden.receive.client_name import ClientNames, read_hosts
from ekiden.receive.service import SmtpService
from ekiden.route.mx import MxRouter, uses_dns
from ekiden.route.own_addresses import own_addresses
from ekiden.route.resolve import Router
from ekiden.route.transport import Transport, parse_transport
from ekiden.tables.match import client_list
from ekiden.tables.open import open_table, open_tables

_ANY_FILTER = "default_delivery_status_filter"
_NO_TRANSPORT = Status(4, 3, 5)  # RFC 3463 §3.4: system incorrectly configured


class Doors:
    """What stays when the configuration changes: the ways into the queue, and the host's own facilities."""

    def __init__(
        self,
        *,
        intake: Callable[[QueuedMessage], Awaitable[None]],
        content_writer: Callable[[str], ContentWriter],
        has_space: Callable[[int], Awaitable[bool]],
        new_queue_id: Callable[[], str],
        mailboxes: MailboxChannel,
        counts: ClientCounts,
        observer: Observer,
        clock: Clock,
        load: Callable[[], float] = lambda: 0.0,
        rates: ClientRates | None = None,
    ) -> None:
        self.intake = intake
        self.content_writer = content_writer
        self.has_space = has_space
        self.new_queue_id = new_queue_id
        self.mailboxes = mailboxes
        self.counts = counts
        self.observer = observer
        self.clock = clock
        self.load = load
        self.rates = rates


class Stations:
    def __init__(self, configuration: Configuration, doors: Doors) -> None:
        """Raises ConfigError when a table or transport that the configuration names cannot be had."""
        parameters = configuration.parameters
        self.configuration = configuration
        self._doors = doors
        self._cares = CaresResolver(parameters)
        self._caching = CachingResolver(self._cares, doors.clock, parameters)
        self._resolver: Resolver = HostsResolver(self._caching, doors.clock, parameters)
        own = self._own_addresses = own_addresses(parameters.inet_interfaces, parameters.proxy_interfaces)
        self._local_aliases = open_aliases(parameters.alias_maps, parameters=parameters)
        self.router = Router(parameters, own_addresses=own, local_aliases=self._local_aliases)
        self._interfaces = own_addresses(parameters.inet_interfaces)
        self._cleanups: dict[str, Cleanup] = {}
        # For what this server forwards and composes itself.
        self.cleanup = self._cleanup_of(parameters.cleanup_service_name)
        self._local_transports = {service.name for service in configuration.services if service.command == "local"}
        self._agents = {
            service.name: self._filtered(service) for service in configuration.services if service.type == "unix"
        }

    async def resolve(self, address: Address, sender: Address) -> Route | DeliveryResult:
        return await self.router.resolve(address, sender)

    async def deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        agent = self._agents.get(request.transport)
        if agent is None:
            text = f"mail transport unavailable: master.cf has no service {request.transport}"
            return [deferred(_NO_TRANSPORT, text)] * len(request.recipients)
        return await agent.deliver(request)

    async def _deliver_for_local(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        """mailbox_transport and its kin; one that led back to local would go round for ever."""
        if request.transport in self._local_transports:
            text = f"mail system configuration error: mailbox_transport or fallback_transport = {request.transport}"
            return [deferred(_NO_TRANSPORT, text)] * len(request.recipients)
        return await self.deliver(request)

    def smtp_service(self, service: Service) -> SmtpService:
        """The receiving side of a line of master.cf whose command is smtpd."""
        doors, parameters = self._doors, self.configuration.parameters_of(service)
        resolver = self._resolver if parameters.smtpd_peername_lookup else None
        return SmtpService(
            parameters,
            intake=doors.intake,
            content_writer=doors.content_writer,
            has_space=doors.has_space,
            new_queue_id=doors.new_queue_id,
            relay_access=RelayAccess(
                self.router,
                reject_unlisted=_rejects_unlisted(parameters),
                reject_unlisted_sender=parameters.smtpd_reject_unlisted_sender,
                relay_reject_code=parameters.relay_domains_reject_code,
            ),
            cleanup=self._cleanup_of(parameters.cleanup_service_name),
            rewrite_clients=RewriteClients(
                parameters.local_header_rewrite_clients,
                own_addresses=self._interfaces,
                networks=client_list(parameters, "mynetworks"),
                open_table=partial(open_table, parameters=parameters),
            ),
            names=ClientNames(resolver, read_hosts(Path(parameters.native_hosts_file))),
            counts=doors.counts,
            observer=doors.observer,
            clock=doors.clock,
            load=doors.load,
            rates=doors.rates,
            rate_unit_s=self.configuration.parameters.anvil_rate_time_unit,
            name=service.name,
        )

    async def close(self) -> None:
        await asyncio.gather(*(agent.close() for agent in self._agents.values() if agent is not None))
        await self._cares.close()

    def pickup_service(self) -> SmtpService:
        """The receiving side of the sendmail command."""
        return self.smtp_service(next(each for each in self.configuration.services if each.command == "pickup"))

    def _cleanup_of(self, name: str) -> Cleanup:
        """The cleanup of a service of master.cf, whose ``-o`` options hold for it (cleanup_service_name)."""
        found = self._cleanups.get(name)
        if found is None:
            service = next((each for each in self.configuration.services if each.name == name), None)
            if service is None or service.command != "cleanup":
                raise ConfigError(f"cleanup_service_name = {name}: master.cf has no such service that runs cleanup")
            parameters = self.configuration.parameters_of(service)
            found = self._cleanups[name] = Cleanup(
                parameters, is_local=self.router.is_local, open_table=partial(open_table, parameters=parameters)
            )
        return found

    def _generic(self, parameters: Parameters, words: Sequence[str]) -> GenericMaps | None:
        if not words:
            return None
        maps = AddressMaps(
            open_tables(words, parameters=parameters),
            delimiter=parameters.recipient_delimiter,
            is_local=self.router.is_local,
            rewriting=local_rewriting(parameters),
            propagate="generic" in parameters.propagate_unmatched_extensions,
        )
        limits = parameters.header_block_limit, parameters.header_address_token_limit
        return GenericMaps(maps, header_limit=limits[0], token_limit=limits[1])

    def _filtered(self, service: Service) -> Agent | None:
        """The agent, behind the filter of its results if there is one."""
        agent = self._agent(service)
        if agent is None:
            return None
        words = self.filter_words(service)
        if not words:
            return agent
        maps = open_tables(words, parameters=self.configuration.parameters)
        return FilteredAgent(agent, maps, self._doors.observer)

    def filter_words(self, service: Service) -> tuple[str, ...]:
        """The tables that results of this transport go through."""
        parameters = self.configuration.parameters_of(service)
        own = f"{service.command}_delivery_status_filter"
        words: tuple[str, ...] = getattr(parameters, own if own in parameters.declared() else _ANY_FILTER)
        return words

    def _hosts_for(self, parameters: Parameters, prefix: str) -> HostsFor:
        """How a service finds the hosts of a next hop: its ``-o`` options may differ from main.cf."""
        lookup = getattr(parameters, f"{prefix}_host_lookup") if uses_dns(parameters, prefix) else ("native",)
        resolver = self._resolver
        if tuple(lookup) != tuple(self.configuration.parameters.smtp_host_lookup):
            resolver = HostsResolver(self._caching, self._doors.clock, parameters, lookup=lookup)
        router = MxRouter(resolver, parameters, own_addresses=self._own_addresses, prefix=prefix)
        return partial(router.hosts_for, default_port=port_number(getattr(parameters, f"{prefix}_tcp_port")))

    def _pass_on(self, to: Transport) -> PassOn | None:
        if not to.name:
            return None

        async def deliver(request: DeliveryRequest) -> Sequence[DeliveryResult]:
            return await self.deliver(replace(request, transport=to.name, next_hop=to.next_hop or request.next_hop))

        return deliver

    def _agent(self, service: Service) -> Agent | None:
        """The delivery agent of a line of master.cf; None for services that deliver nothing."""
        doors, parameters = self._doors, self.configuration.parameters_of(service)
        match service.command:
            case "smtp":
                return SmtpAgent(
                    parameters,
                    hosts_for=self._hosts_for(parameters, "smtp"),
                    clock=doors.clock,
                    observer=doors.observer,
                    loops_to=self._pass_on(parse_transport(parameters.best_mx_transport)),
                    generic=self._generic(parameters, parameters.smtp_generic_maps),
                )
            case "lmtp":
                return LmtpAgent(
                    parameters,
                    hosts_for=self._hosts_for(parameters, "lmtp"),
                    clock=doors.clock,
                    observer=doors.observer,
                    generic=self._generic(parameters, parameters.lmtp_generic_maps),
                )
            case "virtual":
                return VirtualAgent(doors.mailboxes, parameters, doors.clock)
            case "local":
                forward = QueueForward(
                    doors.intake, doors.content_writer, doors.new_queue_id, doors.clock, self.cleanup
                )
                return LocalAgent(
                    doors.mailboxes,
                    self._local_aliases,
                    forward,
                    parameters,
                    doors.clock,
                    deliver_by=self._deliver_for_local,
                    warn=lambda queue_id, text: doors.observer.emit(Note("local", f"{queue_id}: {text}", "warning")),
                )
            case "pipe":
                pipe = parse_pipe_service(service.name, service.args)
                return PipeAgent(pipe, doors.mailboxes, parameters, doors.clock)
            case "error":
                return ErrorAgent(4 if service.name == "retry" else 5)
            case "discard":
                return DiscardAgent()
        return None


def _rejects_unlisted(parameters: Parameters) -> bool:
    unchecked = "no_unknown_recipient_checks" in parameters.receive_override_options
    return parameters.smtpd_reject_unlisted_recipient and not unchecked

"""The stations of one worker that depend on the configuration, wired together: made at start and anew at each reload.

receive (services) -> policy -> cleanup -> [queue, scheduler: they stay] -> route -> deliver (agents)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

from msgspec.structs import replace

from ekiden.config.load import Configuration
from ekiden.config.master_cf import Service
from ekiden.config.snapshot import Parameters
from ekiden.deliver.agent import Agent
from ekiden.deliver.arc_seal import OutgoingSeals
from ekiden.deliver.discard import DiscardAgent
from ekiden.deliver.error import ErrorAgent
from ekiden.deliver.forward import QueueForward
from ekiden.deliver.forward_seals import ForwardSeals
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.local import LocalAgent
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.own_mail import OwnMail
from ekiden.deliver.pipe import PipeAgent
from ekiden.deliver.pipe_service import parse_pipe_service
from ekiden.deliver.report_mail import ReportsAgent
from ekiden.deliver.smtp import PassOn, SmtpAgent
from ekiden.deliver.smtp_settings import mime_limits
from ekiden.deliver.status_filter import FilteredAgent
from ekiden.deliver.text_only import deliver_as_text
from ekiden.deliver.virtual import VirtualAgent
from ekiden.message.address import Address
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred
from ekiden.message.envelope import BodyType, Recipient
from ekiden.message.queued import QueuedMessage
from ekiden.message.status import Status
from ekiden.observe.events import Note, Observer
from ekiden.policy.arc_sealing import ArcSealer
from ekiden.policy.client_limits import ClientCounts, ClientRates
from ekiden.policy.login_failures import FailureCounts
from ekiden.policy.pop_before_smtp import MailboxLogins
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.queue.store import ContentWriter
from ekiden.receive.client_name import ClientNames, read_hosts
from ekiden.receive.service import SmtpService
from ekiden.reports.received import ReceivedReports
from ekiden.route.transport import Transport, parse_transport
from ekiden.runtime.decisions import Decisions
from ekiden.runtime.dmarc_reports import DmarcReports
from ekiden.runtime.domain_tls import DomainTls
from ekiden.runtime.logins import Logins
from ekiden.tables.match import client_list
from ekiden.tables.open import open_tables
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import KeyFiles
from ekiden.tls.server_context import ServerTls, server_tls
from ekiden.tls.tickets import TicketKeys

_ANY_FILTER = "default_delivery_status_filter"
_TABLE_TROUBLE = Status(4, 3, 0)
_NO_TRANSPORT = Status(4, 3, 5)  # RFC 3463 §3.4: system incorrectly configured


_NO_KEYS = KeyFiles()


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
        flush_site: Callable[[str], Awaitable[None]],
        load: Callable[[], float] = lambda: 0.0,
        rates: ClientRates | None = None,
        login_failures: FailureCounts | None = None,
        mailbox_logins: MailboxLogins | None = None,
        key_files: KeyFiles = _NO_KEYS,
        tickets: TicketKeys | None = None,
        announces: bool = True,
    ) -> None:
        """``key_files`` is what the files of keys and certificates hold; who holds the doors puts newer ones there.

        ``announces``: what all workers find alike, this one says.
        """
        self.intake = intake
        self.content_writer = content_writer
        self.has_space = has_space
        self.new_queue_id = new_queue_id
        self.mailboxes = mailboxes
        self.counts = counts
        self.observer = observer
        self.clock = clock
        self.flush_site = flush_site
        self.load = load
        self.rates = rates
        self.login_failures = login_failures
        self.mailbox_logins = mailbox_logins
        self.key_files = key_files
        self.announces = announces
        self.tickets = tickets or TicketKeys(clock.monotonic())


class Stations:
    def __init__(self, configuration: Configuration, doors: Doors) -> None:
        """Raises ConfigError when a table or transport that the configuration names cannot be had."""
        self.configuration = configuration
        self._doors = doors
        self.decisions = Decisions(configuration, doors.clock, key_files=lambda: doors.key_files)
        self.router, self.cleanup = self.decisions.router, self.decisions.cleanup
        self.decisions.warn = lambda text: doors.observer.emit(Note("smtp", text, "warning"))
        if doors.announces and (trouble := self.decisions.srs.trouble):
            doors.observer.emit(Note("qmgr", f"{trouble}; forwarded mail keeps its sender", "warning"))
        self.host_signer = self.decisions.message_signer(configuration.parameters)
        own_mail = OwnMail(
            doors.intake,
            doors.content_writer,
            doors.new_queue_id,
            doors.clock,
            lambda: self.cleanup,
            signer=lambda: self.host_signer,
            warn=lambda text: doors.observer.emit(Note("cleanup", text, "warning")),
        )
        self.domain_tls = DomainTls(
            configuration.parameters,
            resolver=self.decisions.resolver,
            secure_resolver=lambda: self.decisions.secure_resolver,
            submit=partial(own_mail, tls_optional=True),
            clock=doors.clock,
            observer=doors.observer,
        )
        self.dmarc_reports = DmarcReports(
            configuration.parameters,
            resolver=self.decisions.resolver,
            submit=own_mail,
            clock=doors.clock,
            observer=doors.observer,
        )
        self._logins = Logins(doors.clock)
        self._local_transports = {service.name for service in configuration.services if service.command == "local"}
        self._binary_transports = {
            service.name for service in configuration.services if service.command in ("smtp", "lmtp")
        }
        self._agents = {
            service.name: self._filtered(service) for service in configuration.services if service.type == "unix"
        }

    @cached_property
    def received_reports(self) -> ReceivedReports:
        """What others report of our mail. The file is made when the first report comes."""
        parameters, observer = self.configuration.parameters, self._doors.observer
        return ReceivedReports(
            Path(parameters.queue_directory) / "reports" / "received.sqlite",
            retention_s=parameters.received_report_retention_time,
            limit_bytes=parameters.received_report_store_limit,
            time=self._doors.clock.time,
            warn=lambda text: observer.emit(Note("reports", text, "warning")),
        )

    async def sender_for(self, recipient: Recipient, sender: Address, queue_id: str) -> Address | DeliveryResult:
        """The sender that the next host is told: not always the message's, where it is forwarded."""
        try:
            leaving = await self.decisions.forwarded_senders.leaving(recipient, sender)
        except TableTrouble as trouble:
            return deferred(_TABLE_TROUBLE, f"forwarding: {trouble}")
        if leaving.sender != sender:
            text = f"forwarded to {recipient.address}: leaves with the sender {leaving.sender}"
            self._doors.observer.emit(Note("qmgr", text, "info", queue_id))
        return leaving.sender

    def deliver(self, request: DeliveryRequest) -> Awaitable[Sequence[DeliveryResult]]:
        agent = self._agents.get(request.transport)
        if agent is None:
            return self._no_transport(request)
        if request.envelope.body is BodyType.BINARY_MIME and request.transport not in self._binary_transports:
            return deliver_as_text(
                request, agent.deliver, content_writer=self._doors.content_writer, new_id=self._doors.new_queue_id,
                limits=mime_limits(self.configuration.parameters),
            )  # fmt: skip
        return agent.deliver(request)

    @staticmethod
    async def _no_transport(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        text = f"mail transport unavailable: master.cf has no service {request.transport}"
        return [deferred(_NO_TRANSPORT, text)] * len(request.recipients)

    async def _deliver_for_local(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        """mailbox_transport and its kin; one that led back to local would go round for ever."""
        if request.transport in self._local_transports:
            text = f"mail system configuration error: mailbox_transport or fallback_transport = {request.transport}"
            return [deferred(_NO_TRANSPORT, text)] * len(request.recipients)
        return await self.deliver(request)

    def smtp_service(self, service: Service) -> SmtpService:
        """The receiving side of a line of master.cf whose command is smtpd or lmtpd."""
        doors, decisions, parameters = self._doors, self.decisions, self.configuration.parameters_of(service)
        resolver = decisions.resolver if parameters.smtpd_peername_lookup else None
        return SmtpService(
            parameters,
            intake=doors.intake,
            content_writer=doors.content_writer,
            has_space=doors.has_space,
            new_queue_id=doors.new_queue_id,
            relay_access=decisions.relay_access(parameters, doors.mailbox_logins),
            cleanup=decisions.cleanup_of(parameters),
            rewrite_clients=decisions.rewrite_clients(parameters),
            names=ClientNames(resolver, read_hosts(Path(parameters.native_hosts_file)), decisions.dns_cache),
            counts=doors.counts,
            observer=doors.observer,
            clock=doors.clock,
            flush_site=doors.flush_site,
            load=doors.load,
            rates=doors.rates,
            login_failures=doors.login_failures,
            rate_unit_s=self.configuration.parameters.anvil_rate_time_unit,
            name=service.name,
            mechanisms=self._logins.of(parameters),
            is_lmtp=service.command == "lmtpd",
            tls=self._server_tls(service, parameters),
            signer=decisions.message_signer(parameters),
            authentication=self._sender_authentication(service, parameters),
        )

    def _sender_authentication(self, service: Service, parameters: Parameters) -> SenderAuthentication | None:
        """Nobody is a stranger but to smtpd."""
        if service.command != "smtpd":
            return None
        reports = self.dmarc_reports
        return self.decisions.sender_authentication(parameters, reports.add if reports.counts_mail else None)

    def _server_tls(self, service: Service, parameters: Parameters) -> ServerTls | None:
        if service.command not in ("smtpd", "lmtpd"):
            return None
        doors = self._doors
        return server_tls(
            parameters,
            doors.key_files,
            service=service.name,
            observer=doors.observer,
            tickets=doors.tickets,
            monotonic=doors.clock.monotonic,
            announces=doors.announces,
        )

    async def close(self) -> None:
        await self._logins.close()
        await asyncio.gather(*(agent.close() for agent in self._agents.values() if agent is not None))
        await self.domain_tls.close()
        await self.dmarc_reports.close()
        if "received_reports" in self.__dict__:
            self.received_reports.close()
        await self.decisions.close()

    def pickup_service(self) -> SmtpService:
        """The receiving side of the sendmail command."""
        return self.smtp_service(next(each for each in self.configuration.services if each.command == "pickup"))

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

    def _pass_on(self, to: Transport) -> PassOn | None:
        if not to.name:
            return None

        async def deliver(request: DeliveryRequest) -> Sequence[DeliveryResult]:
            return await self.deliver(replace(request, transport=to.name, next_hop=to.next_hop or request.next_hop))

        return deliver

    def _forward_seals(self, parameters: Parameters) -> ForwardSeals | None:
        """What local delivery sends on is sealed as it is queued again, if not when it came. Raises ConfigError."""
        doors = self._doors
        sealer = ArcSealer(parameters, key_files=lambda: doors.key_files)
        if not sealer or sealer.seals_all or not SenderAuthentication.is_wanted(parameters):
            return None
        limit = parameters.header_block_limit
        return ForwardSeals(
            OutgoingSeals(sealer, clock=doors.clock, observer=doors.observer, header_limit=limit, program="local"),
            own=[client_list(parameters, name) for name in ("mynetworks", "authentication_exempt_clients")],
            goes_on=self.decisions.goes_on,
        )

    def _agent(self, service: Service) -> Agent | None:
        """The delivery agent of a line of master.cf; None for services that deliver nothing."""
        doors, decisions, parameters = self._doors, self.decisions, self.configuration.parameters_of(service)
        match service.command:
            case "smtp":
                return SmtpAgent(
                    parameters,
                    hosts_for=decisions.hosts_for(parameters, "smtp"),
                    clock=doors.clock,
                    observer=doors.observer,
                    loops_to=self._pass_on(parse_transport(parameters.best_mx_transport)),
                    generic=decisions.generic(parameters, parameters.smtp_generic_maps),
                    key_files=lambda: doors.key_files,
                    policies=self.domain_tls.policies(parameters, "smtp"),
                )
            case "lmtp":
                return LmtpAgent(
                    parameters,
                    hosts_for=decisions.hosts_for(parameters, "lmtp"),
                    clock=doors.clock,
                    observer=doors.observer,
                    generic=decisions.generic(parameters, parameters.lmtp_generic_maps),
                    key_files=lambda: doors.key_files,
                    policies=self.domain_tls.policies(parameters, "lmtp"),
                )
            case "virtual":
                return VirtualAgent(doors.mailboxes, parameters, doors.clock)
            case "local":
                forward = QueueForward(
                    doors.intake, doors.content_writer, doors.new_queue_id, doors.clock, self.cleanup,
                    self._forward_seals(parameters),
                )  # fmt: skip
                return LocalAgent(
                    doors.mailboxes,
                    decisions.local_aliases,
                    forward,
                    parameters,
                    doors.clock,
                    deliver_by=self._deliver_for_local,
                    warn=lambda queue_id, text: doors.observer.emit(Note("local", f"{queue_id}: {text}", "warning")),
                )
            case "pipe":
                master_cf = self.configuration.master_cf
                pipe = parse_pipe_service(service.name, service.args, file=master_cf, line=service.line)
                return PipeAgent(pipe, doors.mailboxes, parameters, doors.clock)
            case "reports" | "tlsrpt":
                return ReportsAgent(
                    parameters, self.received_reports, self.domain_tls.store, doors.clock, name=service.name
                )
            case "error":
                return ErrorAgent(4 if service.name == "retry" else 5)
            case "discard":
                return DiscardAgent()
        return None

"""What all sessions of one smtpd service share: its settings and the stations that a message goes to next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.rewrite_clients import RewriteClients
from ekiden.cleanup.smtputf8 import detects_smtputf8
from ekiden.cleanup.way import HeaderSource, Way
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.message.clock import Clock
from ekiden.message.queued import QueuedMessage
from ekiden.message.reply import Reply
from ekiden.observe.events import Observer
from ekiden.policy.client_limits import ClientCounts, ClientLimits, ClientRates, LocalRates
from ekiden.policy.login_failures import FailureCounts, LoginFailures
from ekiden.policy.relay_access import RelayAccess
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.policy.signing import MessageSigner
from ekiden.protocol.smtp import server_replies
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.lmtp_server import LmtpServer
from ekiden.protocol.smtp.server import SmtpServer
from ekiden.protocol.smtp.verbs import Encryption, Rules
from ekiden.queue.store import ContentWriter
from ekiden.receive.client_name import ClientNames
from ekiden.receive.extensions import Offers
from ekiden.receive.login_service import LoginService
from ekiden.receive.protocol_rules import protocol_rules
from ekiden.receive.reject_footer import RejectFooter
from ekiden.receive.standing import Standings
from ekiden.receive.upstream_proxy import UpstreamProxy
from ekiden.sasl.exchange import Mechanisms
from ekiden.tables.match import DomainList, Subdomains, client_list
from ekiden.tables.open import open_table, open_tables
from ekiden.tls.server_context import ServerTls

_BARE_NEWLINE = {
    "reject": BareNewline.REJECT,
    "normalize": BareNewline.NORMALIZE,
    "yes": BareNewline.NORMALIZE,
    "note": BareNewline.NOTE,
    "no": BareNewline.ALLOW,
}


class SmtpService:
    """Made anew at each reload; a running session keeps the one it began with."""

    def __init__(
        self,
        parameters: Parameters,
        *,
        intake: Callable[[QueuedMessage], Awaitable[None]],
        content_writer: Callable[[str], ContentWriter],
        has_space: Callable[[int], Awaitable[bool]],
        new_queue_id: Callable[[], str],
        relay_access: RelayAccess,
        cleanup: Cleanup,
        rewrite_clients: RewriteClients,
        names: ClientNames,
        counts: ClientCounts,
        observer: Observer,
        clock: Clock,
        flush_site: Callable[[str], Awaitable[None]],
        load: Callable[[], float] = lambda: 0.0,
        rates: ClientRates | None = None,
        rate_unit_s: float | None = None,
        login_failures: FailureCounts | None = None,
        name: str = "smtpd",
        mechanisms: Mechanisms | None = None,
        is_lmtp: bool = False,
        tls: ServerTls | None = None,
        authentication: SenderAuthentication | None = None,
        signer: MessageSigner | None = None,
    ) -> None:
        """``flush_site`` has the mail for a domain tried now; it raises FlushTrouble. ``load`` gives the host's load
        average; ``name`` is the service's in master.cf.
        ``is_lmtp``: clients speak LMTP here (RFC 2033).

        ``rates``, ``rate_unit_s`` (anvil_rate_time_unit) and ``login_failures`` are common to all services; without
        them this one has its own. ``mechanisms`` are those of login, None where nobody can log in; ``tls`` is None
        where there is none. ``authentication`` is None where nobody is examined, ``signer`` where nothing is
        signed.
        """
        self.parameters = parameters
        self.is_lmtp = is_lmtp
        self.program = "lmtpd" if is_lmtp else "smtpd"
        self.core: type[SmtpServer] = LmtpServer if is_lmtp else SmtpServer
        self.intake = intake
        self.content_writer = content_writer
        self.has_space = has_space
        self.new_queue_id = new_queue_id
        self.relay_access = relay_access
        self.authentication = authentication
        self.accounts = authentication is not None and authentication.report is not None
        self.signer = signer
        lists = relay_access.rules
        self.asks_before_content = signer is not None or (lists is not None and lists.has_data)
        self.asks_after_content = lists is not None and lists.has_end_of_data
        self.cleanup = cleanup
        self.detects_smtputf8 = detects_smtputf8(parameters, "smtpd")
        self.rewrite_clients = rewrite_clients
        self.local_way = Way.of_client(HeaderSource.LOCAL, parameters.receive_override_options)
        self.remote_way = Way.of_client(HeaderSource.REMOTE, parameters.receive_override_options)
        self.names = names
        self.counts = counts
        self.observer = observer
        self.clock = clock
        self.load = load
        self.flush_site = flush_site
        self.flush_domains = DomainList(
            parameters.fast_flush_domains,
            subdomains=Subdomains.ALWAYS,
            opener=partial(open_table, parameters=parameters),
        )
        self.sessions = 0
        self.stopping = False
        self.limits = ClientLimits(
            parameters,
            LocalRates(clock.monotonic) if rates is None else rates,
            service=name,
            unit_s=parameters.anvil_rate_time_unit if rate_unit_s is None else rate_unit_s,
        )
        counts_of_failures = LocalRates(clock.monotonic) if login_failures is None else login_failures
        self.login_failures = LoginFailures(parameters, counts_of_failures)
        self.standings = Standings(
            trusted=client_list(parameters, "mynetworks"),
            xclient_hosts=client_list(parameters, "smtpd_authorized_xclient_hosts"),
            xforward_hosts=client_list(parameters, "smtpd_authorized_xforward_hosts"),
            unlimited=client_list(parameters, "smtpd_client_event_limit_exceptions"),
            limits=self.limits,
            bare_newline=_BARE_NEWLINE[parameters.smtpd_forbid_bare_newline],
            newline_exclusions=client_list(parameters, "smtpd_forbid_bare_newline_exclusions"),
        )
        has_proxy = parameters.smtpd_upstream_proxy_protocol
        self.upstream_proxy = UpstreamProxy(parameters, observer, self.program) if has_proxy else None
        self.tls = tls
        self.is_encrypted = tls is not None and tls.is_implicit  # from the first byte on

        def rules(encryption: Encryption) -> Rules:
            has_login = mechanisms is not None
            return protocol_rules(parameters, observer, has_login=has_login, is_lmtp=is_lmtp, encryption=encryption)

        self.rules = rules(_encryption(tls, parameters))
        self.secured_rules = self.rules if tls is None else rules(Encryption.ACTIVE)
        self.login = None if mechanisms is None else LoginService(parameters, mechanisms, observer)
        self.junk_limit = parameters.smtpd_junk_command_limit
        self.greeting = Reply(220, None, (parameters.smtpd_banner,))
        self.banner = self.greeting.render()
        self.helo_reply = server_replies.helo_reply(parameters.myhostname)
        self.offers = Offers(parameters)
        self.discarded = _keywords(parameters.smtpd_discard_ehlo_keywords)  # if no table says anything else
        maps = parameters.smtpd_discard_ehlo_keyword_address_maps
        self._discard_maps = open_tables(maps, parameters=parameters)
        self.asks_what_to_discard = bool(self._discard_maps)
        has_footer = parameters.smtpd_reject_footer or parameters.smtpd_reject_footer_maps
        self.footer = RejectFooter(parameters, clock, observer) if has_footer else None

    async def discarded_keywords(self, address: str) -> frozenset[str]:
        """The EHLO keywords that the client at ``address`` is not offered. Raises TableTrouble."""
        found = await self._discard_maps.lookup(address)
        return self.discarded if found is None else _keywords(split_words(found))


def _encryption(tls: ServerTls | None, parameters: Parameters) -> Encryption:
    """What STARTTLS is while the connection is in the clear."""
    if tls is None or "STARTTLS" in _keywords(parameters.smtpd_discard_ehlo_keywords):
        return Encryption.NONE
    return Encryption.REQUIRED if tls.is_mandatory else Encryption.OFFERED


def _keywords(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.upper() for word in words)

"""A session with one server, up to where it is ready for a transaction: connection, greeting, TLS, login.

    connect -> [TLS at once] -> greeting, EHLO -> [STARTTLS, handshake, EHLO again] -> [AUTH] -> ready

What fails on the way is a result for all recipients that are open, of which the next server may still make another.
"""

from __future__ import annotations

import asyncio
import base64
import socket

from msgspec import Struct, structs

from ekiden.config.registry import split_words
from ekiden.deliver.connection import Connection, Endpoint, HandshakeFailed, Handshaken, Lost, TimedOut, UnixHost
from ekiden.deliver.connection_pool import ConnectionPool
from ekiden.deliver.smtp_job import Job
from ekiden.deliver.smtp_outcome import facts_of, label, of_connect, of_loop, of_refusal, of_trouble
from ekiden.deliver.smtp_security import NO_POLICY, NOT_OFFERED, Security
from ekiden.deliver.smtp_settings import SmtpSettings
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryResult, deferred, failed
from ekiden.message.host import Host
from ekiden.message.reply import Reply
from ekiden.message.status import Status
from ekiden.net.outbox import Outbox
from ekiden.observe.events import Note, Observer
from ekiden.protocol.smtp.client import (
    ClientRules,
    Event,
    LoggedIn,
    LoginFailed,
    LoginRefused,
    Ready,
    Refused,
    SmtpClient,
    SpokeToSelf,
    StartTls,
    TlsDeclined,
    Trouble,
)
from ekiden.protocol.smtp.client_login import LoginProblem
from ekiden.protocol.smtp.replies import status_of
from ekiden.sasl.client_mechanisms import Credentials
from ekiden.tables.table import TableTrouble
from ekiden.tls.client_context import ClientLayer, ContextTrouble
from ekiden.tls.decision import REQUIRETLS_IMPOSSIBLE
from ekiden.tls.policy import Level, NoDelivery, Problem, TlsPolicy

_BAD_LOGIN = Status(4, 7, 0)


class Failure(Struct, frozen=True):
    """Why a session did not come about. ``tls``: a session without TLS might have.

    ``here_only``: final as the result may be, it is about this server, and the next one is tried.
    """

    result: DeliveryResult
    tls: bool = False
    here_only: bool = False


class _Aims(Struct, frozen=True):
    """What a session is to be: where to, for which next hop, under which policy (None: no TLS), logged in as whom."""

    endpoint: Endpoint
    next_hop: str
    policy: TlsPolicy | None
    credentials: Credentials | None


class Sessions:
    """Makes the sessions of one agent."""

    def __init__(
        self,
        settings: SmtpSettings,
        security: Security,
        pool: ConnectionPool,
        *,
        clock: Clock,
        observer: Observer,
        own_name: str,
    ) -> None:
        self._settings, self._security, self._pool = settings, security, pool
        self._clock, self._observer, self._own_name = clock, observer, own_name
        self._outbox = Outbox()

    async def fits(self, connection: Connection, job: Job) -> bool:
        """Whether a connection of the pool is what a new one would be: under the same policy, with the same login."""
        security = self._security
        require_tls = job.request.envelope.require_tls and self._requires_tls(job, connection.endpoint)
        if require_tls and not connection.client.extensions.require_tls:
            return False
        if not require_tls:
            if connection.suits_all:
                return True
            if not security.has_logins and security.constant_for(connection.next_hop) is not None:
                return False
        aims = await self._aims(connection.endpoint, connection.next_hop, job)
        return (
            isinstance(aims, _Aims) and aims.policy == connection.policy and aims.credentials == connection.credentials
        )

    def _suits_all(self, connection: Connection) -> bool:
        """Whether the policy that it was made under is that of every message, and none logs in."""
        security = self._security
        if security.has_logins or not security.has_tls:
            return not security.has_logins
        constant = security.constant_for(connection.next_hop)
        return constant is not None and (connection.policy is constant or isinstance(connection.endpoint, UnixHost))

    def _requires_tls(self, job: Job, endpoint: Endpoint) -> bool:
        """REQUIRETLS, unless it goes over a socket in the file system: what does not leave the host is not relayed."""
        return job.request.envelope.require_tls and not isinstance(endpoint, UnixHost)

    def may_be_plain(self, connection: Connection, job: Job) -> bool:
        """Whether what broke off within TLS is worth another try without, for those that are still open."""
        policy = connection.policy
        return (
            bool(job.open)
            and connection.tls is not None
            and policy is not None
            and connection.credentials is None
            and self._security.may_go_plain(job, policy)
        )

    async def open(
        self, endpoint: Endpoint, next_hop: str, job: Job, started: float, *, best: bool, plain: bool = False
    ) -> Connection | None:
        """A connection whose server is ready for a transaction; None: ``job`` knows why not.

        ``plain``: without TLS, whatever the policy wishes.
        """
        aims = await self._aims(endpoint, next_hop, job)
        if isinstance(aims, DeliveryResult):
            self._pass_over(aims, job)
            return None
        asked = aims.policy
        if plain and asked is not None:
            aims = structs.replace(aims, policy=structs.replace(asked, level=Level.NONE))
        while True:
            found = await self._attempt(aims, job, started, best=best)
            if isinstance(found, Connection):
                if aims.policy is asked:
                    found.policy, found.credentials = asked, aims.credentials
                    found.suits_all = self._suits_all(found)
                # else it is the way out for this message, which no other may take: a policy that nothing equals
                return found
            policy = aims.policy
            if found.tls and policy is not None and policy.testing:
                aims = structs.replace(aims, policy=structs.replace(policy, level=Level.MAY, testing=False))
            elif (
                found.tls
                and policy is not None
                and aims.credentials is None
                and self._security.may_go_plain(job, policy)
            ):
                aims = structs.replace(aims, policy=structs.replace(policy, level=Level.NONE))
            elif found.here_only:
                self._pass_over(found.result, job)
                return None
            else:
                self._remember(found.result, job)
                return None
            started = self._clock.monotonic()

    async def _aims(self, endpoint: Endpoint, next_hop: str, job: Job) -> _Aims | DeliveryResult:
        security = self._security
        policy: TlsPolicy | None = None
        credentials: Credentials | None = None
        require_tls = self._requires_tls(job, endpoint)
        if security.has_tls or require_tls:
            tls_optional = job.request.envelope.tls_optional
            found = await security.policy_for(next_hop, endpoint, require_tls=require_tls, tls_optional=tls_optional)
            if isinstance(found, NoDelivery):
                result = failed if found.status.is_permanent else deferred
                return result(found.status, found.text, relay=str(endpoint), **facts_of(endpoint, 0.0))
            policy = found
        if security.has_logins:
            try:
                credentials = await security.credentials_for(job, next_hop, endpoint)
            except TableTrouble as trouble:
                return deferred(Status(4, 3, 0), str(trouble))
        return _Aims(endpoint, next_hop, policy, credentials)

    def _remember(self, result: DeliveryResult, job: Job) -> None:
        if result.is_final:
            job.settle(result)
            return
        self._pass_over(result, job)

    def _pass_over(self, result: DeliveryResult, job: Job) -> None:
        """Another server may do, even where it is this one's last word."""
        self._observer.emit(Note(self._settings.transport, result.text, queue_id=job.request.queue_id))
        job.remember(result)

    # -- one attempt --

    async def _attempt(self, aims: _Aims, job: Job, started: float, *, best: bool) -> Connection | Failure:
        endpoint = aims.endpoint
        connection = await self._connected(aims, started)
        if isinstance(connection, Failure):
            return connection
        try:
            found = await self._session(connection, aims, job, started, best=best)
        except BaseException:
            connection.abort()
            raise
        job.connect_s = self._clock.monotonic() - started
        if found is None:
            return connection
        # Where the server can still hear it, it is told that we go.
        self._pool.retire(connection)
        facts = facts_of(endpoint, job.connect_s)
        return structs.replace(found, result=structs.replace(found.result, relay=str(endpoint), **facts))

    async def _connected(self, aims: _Aims, started: float) -> Connection | Failure:
        settings, endpoint = self._settings, aims.endpoint
        loop = asyncio.get_running_loop()
        # Only a server on the mail port may be taken for ourselves: a filter on this host may well use our name.
        at_mail_port = isinstance(endpoint, Host) and endpoint.port == settings.default_port and not settings.rules.lmtp
        try:
            rules = await self._rules_for(endpoint) if settings.discard_maps else settings.rules
        except TableTrouble as trouble:
            return Failure(deferred(Status(4, 3, 0), str(trouble)))
        client = SmtpClient(rules, own_name=self._own_name if at_mail_port else "")
        layer: ClientLayer | None = None
        if self._security.is_implicit and aims.policy is not None:
            made = self._security.layer(aims.policy, aims.next_hop, endpoint)
            if isinstance(made, ContextTrouble):
                return Failure(deferred(NO_POLICY, f"client TLS configuration problem: {made}"))
            layer = made
        connection = Connection(
            client,
            endpoint,
            settings.timeouts,
            loop,
            outbox=self._outbox,
            content_rate=settings.content_rate,
            layer=layer,
        )
        connection.next_hop = aims.next_hop
        try:
            async with asyncio.timeout(settings.connect_timeout_s or None):
                await self._open(connection, endpoint, loop)
        except OSError as error:  # TimeoutError is one
            return Failure(of_connect(error, endpoint, connect_s=self._clock.monotonic() - started))
        self._pool.opened(connection)
        return connection

    async def _rules_for(self, endpoint: Endpoint) -> ClientRules:
        """The rules for a server that a table may have other extensions for. Raises TableTrouble."""
        rules = self._settings.rules
        found = await self._settings.discard_maps.lookup(
            endpoint.path if isinstance(endpoint, UnixHost) else endpoint.address
        )
        if found is None:
            return rules
        return structs.replace(rules, discard_keywords=frozenset(word.upper() for word in split_words(found)))

    async def _open(self, connection: Connection, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        if isinstance(endpoint, UnixHost):
            await loop.create_unix_connection(lambda: connection, endpoint.path)
            return
        bind = self._settings.bind_ipv6 if ":" in endpoint.address else self._settings.bind_ipv4
        if bind and not self._settings.bind_enforce and (problem := _cannot_bind(bind)):
            text = f"connections are not made from {bind}: {problem}"
            self._observer.emit(Note(self._settings.transport, text, "warning"))
            bind = ""
        await loop.create_connection(
            lambda: connection, endpoint.address, endpoint.port, local_addr=(bind, 0) if bind else None
        )

    async def _session(
        self, connection: Connection, aims: _Aims, job: Job, started: float, *, best: bool
    ) -> Failure | None:
        """Everything between the connection and its first transaction."""
        if connection.layer is not None:
            event = await connection.event()
            if (failure := self._shaken(event, connection, aims, job)) is not None:
                return failure
        event = await connection.event()
        if not isinstance(event, Ready):
            return self._no_session(event, connection, job, best=best)
        if connection.tls is None:
            failure = await self._encrypted(connection, aims, job, best=best)
            if failure is not None:
                return failure
        if self._requires_tls(job, connection.endpoint) and not connection.client.extensions.require_tls:
            # RFC 8689 §4.2.1, step 5. Waiting would not teach it.
            text = f"REQUIRETLS is required, but was not offered by host {label(connection.endpoint)}"
            return Failure(failed(REQUIRETLS_IMPOSSIBLE, text), here_only=True)
        if connection.layer is not None and aims.policy is not None:
            self._security.keep_session(connection.layer, aims.policy, aims.next_hop, aims.endpoint)
        if aims.credentials is not None and connection.client.extensions.mechanisms:
            return await self._logged_in(connection, aims.credentials, aims, job, best=best)
        return None

    def _no_session(self, event: Event, connection: Connection, job: Job, *, best: bool) -> Failure:
        endpoint, request = connection.endpoint, job.request
        facts = facts_of(endpoint, 0.0)
        if isinstance(event, Refused):
            return Failure(of_refusal(event, endpoint, facts, skip_5xx_greeting=self._settings.skip_5xx_greeting))
        if isinstance(event, SpokeToSelf):
            text = f"host {label(endpoint)} greeted me with my own hostname {event.name}"
            self._observer.emit(Note(self._settings.transport, text, "warning", request.queue_id))
            return Failure(of_loop(request.next_hop, endpoint, facts, best=best))
        if isinstance(event, Lost | TimedOut | Trouble):
            return Failure(of_trouble(event, endpoint, facts))
        raise TypeError(f"no end of a handshake: {event}")

    # -- TLS --

    async def _encrypted(self, connection: Connection, aims: _Aims, job: Job, *, best: bool) -> Failure | None:
        """STARTTLS, where the policy wants it."""
        policy, client, endpoint, security = aims.policy, connection.client, aims.endpoint, self._security
        if policy is None or policy.level is Level.NONE:
            if security.notes_offers and client.extensions.starttls:
                self._observer.emit(Note(self._settings.transport, f"Host offered STARTTLS: [{endpoint.name}]"))
            return None
        required = policy.level.is_mandatory and not policy.testing
        if not client.extensions.starttls:
            text = f"TLS is required, but was not offered by host {label(endpoint)}"
            security.tell(aims.next_hop, connection, policy, Problem.NOT_OFFERED, text)
            return Failure(deferred(NOT_OFFERED, text)) if required else None
        layer = security.layer(policy, aims.next_hop, endpoint)
        if isinstance(layer, ContextTrouble):
            # An administrator who asked for no more than what can be had gets the mail out.
            return Failure(deferred(NO_POLICY, f"client TLS configuration problem: {layer}")) if required else None
        client.start_tls()
        connection.flush()
        event = await connection.event()
        if isinstance(event, TlsDeclined):
            text = f"TLS is required, but host {label(endpoint)} refused to start TLS: {event.reply.text.rstrip()}"
            security.tell(aims.next_hop, connection, policy, Problem.NOT_OFFERED, text)
            if required:
                return Failure(_put_off(event.reply, text))
            return None
        if not isinstance(event, StartTls):
            return self._no_session(event, connection, job, best=best)
        connection.start_tls(layer)
        if (failure := self._shaken(await connection.event(), connection, aims, job)) is not None:
            return failure
        client.tls_established()
        connection.flush()
        event = await connection.event()
        return None if isinstance(event, Ready) else self._no_session(event, connection, job, best=best)

    def _shaken(self, event: Event, connection: Connection, aims: _Aims, job: Job) -> Failure | None:
        """What a handshake came to."""
        policy, security = aims.policy, self._security
        assert policy is not None
        if not isinstance(event, Handshaken):
            if isinstance(event, HandshakeFailed | Trouble):
                why = event.text
            else:
                why = "Connection timed out" if isinstance(event, TimedOut) else "lost connection"
            security.failed_handshake(policy, aims.next_hop, aims.endpoint, why, job.request.queue_id)
            security.tell(aims.next_hop, connection, policy, Problem.FAILED, why)
            connection.abort()
            return Failure(deferred(NO_POLICY, "Cannot start TLS: handshake failure"), tls=True)
        layer = connection.layer
        assert layer is not None
        verdict = security.verdict(layer, policy, aims.next_hop, aims.endpoint, job.request.queue_id)
        connection.tls = verdict.facts
        security.tell(aims.next_hop, connection, policy, verdict.problem, verdict.detail, verdict.facts)
        if verdict.problem is None or policy.testing:
            return None
        connection.abort()
        return Failure(deferred(NO_POLICY, f"{verdict.text}: {verdict.detail}"), tls=True)

    # -- login --

    async def _logged_in(
        self, connection: Connection, credentials: Credentials, aims: _Aims, job: Job, *, best: bool
    ) -> Failure | None:
        endpoint, logins = aims.endpoint, self._security.logins
        if said := logins.refused_before(credentials, endpoint.name):
            return Failure(
                deferred(Status(4, 7, 8), f"SASL authentication failed; server {label(endpoint)} said: {said}")
            )
        try:
            exchange = await self._security.exchange(connection, credentials, aims.next_hop)
        except TableTrouble as trouble:
            return Failure(deferred(Status(4, 3, 0), str(trouble)))
        if exchange is None:
            text = (
                f"SASL authentication failed: server {label(endpoint)} offered no compatible authentication mechanisms "
                "for this type of connection security"
            )
            return Failure(deferred(_BAD_LOGIN, text))
        if isinstance(exchange, LoginProblem):
            return Failure(deferred(_BAD_LOGIN, f"SASL authentication failed: {exchange.text}"))
        connection.client.log_in(exchange)
        connection.flush()
        event = await connection.event()
        if isinstance(event, LoggedIn):
            return None
        if isinstance(event, LoginFailed):
            text = f"SASL authentication failed: {label(endpoint)}: {event.text}"
            return Failure(deferred(_BAD_LOGIN, text))
        if not isinstance(event, LoginRefused):
            return self._no_session(event, connection, job, best=best)
        said = without_secret(event.reply.text.rstrip(), credentials)
        if event.reply.code == 535:
            logins.remember_refusal(credentials, endpoint.name, said)
        text = f"SASL authentication failed; server {label(endpoint)} said: {said}"
        if event.reply.code >= 500 and not logins.soft_bounce:
            return Failure(failed(status_of(event.reply), text, diagnostic=f"smtp; {said}"))
        return Failure(deferred(status_of(event.reply).with_class(4), text, diagnostic=f"smtp; {said}"))


def without_secret(text: str, credentials: Credentials) -> str:
    """What a server says of a login, which it may repeat: the password is for no log and no notification."""
    secret = credentials.password
    for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
        if form:
            text = text.replace(form, "***")
    return text


def _put_off(reply: Reply, text: str) -> DeliveryResult:
    """What a server refuses is no word about the message: it waits."""
    return deferred(status_of(reply).with_class(4), text, diagnostic=f"smtp; {reply.text.rstrip()}")


def _cannot_bind(address: str) -> str:
    """Why no connection can be made from a local address; "" when one can."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        try:
            trial.bind((address, 0))
        except OSError as error:
            return error.strerror or str(error)
    return ""

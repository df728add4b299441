"""One SMTP session, from banner to QUIT: what each command means for this server (RFC 5321 §3, §4.1).

The core (protocol.smtp.server) knows the protocol, the connection knows the socket; the session decides. What a
command means is said by one function each (handlers.py names them); the session counts and slows down.
"""

from __future__ import annotations

from typing import Any

from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal, Reply, reply
from ekiden.observe import events
from ekiden.policy.client_limits import Deed
from ekiden.protocol.smtp import commands
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.server import SmtpServer, State
from ekiden.receive.client_attributes import Forwarded
from ekiden.receive.connection import Connection, ServerStops
from ekiden.receive.handlers import HANDLERS
from ekiden.receive.login import LoginExchange
from ekiden.receive.service import SmtpService
from ekiden.receive.standing import NOBODY
from ekiden.receive.starttls import NoTls, begin_encrypted, refusal_after_handshake
from ekiden.receive.transaction import Transaction
from ekiden.tables.table import TableTrouble


class SmtpSession:
    def __init__(self, service: SmtpService, connection: Connection) -> None:
        self.service = service
        self.connection = connection
        self.parameters = service.parameters
        self.client = Client()
        self.core: SmtpServer | None = None
        self.trusted = False
        self.network = ""  # what the client is counted by; "" when nothing limits it
        self.is_local = False  # one of local_header_rewrite_clients, which is asked for at MAIL
        self.judged: Client | None = None  # as whom it was asked for
        self.may_xclient = self.may_xforward = False
        self.forwarded: Forwarded | None = None  # what XFORWARD said of the next message
        self.transaction: Transaction | None = None
        self.received = 0  # messages that are in the queue
        self.exchange: LoginExchange | None = None  # a login that is under way
        self.errors = 0
        self.junk = 0
        self.last_command = "CONNECT"
        self.counts: dict[str, int] = {}  # how often each verb was answered
        self.refused: dict[str, int] = {}  # how often with a refusal

    async def run(self) -> None:
        service, connection, parameters = self.service, self.connection, self.parameters
        problem = ""  # how it ended when the client did not say QUIT
        address = connection.transport.get_extra_info("peername")
        if type(address) is not tuple:  # it is of this host, or gone already
            address = connection.local_peer
        if address is None:
            connection.abort()
            return
        service.sessions += 1
        if service.upstream_proxy is not None:
            address = await service.upstream_proxy.client_of(connection, address)
            if address is None:
                service.sessions -= 1
                connection.abort()
                return
        now, timeout_s = connection.loop.time, parameters.smtpd_timeout
        connection.deadline = now() + timeout_s
        try:
            newline = await self._begin(address)
            if newline is None:
                return
            rules = service.rules if self.client.tls is None else service.secured_rules
            core = self.core = service.core(rules=rules, bare_newline=newline)
            connection.write(service.banner)
            handlers = HANDLERS
            in_content = False
            while True:
                try:
                    data = await connection.read()
                except ServerStops:
                    if self.transaction is not None:
                        continue  # it may finish its message
                    connection.write(reply(421, "4.3.2", f"{parameters.myhostname} Service shutting down").render())
                    return
                if not data:
                    problem = "lost connection"
                    return
                if not in_content:
                    if not parameters.smtpd_per_request_deadline:
                        connection.deadline = now() + timeout_s
                else:
                    earned = max(connection.deadline, now()) + len(data) / parameters.smtpd_min_data_rate
                    connection.deadline = min(earned, now() + timeout_s)
                event = core.next_event(data)
                if event is None:
                    continue
                while event is not None:
                    kind = type(event)
                    in_content = kind is commands.Content
                    await handlers[kind](self, event)
                    event = core.next_event() if core.has_more else None
                output = core.take_output()
                if output:
                    connection.write(output)
                    if connection.congested:
                        await connection.writable()
                if core.state is State.CLOSED:
                    return
                # A command gets its time as a whole, however slowly it drips; content earns time by its bytes.
                if not in_content:
                    connection.deadline = now() + timeout_s
        except NoTls:
            problem = "lost connection"
        except TimeoutError:
            problem = "timeout"
            connection.write(reply(421, "4.4.2", f"{parameters.myhostname} Error: timeout exceeded").render())
        except Exception as error:
            # A bug of ours. The client is told to come back, and nothing was acknowledged that is not in the queue.
            problem = "internal error"
            text = f"internal error after {self.last_command}: {type(error).__name__}: {error}"
            service.observer.emit(events.Note(service.program, text, "error"))
            connection.write(reply(421, "4.3.0", f"{parameters.myhostname} Error: internal error").render())
        finally:
            service.sessions -= 1
            if self.transaction is not None:
                await self.drop_transaction()
            self._end(problem)

    async def _begin(self, address: tuple[Any, ...]) -> BareNewline | None:
        """Who the client is, and what becomes of its lines that end in LF; None: it gets no session.

        Raises NoTls.
        """
        service = self.service
        host, port = address[:2]
        if ":" in host:
            host = _plain(host)
        name = service.names.known(host)
        if name is None:
            name = await service.names.look_up(host)
        self.client = Client(
            name=name or "unknown",
            address=host,
            port=port,
            is_ipv6=":" in host,
            shows_port=self.parameters.smtpd_client_port_logging,
            name_failed=name is None,
        )
        refusal: Refusal | None = None
        standing = service.standings.known((host, self.client.name))
        if standing is None:
            try:
                standing = await service.standings.of(self.client)
            except TableTrouble as trouble:
                # Who this client is nobody can say now, so that nothing can be refused for good either.
                text = f"{self.parameters.myhostname} Error: temporary lookup failure"
                refusal = Refusal(reply(421, "4.3.0", text, closes=True), "table-trouble", str(trouble))
                standing = NOBODY
        self.trusted, self.network = standing.trusted, standing.network
        self.may_xclient, self.may_xforward = standing.may_xclient, standing.may_xforward
        count = await service.counts.connect(self.network) if self.network else 0
        service.observer.emit(events.Connected(self.client, service.program))
        refusal = refusal or self._admission(count)
        if service.is_encrypted and refusal is None:
            await begin_encrypted(self)
            refusal = refusal_after_handshake(self)
        if refusal is None:
            return standing.newline
        self.log_refusal(refusal, "CONNECT")
        # A client that waits for a handshake would not understand plain text.
        if not service.is_encrypted or self.client.tls is not None:
            self.connection.write(refusal.reply.render())
        return None

    def _end(self, problem: str) -> None:
        service = self.service
        if self.exchange is not None:
            self.exchange.abandon()
        if self.network:
            service.counts.disconnect(self.network)
        self.connection.close()
        if problem:
            service.observer.emit(events.ConnectionLost(self.client, problem, self.last_command, service.program))
        refused = self.refused
        counts = {}
        for verb, count in self.counts.items():
            counts[verb] = (count - refused[verb] if verb in refused else count, count)
        service.observer.emit(events.Disconnected(self.client, counts, received=self.received, service=service.program))

    async def become(self, client: Client) -> None:
        """Another client takes the place of this one (XCLIENT), whose own rights to say so it keeps.

        Raises TableTrouble.
        """
        self.client = client
        self.trusted = False  # should a table be in trouble
        standing = await self.service.standings.of(client)
        self.trusted = standing.trusted
        assert self.core is not None  # a command was given
        self.core.bare_newline = standing.newline

    @property
    def origin(self) -> Client:
        """The client that a message is from: before the content filter that gives it to us, if that said so."""
        forwarded = self.forwarded
        return self.client if forwarded is None or not forwarded.names_client else forwarded.client

    def _admission(self, count: int) -> Refusal | None:
        """Whether the client gets a session at all."""
        service, limit = self.service, self.service.limits.connections
        if service.stopping or service.sessions > self.parameters.smtpd_session_limit:
            text = f"{self.parameters.myhostname} Error: too busy, try again later"
            return Refusal(reply(421, "4.3.2", text, closes=True), "too-busy")
        refuse_at = self.parameters.refuse_load_average_limit
        if refuse_at and service.load() >= refuse_at:
            text = f"{self.parameters.myhostname} Error: load too high, try again later"
            return Refusal(reply(421, "4.3.2", text, closes=True), "load-too-high", f"{service.load():.2f}")
        if limit and count > limit:
            text = f"{self.parameters.myhostname} Error: too many connections from {self.client.address}"
            return Refusal(reply(421, "4.7.0", text, closes=True), "too-many-connections")
        return self.check_rate(Deed.CONNECTION) if self.network else None

    def check_rate(self, deed: Deed) -> Refusal | None:
        limits = self.service.limits
        return limits.check_rate(deed, self.client, self.network) if limits.has_rates and self.network else None

    # The one way out: every reply is counted, slowed down or turned into a farewell here.

    def accept(self, verb: str, answer: Reply) -> None:
        core = self.core
        assert core is not None  # there is a conversation
        self.last_command = verb
        counts = self.counts
        counts[verb] = counts[verb] + 1 if verb in counts else 1
        if self.junk > self.service.junk_limit:
            answer = self._too_many_errors()
        core.reply(answer)

    async def answer(self, verb: str, answer: Reply, *, is_error: bool = True) -> None:
        """An answer that may be a refusal; errors are slowed down and at last end the session."""
        if answer.code < 400:
            self.accept(verb, answer)
            return
        if is_error:
            answer = await self._slow_down(answer)
        if self.service.footer is not None:
            answer = await self.service.footer.add(answer, self.client)
        self.accept(verb, answer)
        self.refused[verb] = self.refused.get(verb, 0) + 1

    async def refuse(
        self, stage: str, refusal: Refusal, *, sender: str = "", recipient: str = "", is_error: bool = True
    ) -> None:
        self.log_refusal(refusal, stage, sender=sender, recipient=recipient)
        await self.answer(stage, refusal.reply, is_error=is_error)

    async def _slow_down(self, answer: Reply) -> Reply:
        self.errors += 1
        if self.errors >= self.parameters.smtpd_hard_error_limit:
            return self._too_many_errors()
        if self.errors > self.parameters.smtpd_soft_error_limit:
            await self.service.clock.sleep(self.parameters.smtpd_error_sleep_time)
        return answer

    def _too_many_errors(self) -> Reply:
        return reply(421, "4.7.0", f"{self.parameters.myhostname} Error: too many errors", closes=True)

    def log_refusal(
        self, refusal: Refusal, stage: str, *, sender: str = "", recipient: str = "", is_warning: bool = False
    ) -> None:
        """``is_warning``: it was not refused, because of warn_if_reject."""
        transaction = self.transaction
        self.service.observer.emit(
            events.Rejected(
                client=self.client,
                stage=stage,
                reply=refusal.reply.text,
                reason=refusal.reason,
                sender=str(transaction.sender) if transaction is not None else sender,
                recipient=recipient,
                detail=refusal.detail,
                queue_id=transaction.queue_id if transaction is not None else "",
                is_warning=is_warning,
                service=self.service.program,
            )
        )

    async def drop_transaction(self) -> None:
        transaction, self.transaction = self.transaction, None
        self.forwarded = None
        # There may be something of its content that is neither the queue's nor discarded.
        if transaction is not None and (transaction.writer is not None or transaction.reader is not None):
            await transaction.discard()


def _plain(host: str) -> str:
    """An IPv4 client of a dual-stack socket is an IPv4 client."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host

"""One SMTP session, from banner to QUIT: what each command means for this server (RFC 5321 §3, §4.1).

The core (protocol.smtp.server) knows the protocol, the connection knows the socket; the session decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from ekiden.cleanup.cleanup import table_refusal
from ekiden.cleanup.header_scan import HeaderScan
from ekiden.cleanup.received import received_field
from ekiden.message.envelope import Client, Envelope, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.reply import Refusal, Reply, reply
from ekiden.observe import events
from ekiden.policy.client_limits import Deed
from ekiden.protocol.smtp import commands, server_replies
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.server import SmtpServer
from ekiden.queue.store import StoreTrouble
from ekiden.receive.connection import Connection, ServerStops
from ekiden.receive.service import SmtpService
from ekiden.receive.transaction import Transaction, store_refusal
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
        self.is_local: bool | None = None  # one of local_header_rewrite_clients; asked for at the first MAIL
        self.transaction: Transaction | None = None
        self.errors = 0
        self.junk = 0
        self.last_command = "CONNECT"
        self.counts: dict[str, list[int]] = {}

    async def run(self) -> None:
        service, connection = self.service, self.connection
        problem = ""
        address = connection.transport.get_extra_info("peername")
        if not address:  # the client is gone already
            connection.abort()
            return
        service.sessions += 1
        connection.deadline = connection.loop.time() + self.parameters.smtpd_timeout
        try:
            await self._identify(address)
            refusal: Refusal | None = None
            try:
                self.trusted = await service.trusted.matches(self.client.address, self.client.name)
                if service.limits and not await service.unlimited.matches(self.client.address, self.client.name):
                    self.network = service.limits.network_of(self.client.address)
                newline = await self._bare_newline()
            except TableTrouble as trouble:
                # Who this client is nobody can say now, so that nothing can be refused for good either.
                text = f"{self.parameters.myhostname} Error: temporary lookup failure"
                refusal = Refusal(reply(421, "4.3.0", text, closes=True), "table-trouble", str(trouble))
            count = await service.counts.connect(self.network) if self.network else 0
            service.observer.emit(events.Connected(self.client))
            refusal = refusal or self._admission(count)
            if refusal is not None:
                self._log_refusal(refusal, "CONNECT")
                connection.write(refusal.reply.render())
                return
            problem = await self._converse(newline)
        except TimeoutError:
            problem = "timeout"
            connection.write(reply(421, "4.4.2", f"{self.parameters.myhostname} Error: timeout exceeded").render())
        except Exception as error:
            # A bug of ours. The client is told to come back, and nothing was acknowledged that is not in the queue.
            problem = "internal error"
            text = f"internal error after {self.last_command}: {type(error).__name__}: {error}"
            service.observer.emit(events.Note("smtpd", text, "error"))
            connection.write(reply(421, "4.3.0", f"{self.parameters.myhostname} Error: internal error").render())
        finally:
            service.sessions -= 1
            await self._drop_transaction()
            if self.network:
                service.counts.disconnect(self.network)
            connection.close()
            if problem:
                service.observer.emit(events.ConnectionLost(self.client, problem, self.last_command))
            service.observer.emit(
                events.Disconnected(self.client, {verb: (ok, all_) for verb, (ok, all_) in self.counts.items()})
            )

    async def _identify(self, address: tuple[Any, ...]) -> None:
        host, port = str(address[0]), int(address[1])
        # An IPv4 client of a dual-stack socket is an IPv4 client.
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        names = self.service.names
        name = names.known(host)
        if name is None:
            name = await names.look_up(host)
        shows_port = self.parameters.smtpd_client_port_logging
        self.client = Client(name=name, address=host, port=port, is_ipv6=":" in host, shows_port=shows_port)

    async def _bare_newline(self) -> BareNewline:
        """What becomes of this client's lines that end in LF. Raises TableTrouble."""
        wanted = self.service.bare_newline
        if wanted is not BareNewline.REJECT:
            return wanted
        excluded = await self.service.newline_exclusions.matches(self.client.address, self.client.name)
        return BareNewline.NORMALIZE if excluded else wanted

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
        return self._check_rate(Deed.CONNECTION)

    def _check_rate(self, deed: Deed) -> Refusal | None:
        limits = self.service.limits
        return limits.check_rate(deed, self.client, self.network) if limits.has_rates and self.network else None

    async def _converse(self, newline: BareNewline) -> str:
        """The conversation itself. Returns how it ended when the client did not say QUIT, else ""."""
        service, connection, timeout_s = self.service, self.connection, self.parameters.smtpd_timeout
        core = self.core = SmtpServer(rules=service.rules, bare_newline=newline)
        connection.write(service.greeting.render())
        handlers, now = self._HANDLERS, connection.loop.time
        in_content = False
        while True:
            event = core.next_event()
            answered = event is not None
            while event is not None:
                kind = type(event)
                in_content = kind is commands.Content
                await handlers[kind](self, event)
                event = core.next_event()
            if answered:
                output = core.take_output()
                if output:
                    connection.write(output)
                    if connection.congested:
                        await connection.writable()
                if core.closed:
                    return ""
                # A command gets its time as a whole, however slowly it drips; content earns time by its bytes.
                if not in_content:
                    connection.deadline = now() + timeout_s
            try:
                data = await connection.read()
            except ServerStops:
                if self.transaction is not None:
                    continue  # it may finish its message
                connection.write(reply(421, "4.3.2", f"{self.parameters.myhostname} Service shutting down").render())
                return ""
            if not data:
                return "lost connection"
            if not (in_content or self.parameters.smtpd_per_request_deadline):
                connection.deadline = now() + timeout_s
            if in_content:
                earned = max(connection.deadline, now()) + len(data) / self.parameters.smtpd_min_data_rate
                connection.deadline = min(earned, now() + timeout_s)
            core.receive(data)

    # One small method a verb; each answers its question once.

    async def _helo(self, event: commands.Helo) -> None:
        await self._drop_transaction()
        client = self.client
        protocol = "ESMTP" if event.extended else "SMTP"
        self.client = Client(
            client.name, client.address, event.name, protocol, client.port, client.is_ipv6, client.shows_port
        )
        self._count_junk()
        if not event.extended:
            self._accept("HELO", self.service.helo_reply)
            return
        try:
            self._accept("EHLO", await self.service.ehlo_reply_for(client.address))
        except TableTrouble as trouble:
            await self._refuse("EHLO", table_refusal(trouble))

    async def _mail(self, event: commands.Mail) -> None:
        self.last_command = "MAIL"
        if self.parameters.smtpd_helo_required and not self.client.helo:
            await self._answer("MAIL", reply(503, "5.5.1", "Error: send HELO/EHLO first"))
            return
        if (refusal := self._check_rate(Deed.MESSAGE)) is not None:
            await self._refuse("MAIL", refusal, sender=str(event.sender))
            return
        # Half as much again as the largest message, as Postfix asks for: other sessions are writing too.
        if not await self.service.has_space(self.parameters.message_size_limit * 3 // 2):
            await self._refuse(
                "MAIL", store_refusal(StoreTrouble("queue_minfree", full=True)), sender=str(event.sender)
            )
            return
        service = self.service
        if self.is_local is None:
            try:
                self.is_local = await service.rewrite_clients.include(self.client.address)
            except TableTrouble as trouble:
                await self._refuse("MAIL", table_refusal(trouble), sender=str(event.sender))
                return
        way = service.local_way if self.is_local else service.remote_way
        self.transaction = Transaction(event.sender, event.body, service.clock.time(), service.cleanup, way)
        if not self.parameters.smtpd_delay_open_until_valid_rcpt:
            self._open_message(self.transaction)
        self._accept("MAIL", server_replies.SENDER_OK)

    def _open_message(self, transaction: Transaction) -> None:
        transaction.queue_id = self.service.new_queue_id()
        self.service.observer.emit(events.Accepting(transaction.queue_id, self.client))

    async def _rcpt(self, event: commands.Rcpt) -> None:
        transaction = self.transaction
        assert transaction is not None  # the core's states know RCPT only after an accepted MAIL
        if (refusal := self._check_rate(Deed.RECIPIENT)) is not None:
            await self._refuse("RCPT", refusal, recipient=str(event.address))
            return
        limit = self.parameters.smtpd_recipient_limit
        if len(transaction.recipients) >= limit:
            transaction.overshoot += 1
            refusal = Refusal(reply(452, "4.5.3", "Error: too many recipients"), "too-many-recipients")
            is_error = transaction.overshoot > self.parameters.smtpd_recipient_overshoot_limit
            await self._refuse("RCPT", refusal, recipient=str(event.address), is_error=is_error)
            return
        try:
            address = event.address
            # RFC 5321 §4.5.1: <postmaster> is let in by that name, whatever the domain is that it gets.
            if address.domain or address.local.lower() != "postmaster":
                address = self.service.cleanup.standard(address)
            access = self.service.relay_access
            found = await access.check_sender(transaction.sender) if access.checks_senders else None
            if found is None:
                found = await access.check(address, trusted=self.trusted)
        except TableTrouble as trouble:
            found = table_refusal(trouble)
        if found is not None:
            await self._refuse("RCPT", found, recipient=str(event.address))
            return
        if not transaction.queue_id:
            self._open_message(transaction)
        transaction.recipients.append(Recipient(event.address))
        self._accept("RCPT", server_replies.RECIPIENT_OK)

    async def _data(self, _event: commands.Data) -> None:
        transaction = self.transaction
        assert transaction is not None  # the core's states know DATA only after an accepted RCPT
        service = self.service
        trace = received_field(
            client=self.client,
            queue_id=transaction.queue_id,
            recipients=tuple(transaction.recipients),
            hostname=self.parameters.myhostname,
            mail_name=self.parameters.mail_name,
            at=service.clock.time(),
            hides_client=self.parameters.smtpd_hide_client_session,
        )
        scan = HeaderScan(self.parameters.header_block_limit)
        transaction.begin_content(service.content_writer(transaction.queue_id), scan, trace)
        self._accept("DATA", server_replies.SEND_CONTENT)

    async def _content(self, event: commands.Content) -> None:
        if self.transaction is not None:
            await self.transaction.take(event.data)

    async def _end_of_content(self, event: commands.EndOfContent) -> None:
        transaction = self.transaction
        assert transaction is not None  # content follows an accepted DATA
        self.last_command = "END-OF-MESSAGE"
        self.junk = 0
        if event.has_bare_newline and event.refusal is None:
            self.service.observer.emit(
                events.Note("smtpd", f"bare newline in content from {self.client}", queue_id=transaction.queue_id)
            )
        refusal = await transaction.check_end(self.parameters.hopcount_limit) or event.refusal
        if refusal is None:
            refusal = await self._queue(transaction)
        if refusal is not None:
            await self._refuse("END-OF-MESSAGE", refusal)
        else:
            assert self.core is not None
            self.core.reply(server_replies.queued_reply(transaction.queue_id))
        await self._drop_transaction()
        if self.service.stopping:
            self.connection.hurry()

    async def _queue(self, transaction: Transaction) -> Refusal | None:
        """Hand the message to the queue: from the return of this call on we are responsible for it."""
        service, writer = self.service, transaction.writer
        assert writer is not None  # check_end has refused a message whose content is gone
        addressed = await service.cleanup.envelope(transaction.sender, transaction.recipients, transaction.way)
        if isinstance(addressed, Refusal):
            return addressed
        recipients = addressed.recipients
        try:
            content = await writer.finish()
            # From here on the content may be the queue's: a session that is cancelled must not take it away again.
            transaction.writer = None
            message = QueuedMessage(
                queue_id=transaction.queue_id,
                envelope=Envelope(addressed.sender, recipients, transaction.body, self.client),
                content=content,
                arrived=transaction.started,
                pending=tuple([Pending(recipient) for recipient in recipients]),
                message_id=transaction.message_id,
                content_filter=self.parameters.content_filter,
            )
            service.observer.emit(events.MessageId(message.queue_id, message.message_id))
            await service.intake(message)
        except StoreTrouble as trouble:
            await writer.discard()
            return store_refusal(trouble)
        return None

    async def _rset(self, _event: commands.Rset) -> None:
        await self._drop_transaction()
        self._count_junk()
        self._accept("RSET", server_replies.OK)

    async def _noop(self, _event: commands.Noop) -> None:
        self._count_junk()
        self._accept("NOOP", server_replies.OK)

    async def _vrfy(self, event: commands.Vrfy) -> None:
        # RFC 5321 §3.5.3: a server that would not say anyway answers 252, which tells a spammer nothing.
        self._count_junk()
        if self.parameters.disable_vrfy_command:
            await self._answer("VRFY", reply(502, "5.5.1", "VRFY command is disabled"))
        else:
            self._accept("VRFY", server_replies.vrfy_reply(event.text))

    async def _help(self, _event: commands.Help) -> None:
        self._count_junk()
        self._accept("HELP", server_replies.HELP)

    async def _quit(self, _event: commands.Quit) -> None:
        self._accept("QUIT", server_replies.BYE)

    async def _invalid(self, event: commands.Invalid) -> None:
        stage = event.verb or "UNKNOWN"
        # DATA that was pipelined behind refused recipients (RFC 2920 §3.1): their refusals say it all, and a log
        # analyser would count each such message twice.
        if event.reply is not server_replies.NO_VALID_RECIPIENTS:
            self._log_refusal(Refusal(event.reply, event.reason), stage)
        if event.reason == "improper-pipelining":
            assert self.core is not None
            text = f"improper command pipelining after {stage} from {self.client}: {self.core.unread(100)}"
            self.service.observer.emit(events.Note("smtpd", text))
        if event.junk:
            self._count_junk()
        await self._answer(stage if stage in _KNOWN_VERBS else "UNKNOWN", event.reply)

    _HANDLERS: ClassVar[dict[type, Callable[..., Awaitable[None]]]] = {
        commands.Helo: _helo,
        commands.Mail: _mail,
        commands.Rcpt: _rcpt,
        commands.Data: _data,
        commands.Content: _content,
        commands.EndOfContent: _end_of_content,
        commands.Rset: _rset,
        commands.Noop: _noop,
        commands.Vrfy: _vrfy,
        commands.Help: _help,
        commands.Quit: _quit,
        commands.Invalid: _invalid,
    }

    # The one way out: every reply is counted, slowed down or turned into a farewell here.

    def _accept(self, verb: str, answer: Reply) -> None:
        core = self.core
        assert core is not None  # there is a conversation
        self.last_command = verb
        count = self.counts.get(verb)
        if count is None:
            count = self.counts[verb] = [0, 0]
        count[0] += 1
        count[1] += 1
        if self.junk > self.parameters.smtpd_junk_command_limit:
            answer = self._too_many_errors()
        core.reply(answer)

    async def _answer(self, verb: str, answer: Reply, *, is_error: bool = True) -> None:
        """An answer that may be a refusal; errors are slowed down and at last end the session."""
        if answer.code < 400:
            self._accept(verb, answer)
            return
        if is_error:
            answer = await self._slow_down(answer)
        if self.service.footer is not None:
            answer = await self.service.footer.add(answer, self.client)
        self._accept(verb, answer)
        self.counts[verb][0] -= 1

    async def _refuse(
        self, stage: str, refusal: Refusal, *, sender: str = "", recipient: str = "", is_error: bool = True
    ) -> None:
        self._log_refusal(refusal, stage, sender=sender, recipient=recipient)
        await self._answer(stage, refusal.reply, is_error=is_error)

    async def _slow_down(self, answer: Reply) -> Reply:
        self.errors += 1
        if self.errors >= self.parameters.smtpd_hard_error_limit:
            return self._too_many_errors()
        if self.errors > self.parameters.smtpd_soft_error_limit:
            await self.service.clock.sleep(self.parameters.smtpd_error_sleep_time)
        return answer

    def _too_many_errors(self) -> Reply:
        return reply(421, "4.7.0", f"{self.parameters.myhostname} Error: too many errors", closes=True)

    def _count_junk(self) -> None:
        self.junk += 1

    def _log_refusal(self, refusal: Refusal, stage: str, *, sender: str = "", recipient: str = "") -> None:
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
            )
        )

    async def _drop_transaction(self) -> None:
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            await transaction.discard()


_KNOWN_VERBS = frozenset({"HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "HELP", "QUIT"})

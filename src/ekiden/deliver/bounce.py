"""Bounces: which notification goes to whom about the end of a delivery round (Postfix's bounce(8)).

In:   a message and what became of its recipients; the configuration.
Out:  notifications as messages from the null sender, for the scheduler to make durable with the round's settlement.
Never: answers a notification: what cannot be delivered from the null sender is dropped, or told to the postmaster
(class 2bounce), and what cannot be delivered from the sender of those reports is dropped without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.way import INTERNAL
from ekiden.config.snapshot import Parameters
from ekiden.deliver.own_signature import HostSigner, nothing, signed
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.clock import Clock
from ekiden.message.content import Content, InlineContent
from ekiden.message.dsn import (
    DsnKind,
    DsnRecipient,
    DsnReport,
    Original,
    compose,
    header_of,
    whole_lines,
)
from ekiden.message.envelope import BodyType, Client, Envelope, Notify, Recipient, Ret
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.reply import Refusal
from ekiden.observe.events import Note, Observer
from ekiden.queue.content import read
from ekiden.queue.notice import Ended, Notice, RoundOutcome, may_be_told, tells_success
from ekiden.queue.store import StoreTrouble

_LAST_DATE = 253_402_300_800.0  # the year 10000
_BORN_HERE = Client(name="localhost", address="127.0.0.1", protocol="local")


class MailBouncer:
    """The scheduler's Bouncer."""

    def __init__(
        self,
        *,
        parameters: Parameters,
        cleanup: Callable[[], Cleanup],
        clock: Clock,
        observer: Observer,
        signer: HostSigner = nothing,
    ) -> None:
        self.parameters = parameters  # a reload puts another snapshot here
        self._cleanup = cleanup
        self._clock = clock
        self._observer = observer
        self._signer = signer

    async def compose(
        self, message: QueuedMessage, outcome: RoundOutcome, new_queue_id: Callable[[], str]
    ) -> Sequence[Notice]:
        """See queue.notice.Bouncer. An original that cannot be read is left out of the notification."""
        sender = message.envelope.sender
        if sender == self._double_bounce:
            if outcome.failed:
                self._note(message, "undeliverable postmaster notification is dropped")
            return ()
        plans = self._plans(message, outcome)
        if not plans:  # the content need not be read
            return ()
        original = await self._original(message)
        notices: list[Notice] = []
        for kind, ended, to, for_postmaster in plans:
            dsn = await self._report(message, outcome, kind, ended, to, original, new_queue_id, for_postmaster)
            notices.append(Notice(kind.value, dsn, for_postmaster))
        return notices

    def _plans(
        self, message: QueuedMessage, outcome: RoundOutcome
    ) -> list[tuple[DsnKind, Sequence[Ended], Address, bool]]:
        """The notifications to make: what about, which recipients, to whom, and whether that is a postmaster."""
        parameters = self.parameters
        classes = parameters.notify_classes
        sender = message.envelope.sender
        plans: list[tuple[DsnKind, Sequence[Ended], Address, bool]] = []
        if sender.is_null:
            if outcome.failed and "2bounce" in classes:
                to = self._postmaster(getattr(parameters, "2bounce_notice_recipient"))
                plans.append((DsnKind.FAILURE, outcome.failed, to, True))
            elif outcome.failed:
                self._note(message, "undeliverable mail from the null sender is dropped")
            return plans
        envelope = message.envelope
        for kind, ended, wanted, notify_class, postmaster in (
            (
                DsnKind.FAILURE, outcome.failed, [each for each in outcome.failed if Notify.FAILURE in each[0].notify],
                "bounce", parameters.bounce_notice_recipient,
            ),
            (
                DsnKind.DELAY, outcome.delayed,
                [
                    each for each in outcome.delayed
                    if (may_be_told(each[0]) if outcome.overdue else Notify.DELAY in each[0].notify)
                ],
                "delay", parameters.delay_notice_recipient,
            ),
            (
                DsnKind.SUCCESS, outcome.succeeded,
                [each for each in outcome.succeeded if tells_success(envelope, *each)], "", "",
            ),
        ):  # fmt: skip
            if wanted:
                plans.append((kind, wanted, sender, False))
            if ended and notify_class and notify_class in classes:
                plans.append((kind, ended, self._postmaster(postmaster), True))
        return plans

    async def _report(
        self,
        message: QueuedMessage,
        outcome: RoundOutcome,
        kind: DsnKind,
        ended: Sequence[Ended],
        to: Address,
        original: Original | None,
        new_queue_id: Callable[[], str],
        for_postmaster: bool,
    ) -> QueuedMessage:
        parameters = self.parameters
        queue_id = new_queue_id()
        now = self._clock.time()
        message_id = f"<{queue_id}.dsn@{parameters.myhostname}>"
        until = outcome.retry_until if kind is DsnKind.DELAY else None
        # RFC 3461 §4.3: all of a message comes back only to its sender, with a failure, and unless RET=HDRS. Other
        # people's mail is not for the postmaster to read.
        is_short = for_postmaster or kind is not DsnKind.FAILURE or message.envelope.ret is Ret.HDRS
        is_global = _is_international(message.envelope, original, ended)
        if original is not None and original.is_whole and is_short:
            original = Original(header_of(original.data))
        content = compose(
            DsnReport(
                kind=kind,
                host=parameters.myhostname,
                mail_name=parameters.mail_name,
                sender=message.envelope.sender,
                to=to,
                message_id=message_id,
                boundary=f"{queue_id}.{int(now)}/{parameters.myhostname}",
                now=now,
                queue_id=message.queue_id,
                arrived=message.arrived,
                recipients=[DsnRecipient(recipient, result, until) for recipient, result in ended],
                original=original,
                subject=_postmaster_subject(kind, message.envelope.sender) if for_postmaster else "",
                is_for_postmaster=for_postmaster,
                received_from=_host_of(message.envelope.client),
                envelope_id=message.envelope.envid,
                deliver_by=_time_of(message.envelope),
                held_until=message.envelope.held_until,
                is_global=is_global,
                has_obsolete_from=parameters.header_from_format == "obsolete",
                about=message.message_id if parameters.enable_threaded_bounces else "",
                is_expired=outcome.expired and kind is DsnKind.FAILURE,
            )
        )
        # RFC 3461 §6.2: a notification asks for none itself.
        sender = self._double_bounce if for_postmaster else NULL_SENDER
        addressed = await self._cleanup().envelope(sender, (Recipient(to, notify=Notify.NEVER),), INTERNAL)
        if isinstance(addressed, Refusal):  # the round waits, and with it the message (queue.notice.Bouncer)
            raise StoreTrouble(f"{addressed.reply.text} {addressed.detail}".rstrip())
        content = await signed(content, self._signer(), lambda text: self._note(message, text))
        envelope = Envelope(
            sender=sender,  # unmapped: by its name the next bouncer must know it again
            recipients=addressed.recipients,
            body=BodyType.SEVEN_BIT if content.isascii() else BodyType.EIGHT_BIT_MIME,
            client=_BORN_HERE,
            smtputf8=is_global,
            require_tls=message.envelope.require_tls,  # RFC 8689 §5
        )
        return QueuedMessage(
            queue_id=queue_id,
            envelope=envelope,
            content=InlineContent(content),
            arrived=now,
            pending=tuple(Pending(recipient) for recipient in addressed.recipients),
            message_id=message_id,
        )

    async def _original(self, message: QueuedMessage) -> Original | None:
        """The whole message up to bounce_size_limit, else the part of its header that fits."""
        limit = self.parameters.bounce_size_limit
        content: Content = message.content
        try:
            data = await read(content, limit)
        except StoreTrouble as trouble:
            self._note(message, f"the message cannot be returned with its notification: {trouble}")
            return None
        # The sender of the envelope, as final delivery would have written it (RFC 5321 §4.4).
        path = b"Return-Path: <%b>\r\n" % str(message.envelope.sender).encode("utf-8", "surrogateescape")
        if content.size <= limit:
            return Original(path + data, is_whole=True)
        header = header_of(data)
        return Original(path + (header if len(header) < len(data) else whole_lines(data)))

    @property
    def _double_bounce(self) -> Address:
        return self._here(self.parameters.double_bounce_sender)

    def _postmaster(self, text: str) -> Address:
        return self._here(text)

    def _here(self, text: str) -> Address:
        """An address of the configuration; a bare name is one of this host."""
        local, at, domain = text.rpartition("@")
        return Address(local, domain) if at else Address(text, self.parameters.myhostname)

    def _note(self, message: QueuedMessage, text: str) -> None:
        self._observer.emit(Note("bounce", text, "warning", message.queue_id))


def _time_of(envelope: Envelope) -> float | None:
    """The time of DELIVERBY, if it is one that a date can name."""
    by = envelope.deliver_by
    return by.until if by is not None and 0 <= by.until < _LAST_DATE else None


def _is_international(envelope: Envelope, original: Original | None, ended: Sequence[Ended]) -> bool:
    """RFC 6533 §2: who sent a message with SMTPUTF8 reads such a report; an ASCII one has its older form."""
    if not envelope.smtputf8:
        return False
    addresses = [envelope.sender, *(recipient.address for recipient, _ in ended)]
    header = b"" if original is None else header_of(original.data)
    return not (header.isascii() and all(str(address).isascii() for address in addresses))


def _postmaster_subject(kind: DsnKind, sender: Address) -> str:
    if kind is DsnKind.DELAY:
        return "Postmaster Warning: Delayed Mail"
    return "Postmaster Copy: Undelivered Mail" if not sender.is_null else "Postmaster Copy: Undeliverable Notification"


def _host_of(client: Client) -> str:
    if client.name != "unknown":
        return client.name
    return f"[{client.address}]" if client.address != "unknown" else ""

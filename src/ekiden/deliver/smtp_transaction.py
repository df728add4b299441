"""One mail transaction of a delivery: what is asked of the server, and what its replies mean for each recipient."""

from __future__ import annotations

from ekiden.deliver.connection import Connection, Endpoint, Lost, TimedOut
from ekiden.deliver.smtp_outcome import facts_of, label, of_reply, of_trouble
from ekiden.message.content import InlineContent, OutgoingContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, failed
from ekiden.message.envelope import BodyType
from ekiden.message.status import Status
from ekiden.protocol.smtp.client import Event, Finished, SendContent, SmtpClient, Stage, Transaction, Trouble
from ekiden.protocol.smtp.client_transaction import wire_path
from ekiden.queue.content import chunks


class Job:
    """One delivery under way: ``results`` so far, ``open`` the recipients that another server may still take."""

    __slots__ = (
        "at_fallback",
        "connect_s",
        "content",
        "open",
        "paths",
        "request",
        "results",
        "sender",
        "sessions",
        "tried",
    )

    def __init__(self, request: DeliveryRequest, content: OutgoingContent, *, quotes: bool) -> None:
        """``quotes``: local parts that need quotes get them."""
        self.request = request
        self.content = content
        self.results: list[DeliveryResult | None] = [None] * len(request.recipients)
        self.open = list(range(len(request.recipients)))
        self.sessions = 0
        self.connect_s = 0.0
        self.tried: Endpoint | None = None  # by a connection of the pool
        self.at_fallback = False  # what follows goes to a fallback relay
        sender = wire_path(request.envelope.sender, quotes=quotes)
        paths = [wire_path(recipient.address, quotes=quotes) for recipient in request.recipients]
        self.sender = sender or b"<>"
        self.paths = [path or b"<>" for path in paths]
        if sender is None:
            self.settle(failed(Status(5, 1, 7), "bad sender address syntax"))
        elif None in paths:
            for at, path in enumerate(paths):
                if path is None:
                    self.results[at] = failed(Status(5, 1, 3), "bad recipient address syntax")
            self.open = [at for at, path in enumerate(paths) if path is not None]

    def settle(self, result: DeliveryResult) -> None:
        """One final result for all that are open."""
        for at in self.open:
            self.results[at] = result
        self.open = []

    def remember(self, result: DeliveryResult) -> None:
        """A reason to wait, for the open ones; a server's own words about a recipient outweigh a failed connection."""
        for at in self.open:
            known = self.results[at]
            if known is None or result.relay != "none" or known.relay == "none":
                self.results[at] = result


async def converse(connection: Connection, job: Job) -> Event | None:
    """MAIL to the last reply: the event that ends it, or None when ``job`` was settled without a word."""
    request, client = job.request, connection.client
    content = job.content
    transaction = Transaction(
        job.sender,
        [job.paths[at] for at in job.open],
        size=content.size,
        eight_bit=request.envelope.body is BodyType.EIGHT_BIT_MIME,
    )
    if (problem := _misfit(transaction, connection)) is not None:
        job.settle(problem)
        return None
    connection.begin(transaction)
    event = await connection.event()
    if not isinstance(event, SendContent):
        return event
    if isinstance(content, InlineContent):
        client.send_content(content.data)
    else:
        async for chunk in chunks(content):
            client.send_content(chunk)
            connection.flush()
            if not await connection.drain(len(chunk)):
                return await connection.event()
    client.end_content()
    connection.flush()
    return await connection.event()


def judge(event: Event, connection: Connection, job: Job, transmit_s: float, *, assume_final: bool) -> None:
    """Give every open recipient its result; those that are put off stay open for the next server."""
    endpoint = connection.endpoint
    facts = facts_of(endpoint, job.connect_s, transmit_s)
    job.connect_s = 0.0
    trouble: DeliveryResult | None = None
    still_open: list[int] = []
    for at, outcome in zip(job.open, connection.client.outcomes, strict=True):
        if outcome is not None:
            result = of_reply(outcome, endpoint, connection.relay, facts, final=assume_final)
            if not result.is_final:
                still_open.append(at)
        else:
            if trouble is None:
                if not isinstance(event, Lost | TimedOut | Trouble):
                    event = Trouble(connection.client.stage, "no reply for every recipient")
                trouble = of_trouble(event, endpoint, facts)
            result = trouble
            # After the final dot the message may have arrived: another server now would make a duplicate likely.
            if not isinstance(event, Lost | TimedOut | Trouble) or event.stage is not Stage.END_OF_DATA:
                still_open.append(at)
        job.results[at] = result
    job.open = still_open


def was_stale(event: Event, client: SmtpClient) -> bool:
    """A reused connection that ended before the server took notice of the message: gone, or 421 for an answer."""
    if isinstance(event, Finished):
        first = client.outcomes[0]
        return first is not None and first.reply.code == 421 and first.stage in (Stage.RSET, Stage.MAIL)
    return isinstance(event, Lost | Trouble) and event.stage in (Stage.IDLE, Stage.RSET, Stage.MAIL)


def _misfit(transaction: Transaction, connection: Connection) -> DeliveryResult | None:
    """Why this server need not be asked at all."""
    extensions = connection.client.extensions
    if 0 < extensions.size_limit < transaction.size:
        text = (
            f"message size {transaction.size} exceeds size limit {extensions.size_limit} "
            f"of server {label(connection.endpoint)}"
        )
        return failed(Status(5, 3, 4), text, relay=connection.relay)
    if transaction.needs_utf8 and not extensions.smtputf8:
        text = f"SMTPUTF8 is required, but was not offered by host {label(connection.endpoint)}"
        return failed(Status(5, 6, 7), text, relay=connection.relay)
    return None

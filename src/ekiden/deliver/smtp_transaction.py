"""One mail transaction of a delivery: what is asked of the server, and what its replies mean for each recipient."""

from __future__ import annotations

from ekiden.deliver.connection import Connection, Lost, TimedOut
from ekiden.deliver.smtp_conversion import rewritten
from ekiden.deliver.smtp_job import Job
from ekiden.deliver.smtp_message import form_for
from ekiden.deliver.smtp_outcome import facts_of, of_reply, of_trouble
from ekiden.deliver.smtp_settings import SmtpSettings
from ekiden.message.content import InlineContent
from ekiden.message.delivery import Action, DeliveryResult
from ekiden.protocol.smtp.client import Event, Finished, SendContent, SmtpClient, Stage, Trouble
from ekiden.queue.content import chunks

_BEFORE_MAIL = (Stage.RSET, Stage.XFORWARD, Stage.MAIL)


def fitting(job: Job, waiting: list[int], connection: Connection) -> tuple[list[int], list[int]]:
    """Those that the next transaction may be for, and the others: none, unless the server limits it (RFC 9422)."""
    limits = connection.client.extensions.limits
    if not (limits.recipients or limits.domains):
        return waiting, []
    if not limits.domains:
        taken = waiting[: limits.recipients]
    else:
        taken, domains = [], connection.domains
        for at in waiting:
            domain = job.request.recipients[at].address.domain.lower()
            if len(taken) == limits.recipients > 0:
                break
            if domain in domains or len(domains) < limits.domains:
                domains.add(domain)
                taken.append(at)
    gone = set(taken)
    return taken, [at for at in waiting if at not in gone]


def has_room(connection: Connection) -> bool:
    """The server takes one more transaction in this session (RFC 9422 §4.1 MAILMAX)."""
    return not 0 < connection.client.extensions.limits.transactions <= connection.uses


async def converse(
    connection: Connection, job: Job, asked: list[int], settings: SmtpSettings, *, now: float
) -> Event | None:
    """MAIL to the last reply: the event that ends it, or None when there was no need for a word.

    ``asked`` are the recipients to ask for; ``job.asked`` those that the server heard of. The others have their result.
    ``now``: seconds since the epoch.
    """
    client = connection.client
    form = await form_for(job, asked, connection, settings, now=now)
    if isinstance(form, DeliveryResult):
        job.settle(form)
        return None
    job.asked = form.asked
    if not form.asked:
        return None
    content = form.content
    connection.begin(form.transaction)
    event = await connection.event()
    if not isinstance(event, SendContent):
        return event
    if isinstance(content, InlineContent):
        client.send_content(content.data)
    else:
        survey, limits = form.survey, settings.mime.limits
        async for chunk in chunks(content) if survey is None else rewritten(content, limits, survey):
            client.send_content(chunk)
            connection.flush()
            if not await connection.drain(len(chunk)):
                return await connection.event()
    client.end_content()
    connection.flush()
    return await connection.event()


def judge(event: Event, connection: Connection, job: Job, transmit_s: float, *, assume_final: bool) -> None:
    """Give every recipient that was asked for its result; those that are put off stay open for the next server."""
    endpoint = connection.endpoint
    facts = facts_of(endpoint, job.connect_s, transmit_s)
    if connection.tls is not None:
        facts["tls"] = connection.tls.summary
    job.connect_s = 0.0
    extensions = connection.client.extensions
    if extensions.dsn:
        facts["dsn_passed"] = True
    if extensions.deliver_by and job.request.envelope.deliver_by is not None:
        facts["by_passed"] = True
    trouble: DeliveryResult | None = None
    closed: set[int] = set()
    for at, outcome in zip(job.asked, connection.client.outcomes, strict=True):
        if outcome is not None:
            result = of_reply(outcome, endpoint, connection.relay, facts, final=assume_final)
            if result.action is not Action.DELAYED:
                closed.add(at)
        else:
            if trouble is None:
                if not isinstance(event, Lost | TimedOut | Trouble):
                    event = Trouble(connection.client.stage, "no reply for every recipient")
                trouble = of_trouble(event, endpoint, facts)
            result = trouble
            if isinstance(event, Lost | TimedOut | Trouble) and _may_have_arrived(event, connection.client):
                closed.add(at)
        job.results[at] = result
    job.open = [at for at in job.open if at not in closed]


def _may_have_arrived(event: Lost | TimedOut | Trouble, client: SmtpClient) -> bool:
    """The server has all of the message: to try another one now would make a duplicate likely.

    That is so after the final dot, and with a slow server that has the content before its turn.
    """
    if event.stage is Stage.END_OF_DATA:
        return True
    return isinstance(event, TimedOut) and client.transaction is not None and client.transaction.early


def was_stale(event: Event, client: SmtpClient) -> bool:
    """A reused connection that ended before the server took notice of the message: gone, or 421 for an answer."""
    if isinstance(event, Finished):
        first = client.outcomes[0]
        return first is not None and first.reply.code == 421 and first.stage in _BEFORE_MAIL
    return isinstance(event, Lost | Trouble) and event.stage in (Stage.IDLE, *_BEFORE_MAIL)

"""A worker's connection to the deliverer process: jobs out, answers back, many at once.

Jobs of one turn of the event loop share a packet. When the deliverer dies, whatever it had not answered is deferred (it
may have been written: the mail then comes twice), and what comes later waits a while for the next deliverer.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import os
import socket
from collections.abc import Sequence

from msgspec import Struct

from ekiden.deliver.delivery_header import address_bytes
from ekiden.deliver.mailbox_jobs import (
    INLINE_BYTES,
    NO_FACTS,
    PACKET_BYTES,
    Answer,
    Facts,
    Inbox,
    Job,
    Outbox,
    Outcome,
    PacketTrouble,
    Transport,
    content_of,
    deferred,
)
from ekiden.deliver.mailbox_text import write_all
from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, failed
from ekiden.message.delivery import deferred as deferred_result
from ekiden.message.delivery import delivered as delivered_result
from ekiden.message.envelope import Recipient
from ekiden.message.status import Status

# Room for the msgpack framing of one job beside its texts.
_FRAMING_BYTES = 64


class _Request(Struct, frozen=True):
    """A job that has not been sent."""

    transport: Transport
    recipient: bytes
    sender: bytes
    head: bytes
    content: Content
    facts: Facts
    without_mailbox: bool
    done: tuple[str, ...]
    future: asyncio.Future[Answer]


class MailboxChannel:
    """``job_limit``: jobs under way at once; ``restart_wait_s``: how long jobs wait for a deliverer to be attached."""

    def __init__(self, *, job_limit: int, restart_wait_s: float) -> None:
        self._job_limit = job_limit
        self._restart_wait_s = restart_wait_s
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox = Outbox()
        self._inbox: Inbox[Answer] = Inbox(Answer)
        self._waiting: collections.deque[_Request] = collections.deque()
        self._unanswered: dict[int, asyncio.Future[Answer]] = {}
        self._last_job = 0
        self._scheduled = False
        self._full = False
        self._give_up: asyncio.TimerHandle | None = None
        self._closed = False

    def attach(self, sock: socket.socket) -> None:
        """Use a socket (AF_UNIX, SOCK_SEQPACKET) to a new deliverer; the channel owns it. Call it inside the loop."""
        self._detach("the mailbox delivery process was replaced")
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop, self._sock = loop, sock
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        loop.add_reader(sock.fileno(), self._readable)
        self._schedule(loop)

    def submit(
        self,
        transport: Transport,
        recipient: bytes,
        sender: bytes,
        head: bytes,
        content: Content,
        *,
        facts: Facts = NO_FACTS,
        without_mailbox: bool = False,
        done: tuple[str, ...] = (),
    ) -> asyncio.Future[Answer]:
        """Ask for one message to be written to one mailbox. The answer's id is without meaning for the caller.

        A future that is cancelled does not take the job back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if self._closed:
            future.set_result(deferred(0, 3, 2, "the server is stopping"))
            return future
        self._waiting.append(
            _Request(transport, recipient, sender, head, content, facts, without_mailbox, done, future)
        )
        if self._sock is not None:
            self._schedule(loop)
        elif self._give_up is None:
            self._give_up = loop.call_later(self._restart_wait_s, self._nobody_came)
        return future

    def close(self) -> None:
        """Let go of the deliverer; what it has not answered is deferred."""
        self._closed = True
        self._detach("the server is stopping")
        self._defer_waiting("the server is stopping")
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None

    # -- sending ---------------------------------------------------------------------------------------------------

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        if self._sock is None:
            return
        waiting, unanswered = self._waiting, self._unanswered
        while waiting and len(unanswered) < self._job_limit:
            request = waiting.popleft()
            if request.future.done():  # cancelled before it was sent
                continue
            self._last_job += 1
            try:
                self._put(request, self._last_job)
            except OSError as error:
                text = f"cannot hand the message to the mailbox delivery process: {error.strerror}"
                request.future.set_result(deferred(0, 3, 0, text))
            else:
                unanswered[self._last_job] = request.future
        try:
            full = not self._outbox.flush(self._sock)
        except OSError:
            self._detach("the mailbox delivery process is gone")
            return
        if full != self._full and self._loop is not None:
            self._full = full
            if full:
                self._loop.add_writer(self._sock.fileno(), self._send)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def _put(self, request: _Request, number: int) -> None:
        """Queue a job for sending. Raises OSError."""
        texts = len(request.recipient) + len(request.sender) + len(request.head) + _FRAMING_BYTES
        if request.facts is not NO_FACTS:
            texts += _facts_bytes(request.facts) + sum(len(key) + 5 for key in request.done)
        if texts > PACKET_BYTES - INLINE_BYTES:
            raise OSError(errno.EMSGSIZE, "the addresses are too long")
        content = request.content
        if isinstance(content, FileContent):
            # Opened only now: a thousand jobs that wait must not hold a thousand descriptors.
            data, fd = None, _open_whole(content)
        elif content.size > INLINE_BYTES:
            data, fd = None, _in_memory_file(content.data)
        else:
            data, fd = content.data, -1
        job = Job(
            number, request.transport, request.recipient, request.sender, request.head, data, request.content.size,
            request.facts, request.without_mailbox, request.done,
        )  # fmt: skip
        self._outbox.put(job, fd)

    # -- receiving -------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        unanswered = self._unanswered
        while self._sock is not None:
            try:
                packet = self._inbox.receive(self._sock)
            except BlockingIOError:
                break
            except (PacketTrouble, OSError):
                packet = None
            if packet is None:
                self._detach("the mailbox delivery process is gone")
                return
            fds = iter(packet[1])
            for answer in packet[0]:
                answer = content_of(answer, fds)
                future = unanswered.pop(answer.id, None)
                if future is not None and not future.done():
                    future.set_result(answer)
        if self._waiting:
            self._send()

    # -- without a deliverer ---------------------------------------------------------------------------------------

    def _detach(self, why: str) -> None:
        if self._sock is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
        self._full = False
        self._sock.close()
        self._sock = None
        self._outbox.clear()
        unanswered, self._unanswered = self._unanswered, {}
        for future in unanswered.values():
            if not future.done():
                future.set_result(deferred(0, 3, 0, why))
        if self._waiting and self._give_up is None and self._loop is not None and not self._closed:
            self._give_up = self._loop.call_later(self._restart_wait_s, self._nobody_came)

    def _nobody_came(self) -> None:
        self._give_up = None
        self._defer_waiting("the mailbox delivery process is not there")

    def _defer_waiting(self, why: str) -> None:
        waiting, self._waiting = self._waiting, collections.deque()
        for request in waiting:
            if not request.future.done():
                request.future.set_result(deferred(0, 3, 0, why))


def result_of(answer: Answer, relay: str, transmit_s: float) -> DeliveryResult:
    """An answer as the result of a delivery agent."""
    status = Status(answer.outcome.value, answer.subject, answer.detail)
    if answer.outcome is Outcome.DELIVERED:
        return delivered_result(status, answer.text, relay=relay, transmit_s=transmit_s)
    if answer.outcome is Outcome.DEFERRED:
        return deferred_result(status, answer.text, relay=relay, transmit_s=transmit_s)
    return failed(status, answer.text, relay=relay, transmit_s=transmit_s)


def facts_of(
    request: DeliveryRequest,
    recipient: Recipient,
    *,
    delivered_to: Address | None = None,
    recipients: Sequence[Recipient] = (),
) -> Facts:
    """What a command may be told of a request. ``recipients`` are for pipe services, which may get several at once."""
    client = request.envelope.client
    return Facts(
        queue_id=request.queue_id,
        recipient=address_bytes(recipient.address),
        original=address_bytes(recipient.original or recipient.address),
        delivered_to=b"" if delivered_to is None else address_bytes(delivered_to),
        client_name=_told(client.name),
        client_address=_told(client.address),
        client_helo=_told(client.helo),
        client_protocol=_told(client.protocol),
        client_port=str(client.port or ""),
        next_hop=request.next_hop if recipients else "",
        recipients=tuple(
            (address_bytes(one.address), address_bytes(one.original or one.address)) for one in recipients
        ),
    )


def _told(text: str) -> str:
    """Text that msgpack can carry: a peer may have said what is no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _facts_bytes(facts: Facts) -> int:
    texts = (facts.queue_id, facts.client_name, facts.client_address, facts.client_helo, facts.client_protocol)
    size = sum(4 * len(text) + 5 for text in (*texts, facts.client_port, facts.next_hop))
    size += len(facts.recipient) + len(facts.original) + len(facts.delivered_to) + 15
    return size + sum(len(one) + len(other) + 11 for one, other in facts.recipients)


def _open_whole(content: FileContent) -> int:
    """Who gets the descriptor takes the end of the file for the content. Raises OSError."""
    fd = os.open(content.path, os.O_RDONLY | os.O_CLOEXEC)
    if os.fstat(fd).st_size != content.start + content.size:
        os.close(fd)
        raise OSError(errno.EIO, f"{content.path} has not the size that the queue knows")
    return fd


def _in_memory_file(data: bytes) -> int:
    """Content that is too long for a packet and lies in no file, as a descriptor. Raises OSError."""
    fd = os.memfd_create("content", os.MFD_CLOEXEC)
    try:
        write_all(fd, data)
    except OSError:
        os.close(fd)
        raise
    return fd

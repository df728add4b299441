"""One connection to an SMTP or LMTP server: the client core on a socket, with TLS between them if wanted, one deadline.

The core is fed where the bytes arrive; a delivery sleeps until there is an event for it, and is woken once for each.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from msgspec import Struct

from ekiden.message.host import Host
from ekiden.message.tls_facts import TlsFacts
from ekiden.net.outbox import Outbox, Output
from ekiden.protocol.smtp.client import Event, SmtpClient, Stage, Transaction
from ekiden.sasl.client_mechanisms import Credentials
from ekiden.tls.client_context import ClientLayer
from ekiden.tls.layer import TlsFailure
from ekiden.tls.policy import TlsPolicy


class UnixHost(Struct, frozen=True):
    """A server behind a unix-domain socket."""

    name: str  # this host's
    path: str

    def __str__(self) -> str:
        """As the mail log's ``relay=`` writes it."""
        return f"{self.name}[{self.path}]"


Endpoint = Host | UnixHost


class Lost(Event, frozen=True):
    """The connection ended while the core waited."""

    stage: Stage


class TimedOut(Event, frozen=True):
    stage: Stage


class Handshaken(Event, frozen=True):
    """TLS is there; who the server is, is for the delivery to find out."""


class HandshakeFailed(Event, frozen=True):
    text: str


HANDSHAKEN = Handshaken()


class Connection(asyncio.Protocol):
    """``timeouts`` are seconds by Stage; ``born`` is the loop's time.

    ``tls`` and ``policy`` are what a session with TLS was found to be, and the policy that it was made under.
    """

    __slots__ = (
        "_armed", "_content_rate", "_content_until", "_deadline", "_event", "_loop", "_outbox", "_output",
        "_retiring", "_stage",
        "_timeouts", "_timer", "_transport", "_waiter", "_writable", "born", "client", "closed", "credentials",
        "domains", "endpoint", "idle_since", "layer", "lost", "next_hop", "policy", "relay", "suits_all", "tls", "uses",
    )  # fmt: skip

    def __init__(
        self,
        client: SmtpClient,
        endpoint: Endpoint,
        timeouts: tuple[float, ...],
        loop: asyncio.AbstractEventLoop,
        *,
        outbox: Outbox,
        content_rate: int = 0,
        layer: ClientLayer | None = None,
    ) -> None:
        """``content_rate``: the bytes a second that content must be taken at; 0 asks for some progress only.

        ``layer``: TLS begins with the connection (smtp_tls_wrappermode); the first event is that of the handshake.
        """
        self.client = client
        self.endpoint = endpoint
        self.relay = str(endpoint)
        self.born = loop.time()
        self.idle_since = 0.0
        self.uses = 0  # transactions begun
        self.domains: set[str] = set()  # of recipients, where the server counts them (RFC 9422)
        self.lost = False
        self.next_hop = ""  # that the server was found for
        self.layer = layer
        self.tls: TlsFacts | None = None
        self.policy: TlsPolicy | None = None
        self.credentials: Credentials | None = None  # that the session is logged in with
        self.suits_all = False  # any message of its next hop may use it, but one with REQUIRETLS
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._timeouts = timeouts
        self._content_rate = content_rate
        self._content_until = float("inf")  # the loop's time that content has been given so far
        self._transport: asyncio.Transport | None = None
        self._outbox = outbox
        self._output: Output | None = None
        self._retiring = False
        self._event: Event | None = None  # came while nobody waited
        self._waiter: asyncio.Future[Event] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._stage = client.stage  # what the deadline is for
        self._deadline = float("inf")
        self._armed = float("inf")  # when the timer goes off; never later than the deadline
        self._timer: asyncio.TimerHandle | None = None

    # -- what a delivery does --

    def event(self) -> asyncio.Future[Event]:
        """The next event, within the time its stage has: the core's, Lost or TimedOut."""
        waiter: asyncio.Future[Event] = self._loop.create_future()
        shakes_hands = self.layer is not None and not self.layer.done
        event, self._event = self._event, None
        if event is None and self.lost:
            event = Lost(self.client.stage)
        # A second reply in the segment of the last event: no more bytes will come to tell of it.
        if event is None and not shakes_hands and self.client.has_unread:
            event = self.client.next_event()
        if event is not None:
            waiter.set_result(event)
        else:
            self._expect(Stage.TLS if shakes_hands else self.client.stage)
            self._waiter = waiter
        return waiter

    def start_tls(self, layer: ClientLayer) -> None:
        """After StartTls: the next event is Handshaken, HandshakeFailed, or that there is no connection any more."""
        self.layer = layer
        self._shake_hands(b"")

    def begin(self, transaction: Transaction) -> None:
        self.uses += 1
        self._content_until = float("inf")
        self.client.begin(transaction)
        self.flush()

    def flush(self) -> None:
        """Write what the core wants written."""
        if output := self.client.take_output():
            self._write(output)

    async def drain(self, size: int) -> bool:
        """Wait until there is room for more; False: an event has come, so that no more is wanted.

        ``size`` bytes of content were written since the last time.
        """
        if self._content_rate:
            longest = self._loop.time() + self._timeouts[self.client.stage]
            self._content_until = min(self._content_until + size / self._content_rate, longest)
        if self._output is not None:
            self._output.send()  # whether there is room, shows when it is sent
        if self._writable is not None and self._event is None and not self.lost:
            # Progress, not the whole content, is what the time is for: every wait has it anew. With a rate the content
            # has the time that its bytes earned, but no more than that.
            self._stage = self.client.stage
            self._set_deadline(min(self._loop.time() + self._timeouts[self._stage], self._content_until))
            await self._writable
        return self._event is None and not self.lost

    @property
    def local_address(self) -> str:
        """The IP address that the connection is from; "" where there is none."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def usable(self) -> bool:
        """Another transaction can begin: the server has neither gone nor spoken unasked."""
        return (
            self.client.reusable
            and not self.lost
            and self._event is None
            and self._output is not None
            and not self._output.is_closing()
        )

    def retire(self, *, wait_for_reply: bool) -> None:
        """Say QUIT where that makes sense and close; nobody waits for it."""
        if self.usable:
            self._retiring = True
            self.client.quit()
            self.flush()
            self._expect(self.client.stage)
            if not wait_for_reply:
                self._close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once and send nothing more, least of all a final dot."""
        if self._output is not None:
            self._output.abort()

    # -- what the loop calls --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._output = Output(self._outbox, self._transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.layer is not None:
            self._shake_hands(b"")

    def data_received(self, data: bytes) -> None:
        if self.layer is not None:
            data = self._decrypted(data)
            if not data:
                return
        client = self.client
        client.receive(data)
        event = client.next_event()
        if event is not None:  # it is the delivery's turn: the core has nothing to say
            self._tell(event)
            return
        if output := client.take_output():
            self._write(output)
        if self._waiter is not None and client.stage is not self._stage:
            self._expect(client.stage)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._output is not None:
            self._output.drop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_writer()
        if self._waiter is not None:
            self._tell(Lost(self.client.stage))
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self._wake_writer()

    # -- inside --

    def _write(self, output: bytes) -> None:
        if self._output is None or self.lost:
            return
        if self.layer is not None:
            try:
                output = self.layer.send(output)
            except TlsFailure:
                self.abort()  # nothing is left to speak through; whoever waits hears that it is lost
                return
        self._output.say(output)

    def _shake_hands(self, data: bytes) -> None:
        """One step of the handshake."""
        assert self.layer is not None
        event: Event | None
        try:
            event = HANDSHAKEN if self.layer.handshake(data) else None
        except TlsFailure as failure:
            event = HandshakeFailed(str(failure))
        if (output := self.layer.take_output()) and self._output is not None:
            self._output.say(output)  # what is told of a failure, too
        if event is not None:
            self._tell(event)

    def _decrypted(self, data: bytes) -> bytes:
        """What the server says, of what has come; b"" for nothing yet."""
        assert self.layer is not None
        if not self.layer.done:
            self._shake_hands(data)
            if not self.layer.done:
                return b""
            data = b""  # what came behind the handshake lies in the layer
        try:
            plain = self.layer.receive(data)
        except TlsFailure:
            self.abort()
            return b""
        assert self._output is not None  # bytes have come
        self._output.say(self.layer.take_output())  # an answer of TLS itself
        if self.layer.ended:
            self._output.close()  # the server's farewell: what comes after it is nobody's
        return plain

    def _tell(self, event: Event) -> None:
        self._deadline = float("inf")
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            if not waiter.done():  # else the delivery was cancelled
                waiter.set_result(event)
            return
        if self._retiring:
            self._close()
            return
        self._event = event
        self._wake_writer()

    def _wake_writer(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _close(self) -> None:
        # What is still to be written may take as long as a reply to QUIT; then the deadline ends it.
        if self._output is not None:
            if self.layer is not None and self.layer.done and not self.layer.ended:
                self.layer.close()
                self._output.say(self.layer.take_output())
            self._output.close()

    def _expect(self, stage: Stage) -> None:
        self._stage = stage
        deadline = self._loop.time() + self._timeouts[stage]
        if deadline < self._armed:
            self._set_deadline(deadline)
        else:
            self._deadline = deadline

    def _set_deadline(self, deadline: float) -> None:
        """The timer is moved only when it would come too late: else it looks at the deadline when it goes off."""
        self._deadline = deadline
        if deadline < self._armed and not self.lost:
            if self._timer is not None:
                self._timer.cancel()
            self._armed = deadline
            self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        self._armed = float("inf")
        if self._loop.time() < self._deadline:
            if self._deadline != float("inf"):
                self._set_deadline(self._deadline)
            return
        event = TimedOut(self._stage)
        self.abort()
        self.lost = True
        self._tell(event)

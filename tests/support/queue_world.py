"""A scheduler in a world of fakes: store, clock, routes, agents and peers that tests set up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ekiden.config.snapshot import Parameters
from ekiden.deliver.bounce import MailBouncer
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, Route, relayed
from ekiden.message.envelope import Envelope, Notify, Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.queueid import QueueIds
from ekiden.message.status import Status
from ekiden.observe.events import Attempted, Event
from ekiden.queue.scheduler import Scheduler
from support.cleanup import cleanup_for
from support.fake_clock import FakeClock, settle_down
from support.fake_store import FakeStore

E = TypeVar("E", bound=Event)
OK = relayed(Status(2, 0, 0), "250 2.0.0 Ok", relay="mx.example[192.0.2.1]:25")
CONTENT = b"From: ann@example.com\r\nSubject: hello\r\nMessage-ID: <1@example.com>\r\n\r\nHello.\r\n"


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain) if local else NULL_SENDER


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


class World:
    """``peer(request)`` decides what an agent answers; ``route(address)`` where an address goes."""

    def __init__(self, *, store: type[FakeStore] = FakeStore, **settings: str) -> None:
        self.clock = FakeClock()
        self.store = store(self.clock)
        self.settings = {"myhostname": "mx.here.example", **settings}
        self.seen = Recorder()
        self.ids = QueueIds(0)
        self.requests: list[DeliveryRequest] = []
        self.running = self.most_running = 0
        self.load = 0.0
        self.peer: Callable[[DeliveryRequest], Awaitable[Sequence[DeliveryResult]]] = self.all_fine
        self.route: Callable[[Address], Route | DeliveryResult] = lambda to: Route("smtp", to.domain, to)
        self.scheduler = self.new_scheduler()

    def new_scheduler(self) -> Scheduler:
        parameters = Parameters(self.settings)
        return Scheduler(
            store=self.store,
            resolve=self._resolve,
            deliver=self._deliver,
            bounce=MailBouncer(
                parameters=parameters, cleanup=lambda: cleanup_for(parameters), clock=self.clock, observer=self.seen
            ),
            observer=self.seen,
            clock=self.clock,
            random=random.Random(1),
            parameters=parameters,
            new_queue_id=self.new_id,
            load=lambda: self.load,
        )

    def new_id(self) -> str:
        return self.ids.new(self.clock.time())

    async def _resolve(self, to: Address, sender: Address) -> Route | DeliveryResult:
        return self.route(to)

    async def _deliver(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.peer(request)
        finally:
            self.running -= 1

    async def all_fine(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await asyncio.sleep(0)
        return [OK] * len(request.recipients)

    def answers(self, result: DeliveryResult) -> None:
        async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
            await asyncio.sleep(0)
            return [result] * len(request.recipients)

        self.peer = peer

    def message(
        self, *to: str, sender: str = "ann@example.com", content: bytes = CONTENT, notify: Notify | None = None
    ) -> QueuedMessage:
        flags = Notify.FAILURE | Notify.DELAY if notify is None else notify
        recipients = tuple(Recipient(address(each), notify=flags) for each in to or ("bob@far.example",))
        return QueuedMessage(
            queue_id=self.new_id(),
            envelope=Envelope(address(sender), recipients),
            content=InlineContent(content),
            arrived=self.clock.time(),
            pending=tuple(Pending(each) for each in recipients),
            message_id="<1@example.com>",
        )

    def attempts(self, recipient: str) -> list[Attempted]:
        return [event for event in self.seen.of(Attempted) if event.recipient == recipient]

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test with the scheduler started, and stop it afterwards."""

        async def whole() -> None:
            self.scheduler.start()
            await settle_down()
            await story()
            stopping = asyncio.ensure_future(self.scheduler.stop(1.0))
            await self.clock.advance(2.0)
            await stopping

        asyncio.run(whole())

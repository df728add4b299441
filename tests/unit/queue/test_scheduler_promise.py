"""No recipient is lost: each ends delivered, in a durable notification, or still in the queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, failed
from ekiden.message.status import Status
from support.fake_clock import settle_down
from support.fake_store import FakeBatchStore, FakeStore
from support.queue_world import OK, World

OUTCOMES = {
    "ok": OK,
    "no": failed(Status(5, 1, 1), "no such user"),
    "later": deferred(Status(4, 2, 2), "mailbox full"),
    "gone": deferred(Status(4, 4, 1), "connection refused"),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    messages=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6),
    outcomes=st.lists(st.sampled_from([*OUTCOMES, "raise"]), min_size=1, max_size=30),
    troubles=st.lists(st.booleans(), max_size=20),
    batches=st.booleans(),
    hours=st.integers(0, 130),
    crash=st.booleans(),
)
def test_every_recipient_ends_in_one_place(
    messages: list[list[int]], outcomes: list[str], troubles: list[bool], batches: bool, hours: int, crash: bool
) -> None:
    world = World(store=FakeBatchStore if batches else FakeStore, default_destination_recipient_limit="2")
    told = iter(outcomes * 100_000)
    refused = iter(troubles)
    arrived: Counter[str] = Counter()
    attempts_after_end: list[str] = []
    over: set[str] = set()

    async def peer(request: DeliveryRequest) -> Sequence[DeliveryResult]:
        await asyncio.sleep(0)
        word = next(told)
        if word == "raise":
            raise RuntimeError("bug")
        results = []
        for each in request.recipients:
            name = str(each.address)
            result = OK if each.address.domain == "example.com" else OUTCOMES[word]
            if name in over and each.address.domain != "example.com":
                attempts_after_end.append(name)
            if result.is_final:
                over.add(name)
            if result is OK:
                arrived[name] += 1
            results.append(result)
        return results

    world.peer = peer
    world.store.trouble = lambda verb, queue_id: verb == "settle" and next(refused, False)
    everybody: list[str] = []

    async def story() -> None:
        world.scheduler.start()
        for number, domains in enumerate(messages):
            to = [f"m{number}r{at}@d{domain}.example" for at, domain in enumerate(domains)]
            everybody.extend(to)
            await world.scheduler.accept(world.message(*to))
        await world.clock.advance(hours * 3600)
        await settle_down(100)
        if crash:  # nobody stops it; another one takes over what is durable
            return
        stopping = asyncio.ensure_future(world.scheduler.stop(10.0))
        await world.clock.advance(60)
        await stopping

    asyncio.run(story())
    reported = [each.content.data.decode() for each in world.store.born if isinstance(each.content, InlineContent)]
    queued = [str(p.recipient.address) for each in world.store.messages.values() for p in each.pending]
    for name in everybody:
        bounced = sum(f"Final-Recipient: rfc822; {name}" in text for text in reported)
        in_queue = queued.count(name)
        assert arrived[name] <= 1
        assert bounced <= 1
        assert in_queue <= 1
        places = arrived[name] + bounced + in_queue
        # Between a delivery and its settlement a recipient is in both places; never in none.
        assert places == 1 or (places == 2 and in_queue and arrived[name]), (name, arrived[name], bounced, in_queue)
    assert not attempts_after_end

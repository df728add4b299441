"""Recipients of one message may be told different senders; the queue keeps the one that it came with."""

from __future__ import annotations

import asyncio

from msgspec import structs

from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryResult, deferred, failed
from ekiden.message.envelope import Recipient
from ekiden.message.queued import Pending, QueuedMessage
from ekiden.message.status import Status
from support.fake_clock import until
from support.queue_world import World

OURS = Address("SRS0=x", "mx.here.example")
CAME_FOR = Address("list", "here.example")


async def _sender_for(recipient: Recipient, sender: Address, queue_id: str) -> Address | DeliveryResult:
    assert queue_id
    if recipient.address.local == "waits":
        return deferred(Status(4, 3, 0), "nobody knows")
    return OURS if recipient.address.local.startswith("out") else sender


def _message(world: World, *forwarded: str, content_filter: str = "") -> QueuedMessage:
    message = world.message("plain@far.example", *(f"{name}@far.example" for name in forwarded))
    first, *others = message.envelope.recipients
    recipients = (first, *(structs.replace(each, original=CAME_FOR) for each in others))
    return structs.replace(
        message,
        envelope=structs.replace(message.envelope, recipients=recipients),
        pending=tuple(Pending(each) for each in recipients),
        content_filter=content_filter,
    )


def _world() -> World:
    world = World()
    world.scheduler._sender_for = _sender_for
    return world


def test_one_message_leaves_in_as_many_as_it_has_senders() -> None:
    world = _world()

    async def story() -> None:
        message = _message(world, "out1", "in", "out2")
        await world.scheduler.accept(message)
        await until(lambda: not world.store.messages)
        sent = {
            str(request.envelope.sender): [each.address.local for each in request.recipients]
            for request in world.requests
        }
        assert sent == {"ann@example.com": ["plain", "in"], "SRS0=x@mx.here.example": ["out1", "out2"]}

    world.run(story)


def test_a_recipient_waits_while_nobody_knows_its_sender() -> None:
    world = _world()

    async def story() -> None:
        await world.scheduler.accept(_message(world, "waits", "out"))
        await until(lambda: len(world.requests) == 2)
        await until(lambda: any(entry.pending for entry in world.store.messages.values()))
        await asyncio.sleep(0)
        assert {str(request.recipients[0].address) for request in world.requests} == {
            "plain@far.example",
            "out@far.example",
        }

    world.run(story)


def test_a_content_filter_sees_the_sender_as_it_came() -> None:
    world = _world()

    async def story() -> None:
        await world.scheduler.accept(_message(world, "out", content_filter="smtp:[127.0.0.1]:10025"))
        await until(lambda: not world.store.messages)
        assert [str(request.envelope.sender) for request in world.requests] == ["ann@example.com"]

    world.run(story)


def test_our_own_notification_goes_to_who_wrote() -> None:
    world = _world()
    world.answers(failed(Status(5, 1, 1), "550 no such user"))

    async def story() -> None:
        await world.scheduler.accept(_message(world, "out"))
        await until(lambda: any("ann@example.com" in str(each.recipients[0].address) for each in world.requests))
        (notice,) = [each for each in world.requests if each.envelope.sender.is_null]
        assert [str(each.address) for each in notice.recipients] == ["ann@example.com"]

    world.run(story)

"""deliver.forward: what an alias sends on is a new message whose addresses cleanup has mapped."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.forward import Forwarded, QueueForward, forwarded_recipient
from ekiden.message.address import Address
from ekiden.message.content import Content, InlineContent
from ekiden.message.delivery import DeliveryRequest
from ekiden.message.envelope import Envelope, Notify, Recipient
from ekiden.message.queued import QueuedMessage
from ekiden.queue.store import StoreTrouble
from support.cleanup import cleanup_for
from support.fake_clock import FakeClock


class Writer:
    def __init__(self) -> None:
        self.data = b""
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        self.data += bytes(data)
        return False

    async def drain(self) -> None:
        pass

    async def finish(self, head: bytes = b"") -> Content:
        return InlineContent(head + self.data)

    async def discard(self) -> None:
        pass


def forward(**settings: str) -> list[QueuedMessage]:
    queued: list[QueuedMessage] = []

    async def intake(message: QueuedMessage) -> None:
        queued.append(message)

    agent = QueueForward(intake, lambda _: Writer(), lambda: "NEW", FakeClock(), cleanup_for(Parameters(settings)))
    recipients = (Recipient(Address("team", "x.test")),)
    content = InlineContent(b"To: bare\r\n\r\nbody\r\n")
    request = DeliveryRequest(
        "OLD", "local", "x.test", Envelope(Address("s", "h.x.test")), recipients, content, arrived=0.0
    )
    assert asyncio.run(agent(Forwarded(request, recipients, b"Delivered-To: team@x.test\r\n"))) == "NEW"
    return queued


def test_addresses_are_mapped_and_no_copies_made() -> None:
    aliases = "inline:{ {team@x.test = a@x.test, b@x.test} }"
    [message] = forward(virtual_alias_maps=aliases, masquerade_domains="x.test", always_bcc="c@x.test")
    assert str(message.envelope.sender) == "s@x.test"
    assert [str(recipient.address) for recipient in message.envelope.recipients] == ["a@x.test", "b@x.test"]
    assert [each.recipient for each in message.pending] == list(message.envelope.recipients)
    assert message.content == InlineContent(b"Delivered-To: team@x.test\r\nTo: bare\r\n\r\nbody\r\n")


def test_without_an_answer_of_its_tables_nothing_is_forwarded() -> None:
    with pytest.raises(StoreTrouble, match="/no/such/file"):
        forward(virtual_alias_maps="texthash:/no/such/file")


def test_what_the_sender_asked_for_goes_on_as_far_as_it_may() -> None:
    """RFC 3461 §5.2.7.1, §5.2.7.3."""
    notify = Notify.GIVEN | Notify.SUCCESS | Notify.FAILURE
    alias = Recipient(Address("all", "here.example"), notify=notify, orcpt="rfc822;all@here.example")
    to = Address("a", "far.example")
    one = forwarded_recipient(to, alias, only=True)
    assert (one.notify, one.orcpt, one.original) == (notify, alias.orcpt, alias.address)
    several = forwarded_recipient(to, alias)
    assert (several.notify, several.orcpt) == (Notify.GIVEN | Notify.FAILURE, alias.orcpt)
    only_success = Recipient(Address("all", "here.example"), notify=Notify.GIVEN | Notify.SUCCESS)
    assert forwarded_recipient(to, only_success).notify == Notify.GIVEN  # which is NOTIFY=NEVER

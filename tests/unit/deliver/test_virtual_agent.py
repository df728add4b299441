"""The virtual agent: what it asks the deliverer to write."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import Answer, Transport, delivered
from ekiden.deliver.virtual import VirtualAgent
from ekiden.message.content import Content
from ekiden.runtime.system_clock import SystemClock
from support.honours import honours
from support.smtp_delivery import request


class HeadKeeper(MailboxChannel):
    """Delivers everything, and keeps what was to be written in front of it."""

    def __init__(self) -> None:
        super().__init__(job_limit=1, restart_wait_s=0)
        self.heads: list[bytes] = []

    def submit(
        self, transport: Transport, recipient: bytes, sender: bytes, head: bytes, content: Content, **_: object
    ) -> asyncio.Future[Answer]:
        self.heads.append(head)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.set_result(delivered(0, "delivered to mailbox"))
        return future


@honours("enable_original_recipient")
@pytest.mark.parametrize(("enabled", "field"), [("yes", b"X-Original-To: a@d.example\n"), ("no", b"")])
def test_the_recipient_as_the_sender_gave_it(enabled: str, field: bytes) -> None:
    channel = HeadKeeper()
    agent = VirtualAgent(channel, Parameters({"enable_original_recipient": enabled}), SystemClock())

    async def work() -> None:
        await agent.deliver(request("a"))

    asyncio.run(work())
    assert channel.heads == [b"Return-Path: <s@s.example>\n" + field + b"Delivered-To: a@d.example\n"]

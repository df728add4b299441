"""The local agent: aliases, forwarding and the deliverer's answers become one result a recipient."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.deliver.aliases import open_aliases
from ekiden.deliver.forward import Forwarded
from ekiden.deliver.local import LocalAgent
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import Answer, Transport, deferred, delivered, failed
from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult
from ekiden.message.envelope import Envelope, Notify, Recipient
from ekiden.queue.store import StoreTrouble


class StillClock:
    def time(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


class ScriptedChannel(MailboxChannel):
    """Answers as told, by recipient."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        super().__init__(job_limit=1, restart_wait_s=0)
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.heads: list[bytes] = []

    def submit(
        self, transport: Transport, recipient: bytes, sender: bytes, head: bytes, content: Content
    ) -> asyncio.Future[Answer]:
        assert transport is Transport.LOCAL
        self.asked.append(recipient.decode())
        self.heads.append(head)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.set_result(self.answers.get(recipient.decode(), delivered(0, "delivered to mailbox")))
        return future


class Outgoing:
    def __init__(self) -> None:
        self.forwarded: list[Forwarded] = []
        self.full = False

    async def __call__(self, forwarded: Forwarded) -> str:
        if self.full:
            raise StoreTrouble("disk full", full=True)
        self.forwarded.append(forwarded)
        return "4FNEW"


class Scene:
    def __init__(self, aliases: str = "", answers: Mapping[str, Answer] | None = None) -> None:
        self.channel = ScriptedChannel(answers or {})
        self.outgoing = Outgoing()
        parameters = Parameters(
            {"mydestination": "here.example", "myorigin": "here.example", "recipient_delimiter": "+"}
        )
        book = open_aliases([f"inline:{{ {aliases} }}"] if aliases else [])
        self.agent = LocalAgent(self.channel, book, self.outgoing, parameters, StillClock())

    def deliver(self, *names: str, content: Content | None = None) -> Sequence[DeliveryResult]:
        body = content or InlineContent(b"Subject: hi\r\n\r\n")
        recipients = tuple(Recipient(Address(name, "here.example"), notify=Notify(7)) for name in names)
        request = DeliveryRequest("Q1", "local", "", Envelope(Address("s", "y.example")), recipients, body, 0.0)
        return asyncio.run(self.agent.deliver(request))


def test_a_user_gets_the_mail_with_its_headers() -> None:
    scene = Scene()
    [result] = scene.deliver("bob+x")
    assert (result.action, str(result.status), result.relay) == (Action.DELIVERED, "2.0.0", "local")
    assert scene.channel.asked == ["bob+x"]
    assert scene.channel.heads == [
        b"Return-Path: <s@y.example>\nX-Original-To: bob+x@here.example\nDelivered-To: bob+x@here.example\n"
    ]


def test_unknown_user_is_the_deliverers_word() -> None:
    [result] = Scene(answers={"bob": failed(0, 1, 1, 'unknown user: "bob"')}).deliver("bob")
    assert (result.action, str(result.status), result.text) == (Action.FAILED, "5.1.1", 'unknown user: "bob"')


def test_alias_forwards_with_delivered_to_and_original() -> None:
    scene = Scene("{ team = carol@out.example, dan@out.example }")
    [result] = scene.deliver("team")
    assert (result.action, result.text) == (Action.EXPANDED, "forwarded as 4FNEW")
    [forwarded] = scene.outgoing.forwarded
    assert forwarded.head == b"Delivered-To: team@here.example\r\n"
    team = Address("team", "here.example")
    assert forwarded.recipients == (
        Recipient(Address("carol", "out.example"), team, Notify.FAILURE | Notify.DELAY),
        Recipient(Address("dan", "out.example"), team, Notify.FAILURE | Notify.DELAY),
    )


def test_loop_is_found_in_inline_and_file_content(tmp_path: Path) -> None:
    for header in (b"Delivered-To: BOB@here.example", b"delivered-TO:\r\n bob@Here.example "):
        data = b"A: b\r\n" + header + b"\r\nC: d\r\n\r\nbody"
        (tmp_path / "c").write_bytes(data)
        for content in (InlineContent(data), FileContent(str(tmp_path / "c"), len(data))):
            scene = Scene()
            [result] = scene.deliver("bob", content=content)
            assert (str(result.status), result.text) == ("5.4.6", "mail forwarding loop for bob@here.example")
            assert scene.channel.asked == []
    for harmless in (b"Delivered-To: bob2@here.example\r\n\r\n", b"A: b\r\n\r\nDelivered-To: bob@here.example\r\n"):
        [result] = Scene().deliver("bob", content=InlineContent(harmless))
        assert result.action is Action.DELIVERED
    [result] = Scene().deliver("bob", content=FileContent(str(tmp_path / "gone"), 5))
    assert str(result.status) == "4.3.0"


def test_commands_files_and_includes_wait_and_nothing_is_delivered() -> None:
    for target in ('"|/bin/cat"', "/tmp/file", ":include:/etc/list"):
        scene = Scene(f"{{ team = bob, {target}, carol@out.example }}")
        [result] = scene.deliver("team")
        assert result.action is Action.DELAYED
        assert "cannot deliver to yet" in result.text
        assert "\n" not in result.text
        assert scene.channel.asked == []
        assert scene.outgoing.forwarded == []


def test_alias_loop_fails_and_trouble_waits() -> None:
    [result] = Scene("{ a = b }, { b = a }").deliver("a")
    assert (result.action, str(result.status)) == (Action.FAILED, "5.4.6")
    [result] = Scene("{ a = b c }").deliver("a")
    assert result.action is Action.DELAYED


def test_a_retry_reaches_only_what_is_missing() -> None:
    scene = Scene("{ team = bob, carol, dan@out.example }", {"carol": deferred(0, 2, 0, "locked")})
    [result] = scene.deliver("team")
    assert (result.action, result.text) == (Action.DELAYED, "locked")
    assert scene.channel.asked == ["bob", "carol"]
    assert scene.outgoing.forwarded == []
    scene.channel.answers.clear()
    scene.outgoing.full = True
    [result] = scene.deliver("team")
    assert (result.action, str(result.status)) == (Action.DELAYED, "4.3.0")
    assert scene.channel.asked == ["bob", "carol", "carol"]
    scene.outgoing.full = False
    [result] = scene.deliver("team")
    assert result.action is Action.EXPANDED
    assert scene.channel.asked == ["bob", "carol", "carol"]
    assert len(scene.outgoing.forwarded) == 1


def test_the_worst_of_several_mailboxes_is_the_result() -> None:
    unknown = failed(0, 1, 1, 'unknown user: "carol"')
    scene = Scene("{ team = bob, carol, dan@out.example }", {"carol": unknown})
    [result] = scene.deliver("team")
    assert (result.action, result.text) == (Action.FAILED, 'unknown user: "carol"')
    assert len(scene.outgoing.forwarded) == 1
    [result] = Scene("{ team = bob, carol }").deliver("team")
    assert (result.action, result.text) == (Action.DELIVERED, "delivered to 2 mailboxes")


def test_results_keep_the_order_of_recipients() -> None:
    results = Scene(answers={"b": failed(0, 1, 1, "unknown")}).deliver("a", "b", "c")
    assert [result.action for result in results] == [Action.DELIVERED, Action.FAILED, Action.DELIVERED]

"""The local agent: aliases, forwarding and the deliverer's answers become one result a recipient."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ekiden.config.snapshot import Parameters
from ekiden.deliver.aliases import open_aliases
from ekiden.deliver.forward import Forwarded
from ekiden.deliver.local import LocalAgent
from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import (
    NO_FACTS,
    Answer,
    Facts,
    Left,
    Outcome,
    Transport,
    deferred,
    delivered,
    encode_left,
    failed,
)
from ekiden.deliver.targets import pack_targets, parse_targets
from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import Action, DeliveryRequest, DeliveryResult, relayed
from ekiden.message.envelope import Envelope, Notify, Recipient
from ekiden.message.status import OK
from ekiden.queue.store import StoreTrouble
from support.honours import honours


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
        self.senders: list[bytes] = []
        self.facts: list[Facts] = []
        self.given_done: list[tuple[str, ...]] = []
        self.without_mailbox: list[bool] = []

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
        self.asked.append(("" if transport is Transport.LOCAL else f"{transport.value} ") + recipient.decode())
        self.senders.append(sender)
        self.heads.append(head)
        self.facts.append(facts)
        self.given_done.append(done)
        self.without_mailbox.append(without_mailbox)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.set_result(self.answers.get(self.asked[-1], delivered(0, "delivered to mailbox")))
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


def left(answer: Answer | None = None, *, to: str = "", **facts: Any) -> Answer:
    """An answer that leaves something to the worker."""
    answer = answer or Answer(0, Outcome.GOES_ON, 0, 0, "")
    addresses = pack_targets(parse_targets(to)) if to else []
    content = encode_left(Left(addresses, **facts))
    return Answer(0, answer.outcome, answer.subject, answer.detail, answer.text, content)


class Scene:
    def __init__(self, aliases: str = "", answers: Mapping[str, Answer] | None = None, **settings: str) -> None:
        self.channel = ScriptedChannel(answers or {})
        self.outgoing = Outgoing()
        parameters = Parameters(
            {"mydestination": "here.example", "myorigin": "here.example", "recipient_delimiter": "+", **settings}
        )
        self.passed: list[DeliveryRequest] = []
        self.warnings: list[str] = []

        book = open_aliases([f"inline:{{ {aliases} }}"] if aliases else [])
        self.agent = LocalAgent(
            self.channel,
            book,
            self.outgoing,
            parameters,
            StillClock(),
            deliver_by=self.deliver_by,
            warn=lambda queue_id, text: self.warnings.append(f"{queue_id}: {text}"),
        )

    async def deliver_by(self, request: DeliveryRequest) -> Sequence[DeliveryResult]:
        self.passed.append(request)
        return [relayed(OK, "taken", relay=request.transport)]

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
    assert scene.channel.heads == [b"Return-Path: <s@y.example>\nX-Original-To: bob+x@here.example\n"]
    [facts] = scene.channel.facts
    assert (facts.recipient, facts.delivered_to) == (b"bob+x@here.example", b"bob+x@here.example")


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


def test_commands_and_files_of_an_alias_are_the_deliverers_and_it_is_told_the_name_alone() -> None:
    scene = Scene("{ team+x = bob, \"|/bin/cat\", /tmp/file, carol@out.example }", {"alias team+x": left(
        delivered(0, "delivered to 2 files and commands"), done=("k1", "k2"), to="eve, frank@out.example"
    )})  # fmt: skip
    [result] = scene.deliver("team+x")
    assert (result.action, result.text) == (Action.EXPANDED, "forwarded as 4FNEW")
    assert scene.channel.asked == ["bob", "alias team+x"]
    assert [str(one.address) for one in scene.outgoing.forwarded[0].recipients] == [
        "carol@out.example", "eve@here.example", "frank@out.example",
    ]  # fmt: skip


def test_what_an_alias_has_done_is_not_done_again() -> None:
    alias = '{ team = "|/bin/cat" }, { both = team, "|/bin/dog" }'
    scene = Scene(alias, {"alias team": left(deferred(0, 3, 0, "temporary failure"), done=("k1",))})
    assert scene.deliver("team")[0].action is Action.DELAYED
    scene.channel.answers["alias team"] = left(delivered(0, "delivered to command: /bin/cat"), done=("k1", "k2"))
    [result] = scene.deliver("team")
    assert (result.action, result.text) == (Action.DELIVERED, "delivered to command: /bin/cat")
    assert scene.channel.given_done == [(), ("k1",)]


def test_a_forward_file_sends_mail_on_keeps_a_copy_and_never_comes_back() -> None:
    """A9.04, A9.05: an address and the user's own name, with or without a backslash, with or without a domain."""
    for own in ("\\bob", "\u00a5bob", "bob", "bob@here.example", "Bob+other"):
        scene = Scene(answers={"bob": left(to=f"kaede@serv.example, {own}", warnings=("watch out",))})
        [result] = scene.deliver("bob")
        assert (result.action, result.text) == (Action.EXPANDED, "forwarded as 4FNEW")
        assert scene.channel.asked == ["bob", "mailbox bob"]
        [forwarded] = scene.outgoing.forwarded
        assert [str(one.address) for one in forwarded.recipients] == ["kaede@serv.example"]
        assert forwarded.head == b"Delivered-To: bob@here.example\r\n"
        assert scene.warnings == ["Q1: watch out"]


def test_two_users_that_forward_to_one_address_send_it_one_message() -> None:
    scene = Scene(
        "{ team = bob, carol }", {"bob": left(to="x@out.example"), "carol": left(to="X@out.example, x@OUT.example")}
    )
    scene.deliver("team")
    [forwarded] = scene.outgoing.forwarded
    assert [str(one.address) for one in forwarded.recipients] == ["x@out.example", "X@out.example"]


def test_the_copy_of_a_forwarded_mail_is_not_delivered_twice() -> None:
    scene = Scene(answers={"bob": left(to="\\bob, x@out.example")})
    scene.outgoing.full = True
    assert scene.deliver("bob")[0].action is Action.DELAYED
    scene.outgoing.full = False
    assert scene.deliver("bob")[0].action is Action.EXPANDED
    assert scene.channel.asked == ["bob", "mailbox bob", "bob"]
    assert len(scene.outgoing.forwarded) == 1


@honours("mailbox_transport", "mailbox_transport_maps")
def test_another_transport_may_take_the_mail_of_users() -> None:
    by_transport = left(to_mailbox=True)
    scene = Scene(
        "{ team = bob, carol }",
        {"bob": by_transport, "carol": by_transport},
        mailbox_transport="lmtp:unix:private/lmtp",
        mailbox_transport_maps="inline:{carol=other}",
    )
    [result] = scene.deliver("team")
    assert (result.action, result.text) == (Action.DELIVERED, "delivered to 2 mailboxes")
    assert [(one.transport, one.next_hop, str(one.recipients[0].address)) for one in scene.passed] == [
        ("lmtp", "unix:private/lmtp", "bob@here.example"),
        ("other", "", "carol@here.example"),
    ]
    assert scene.channel.without_mailbox == [True, True]
    scene = Scene(answers={"bob": left(to="\\bob, x@out.example")}, mailbox_transport="lmtp:unix:x")
    scene.deliver("bob")
    assert scene.channel.asked == ["bob"]  # the user's own mailbox is the other transport's, too
    assert len(scene.passed) == len(scene.outgoing.forwarded) == 1


UNKNOWN = left(failed(0, 1, 1, 'unknown user: "bob"'), unknown=True)


@honours("fallback_transport", "fallback_transport_maps")
def test_another_transport_may_take_the_mail_of_unknown_names() -> None:
    scene = Scene(answers={"bob+x": UNKNOWN}, fallback_transport="smtp:[old.example]")
    assert scene.deliver("bob+x")[0].relay == "smtp"
    assert scene.passed[0].next_hop == "[old.example]"
    scene = Scene(answers={"bob": UNKNOWN, "eve": UNKNOWN}, fallback_transport_maps="inline:{bob=smtp:[old.example]}")
    assert [result.action for result in scene.deliver("bob", "eve")] == [Action.RELAYED, Action.FAILED]
    # A command that says "user unknown" is no unknown user.
    scene = Scene(answers={"bob": failed(0, 1, 1, "user unknown")}, fallback_transport="smtp:[old.example]")
    assert scene.deliver("bob")[0].action is Action.FAILED


@honours("luser_relay")
def test_an_address_may_take_the_mail_of_unknown_names() -> None:
    scene = Scene(answers={"bob+x": UNKNOWN}, luser_relay="far+$user+$extension@out.example")
    assert scene.deliver("bob+x")[0].action is Action.EXPANDED
    assert str(scene.outgoing.forwarded[0].recipients[0].address) == "far+bob+x@out.example"
    scene = Scene(answers={"bob": UNKNOWN}, luser_relay="keeper")
    assert scene.deliver("bob")[0].action is Action.DELIVERED
    assert scene.channel.asked == ["bob", "keeper"]
    scene = Scene(answers={"bob": UNKNOWN, "alsonot": UNKNOWN}, luser_relay="alsonot")
    assert scene.deliver("bob")[0].text == 'unknown user: "bob"'
    assert scene.channel.asked == ["bob", "alsonot"]


@honours("prepend_delivered_header")
def test_forwarded_mail_may_go_without_delivered_to() -> None:
    scene = Scene("{ team = carol@out.example }", prepend_delivered_header="command, file")
    scene.deliver("team")
    assert scene.outgoing.forwarded[0].head == b""


@honours("frozen_delivered_to")
def test_delivered_to_may_be_what_aliases_made_of_the_recipient() -> None:
    for frozen, expected in (("yes", b"team@here.example"), ("no", b"bob@here.example")):
        scene = Scene("{ team = bob }", frozen_delivered_to=frozen)
        scene.deliver("team")
        assert scene.channel.facts[0].delivered_to == expected
        assert scene.channel.facts[0].recipient == b"bob@here.example"
        assert b"X-Original-To: team@here.example" in scene.channel.heads[0]


def test_the_members_of_a_list_hear_from_its_owner() -> None:
    scene = Scene('{ list = bob, "|cmd" }, { owner-list = keeper }')
    scene.deliver("list")
    assert scene.channel.senders == [b"owner-list@here.example"]
    assert b"Return-Path: <owner-list@here.example>" in scene.channel.heads[0]
    assert str(scene.outgoing.forwarded[0].request.envelope.sender) == "owner-list@here.example"


def test_alias_loop_fails_and_trouble_waits() -> None:
    [result] = Scene("{ a = b }, { b = a }").deliver("a")
    assert (result.action, str(result.status)) == (Action.FAILED, "5.4.6")
    [result] = Scene("{ a = @b.c }").deliver("a")
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


def test_who_reports_what_an_alias_led_to() -> None:
    """RFC 3461 §5.2.7: one address has it all to report; several are "expanded"; a list is new mail."""
    scene = Scene("{ one = carol@out.example }")
    [result] = scene.deliver("one")
    assert (result.action, result.dsn_passed) == (Action.EXPANDED, True)
    assert scene.outgoing.forwarded[0].recipients[0].notify == Notify(7)
    scene = Scene("{ two = carol@out.example, dan@out.example }")
    [result] = scene.deliver("two")
    assert (result.action, result.dsn_passed) == (Action.EXPANDED, False)
    assert {each.notify for each in scene.outgoing.forwarded[0].recipients} == {Notify.FAILURE | Notify.DELAY}
    scene = Scene('{ copy = carol@out.example, "|cmd" }')
    [result] = scene.deliver("copy")
    assert (result.action, result.dsn_passed) == (Action.EXPANDED, False)
    scene = Scene("{ list = carol@out.example }, { owner-list = keeper }")
    [result] = scene.deliver("list")
    assert (result.action, result.dsn_passed) == (Action.EXPANDED, False)
    [member] = scene.outgoing.forwarded[0].recipients
    assert member == Recipient(Address("carol", "out.example"))
    envelope = scene.outgoing.forwarded[0].request.envelope
    assert (envelope.ret, envelope.envid, envelope.deliver_by) == (None, "", None)

from __future__ import annotations

import asyncio
import email
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.bounce import MailBouncer
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import deferred, delivered, failed, relayed
from ekiden.message.envelope import BodyType, Client, DeliverBy, Envelope, Notify, Recipient, Ret
from ekiden.message.queued import QueuedMessage
from ekiden.message.status import Status
from ekiden.observe.events import Note
from ekiden.queue.notice import Ended, Notice, RoundOutcome
from ekiden.queue.store import StoreTrouble
from support.cleanup import cleanup_for
from support.fake_clock import FakeClock
from support.honours import honours
from support.queue_world import Recorder

NOBODY = failed(Status(5, 1, 1), "no such user")
LATE = deferred(Status(4, 4, 1), "connection refused")
DONE = delivered(Status(2, 0, 0), "delivered to mailbox")
CONTENT = b"Subject: hello\r\nX-Private: no\r\n\r\nsecret body\r\n"


def who(local: str = "bob", notify: Notify = Notify.FAILURE | Notify.DELAY) -> Recipient:
    return Recipient(Address(local, "far.example"), notify=notify)


ANN = Address("ann", "example.com")


def message(sender: Address = ANN, content: Content | None = None) -> QueuedMessage:
    return QueuedMessage(
        queue_id="Q1",
        envelope=Envelope(sender, (), client=Client(name="client.example", address="192.0.2.9")),
        content=content or InlineContent(CONTENT),
        arrived=1_750_000_000.0 - 100,
        pending=(),
    )


class Bounces:
    def __init__(self, **settings: str) -> None:
        self.seen = Recorder()
        self.parameters = Parameters({"myhostname": "mx.here.example", **settings})

    def of(
        self,
        original: QueuedMessage,
        failed: Sequence[Ended] = (),
        delayed: Sequence[Ended] = (),
        succeeded: Sequence[Ended] = (),
        expired: bool = False,
    ) -> Sequence[Notice]:
        bouncer = MailBouncer(
            parameters=self.parameters,
            cleanup=lambda: cleanup_for(self.parameters),
            clock=FakeClock(),
            observer=self.seen,
        )
        ids = iter(f"N{n}" for n in range(100))
        outcome = RoundOutcome(failed, delayed, succeeded, expired, 1_750_400_000.0)
        return asyncio.run(bouncer.compose(original, outcome, lambda: next(ids)))


def content_of(notice: Notice) -> bytes:
    content = notice.message.content
    assert isinstance(content, InlineContent)
    return content.data


def test_a_notification_is_a_message_from_nobody_to_the_sender() -> None:
    [notice] = Bounces().of(message(), failed=[(who(), NOBODY)])
    dsn = notice.message
    assert (notice.kind, notice.to_postmaster) == ("non-delivery", False)
    assert dsn.queue_id == "N0"
    assert dsn.envelope.sender == NULL_SENDER
    assert [each.recipient for each in dsn.pending] == list(dsn.envelope.recipients)
    assert dsn.envelope.recipients == (Recipient(Address("ann", "example.com"), notify=Notify.NEVER),)
    assert dsn.envelope.body is BodyType.SEVEN_BIT
    assert dsn.arrived == 1_750_000_000.0
    assert dsn.message_id == "<N0.dsn@mx.here.example>"
    data = content_of(notice)
    assert data.count(b"<N0.dsn@mx.here.example>") == 1
    assert b"<<" not in data
    assert b"Received-From-MTA: dns; client.example" in data
    assert CONTENT in data


@pytest.mark.parametrize(
    ("notify", "kinds"),
    [
        (Notify.NEVER, []),
        (Notify.FAILURE, ["non-delivery"]),
        (Notify.DELAY, ["delay"]),
        (Notify.SUCCESS, ["delivery status"]),
        (Notify.FAILURE | Notify.DELAY | Notify.SUCCESS, ["non-delivery", "delay", "delivery status"]),
    ],
)
def test_notify_is_honoured(notify: Notify, kinds: list[str]) -> None:
    to = who(notify=notify)
    found = Bounces().of(message(), failed=[(to, NOBODY)], delayed=[(to, LATE)], succeeded=[(to, DONE)])
    assert [notice.kind for notice in found] == kinds


def test_only_those_who_want_to_be_reported_are() -> None:
    [notice] = Bounces().of(message(), failed=[(who("quiet", Notify.NEVER), NOBODY), (who("loud"), NOBODY)])
    assert b"loud@far.example" in content_of(notice)
    assert b"quiet@far.example" not in content_of(notice)


def test_the_null_sender_gets_nothing() -> None:
    bounces = Bounces()
    assert bounces.of(message(NULL_SENDER), failed=[(who(), NOBODY)], delayed=[(who(), LATE)]) == ()
    [note] = bounces.seen.of(Note)
    assert "dropped" in note.text
    assert note.queue_id == "Q1"


@honours("notify_classes")
def test_2bounce_goes_to_the_postmaster_and_ends_there() -> None:
    bounces = Bounces(notify_classes="2bounce")
    [notice] = bounces.of(message(NULL_SENDER), failed=[(who(), NOBODY)])
    assert notice.to_postmaster
    envelope = notice.message.envelope
    assert str(envelope.sender) == "double-bounce@mx.here.example"
    assert str(envelope.recipients[0].address) == "postmaster@mx.here.example"
    assert b"secret body" not in content_of(notice)
    again = msgspec.structs.replace(notice.message, queue_id="Q2")
    for classes in ("2bounce", "bounce, delay", ""):
        assert not Bounces(notify_classes=classes).of(again, failed=[(who(), NOBODY)])


@honours("notify_classes", "delay_notice_recipient")
def test_copies_for_the_postmaster() -> None:
    bounces = Bounces(notify_classes="bounce, delay", delay_notice_recipient="ops@example.net")
    found = bounces.of(message(), failed=[(who(), NOBODY)], delayed=[(who("late"), LATE)])
    told = [(notice.kind, str(notice.message.envelope.recipients[0].address)) for notice in found]
    assert told == [
        ("non-delivery", "ann@example.com"),
        ("non-delivery", "postmaster@mx.here.example"),
        ("delay", "ann@example.com"),
        ("delay", "ops@example.net"),
    ]


@honours("bounce_size_limit")
@pytest.mark.parametrize("limit", [0, 20, len(CONTENT) - 1])
def test_a_large_message_comes_back_as_its_header(limit: int) -> None:
    [notice] = Bounces(bounce_size_limit=str(limit)).of(message(), failed=[(who(), NOBODY)])
    data = content_of(notice)
    assert b"secret body" not in data
    assert b"text/rfc822-headers" in data
    if limit >= 20:
        assert b"Subject: hello\r\n" in data


def test_content_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(CONTENT + b"x" * 100_000)
    content = FileContent(str(path), path.stat().st_size)
    [notice] = Bounces().of(message(content=content), failed=[(who(), NOBODY)])
    assert b"X-Private: no\r\n" in content_of(notice)
    assert b"secret" not in content_of(notice)


def test_content_that_is_gone_does_not_keep_the_sender_in_the_dark() -> None:
    bounces = Bounces()
    [notice] = bounces.of(message(content=FileContent("/nowhere/at/all", 10)), failed=[(who(), NOBODY)])
    parsed = email.message_from_bytes(content_of(notice))
    assert len(parsed.get_payload()) == 2
    assert "cannot be returned" in bounces.seen.of(Note)[0].text


def test_8_bits_are_declared() -> None:
    content = InlineContent("Subject: é\r\n\r\nü\r\n".encode())
    [notice] = Bounces().of(message(content=content), failed=[(who(), NOBODY)])
    assert notice.message.envelope.body is BodyType.EIGHT_BIT_MIME


@honours("bounce_notice_recipient", "delay_notice_recipient", "2bounce_notice_recipient", "double_bounce_sender")
@pytest.mark.parametrize(
    ("name", "sender"),
    [("bounce_notice_recipient", ANN), ("delay_notice_recipient", ANN), ("2bounce_notice_recipient", NULL_SENDER)],
)
def test_each_class_of_notice_has_its_recipient(name: str, sender: Address) -> None:
    bounces = Bounces(
        notify_classes="bounce, delay, 2bounce", double_bounce_sender="nobody", **{name: "ops@example.net"}
    )
    found = bounces.of(message(sender), failed=[(who(), NOBODY)], delayed=[(who("late"), LATE)])
    told = [notice.message.envelope for notice in found if notice.to_postmaster]
    assert {str(each.sender) for each in told} == {"nobody@mx.here.example"}
    others = [] if sender.is_null else ["postmaster@mx.here.example"]
    assert sorted(str(each.recipients[0].address) for each in told) == sorted(["ops@example.net", *others])
    # What cannot be delivered from that sender is told to nobody.
    again = msgspec.structs.replace(found[-1].message, queue_id="Q2")
    assert not bounces.of(again, failed=[(who(), NOBODY)])


def test_who_is_told_is_mapped_like_any_recipient_but_no_copies_are_made() -> None:
    settings = {"virtual_alias_maps": "inline:{ {ann@example.com = a@b.test, c@d.test} }", "always_bcc": "x@y.test"}
    [notice] = Bounces(**settings).of(message(), failed=[(who(), NOBODY)])
    assert [str(recipient.address) for recipient in notice.message.envelope.recipients] == ["a@b.test", "c@d.test"]
    assert [each.recipient for each in notice.message.pending] == list(notice.message.envelope.recipients)


def test_without_an_answer_of_its_tables_no_notification_is_made_now() -> None:
    with pytest.raises(StoreTrouble, match="/no/such/file"):
        Bounces(virtual_alias_maps="texthash:/no/such/file").of(message(), failed=[(who(), NOBODY)])


def test_the_sender_of_postmaster_notices_is_never_mapped() -> None:
    settings = {"notify_classes": "bounce", "masquerade_domains": "here.example"}
    found = Bounces(**settings).of(message(), failed=[(who(), NOBODY)])
    assert [str(notice.message.envelope.sender) for notice in found] == ["", "double-bounce@mx.here.example"]


@honours("enable_threaded_bounces")
@pytest.mark.parametrize(("threaded", "about"), [("yes", "<1@example.com>"), ("no", None)])
def test_notifications_may_belong_to_the_thread(threaded: str, about: str | None) -> None:
    original = msgspec.structs.replace(message(), message_id="<1@example.com>")
    [notice] = Bounces(enable_threaded_bounces=threaded).of(original, failed=[(who(), NOBODY)])
    parsed = email.message_from_bytes(content_of(notice))
    assert (parsed["In-Reply-To"], parsed["References"]) == (about, about)


# -- what the sender asked for (RFC 3461 §4.3, §5.2; RFC 6533)

SUCCESS = Notify.GIVEN | Notify.SUCCESS


@pytest.mark.parametrize(("ret", "whole"), [(None, True), (Ret.FULL, True), (Ret.HDRS, False)])
def test_how_much_comes_back_is_what_the_sender_asked_for(ret: Ret | None, whole: bool) -> None:
    original = msgspec.structs.replace(message(), envelope=Envelope(ANN, ret=ret, envid="e 1"))
    [notice] = Bounces().of(original, failed=[(who(), NOBODY)])
    data = content_of(notice)
    assert (b"secret body" in data) is whole
    assert (b"Content-Type: message/rfc822" in data) is whole
    assert (b"Content-Type: text/rfc822-headers" in data) is not whole
    assert b"\r\nOriginal-Envelope-Id: e 1\r\n" in data


def test_only_a_failure_brings_all_of_the_message_back() -> None:
    """RFC 3461 §4.3: RET=FULL says nothing of a report without a failure."""
    original = msgspec.structs.replace(message(), envelope=Envelope(ANN, ret=Ret.FULL))
    for notice in Bounces().of(original, delayed=[(who(), LATE)], succeeded=[(who(notify=SUCCESS), DONE)]):
        assert b"secret body" not in content_of(notice)
        assert b"Subject: hello" in content_of(notice)


def test_notify_never_is_silence_for_that_recipient_alone() -> None:
    never = who("quiet", Notify.GIVEN)
    [notice] = Bounces().of(message(), failed=[(never, NOBODY), (who(), NOBODY)])
    assert b"quiet@" not in content_of(notice).partition(b"Subject: hello")[0]
    assert not Bounces().of(message(), failed=[(never, NOBODY)], delayed=[(never, LATE)], succeeded=[(never, DONE)])


def test_success_is_told_unless_the_next_system_tells_it() -> None:
    """RFC 3461 §5.2.1, §5.2.2."""
    here = relayed(Status(2, 0, 0), "250 ok")
    there = relayed(Status(2, 0, 0), "250 ok", dsn_passed=True)
    [notice] = Bounces().of(
        message(), succeeded=[(who("plain", SUCCESS), here), (who("aware", SUCCESS), there), (who("not-asked"), here)]
    )
    data = content_of(notice)
    assert b"Action: relayed" in data
    assert b"plain@far.example" in data
    assert b"aware@far.example" not in data
    assert b"not-asked@far.example" not in data


@pytest.mark.parametrize(
    ("by", "passed", "notify", "told"),
    [
        (DeliverBy(1.0, returns=False, traces=True), True, who().notify, True),
        (DeliverBy(1.0, returns=False, traces=True), True, Notify.GIVEN, False),
        (DeliverBy(1.0, returns=False), True, who().notify, False),
        (DeliverBy(1.0, returns=False), False, who().notify, True),
        (DeliverBy(1.0, returns=True), False, Notify.GIVEN | Notify.FAILURE, True),
        (None, False, who().notify, False),
    ],
)
def test_who_set_a_time_hears_of_a_relay_that_hides_it(
    by: DeliverBy | None, passed: bool, notify: Notify, told: bool
) -> None:
    """RFC 2852 §4.1.4: with a trace, or when the next system knows nothing of the time."""
    original = msgspec.structs.replace(message(), envelope=Envelope(ANN, deliver_by=by))
    result = relayed(Status(2, 0, 0), "250 ok", dsn_passed=True, by_passed=passed)
    assert bool(Bounces().of(original, succeeded=[(who(notify=notify), result)])) is told
    assert not Bounces().of(original, succeeded=[(who(notify=notify), DONE)])


def test_an_international_message_is_reported_in_utf8() -> None:
    content = InlineContent("Subject: gr\u00fc\u00dfe\r\n\r\nbody\r\n".encode())
    original = msgspec.structs.replace(message(content=content), envelope=Envelope(ANN, smtputf8=True))
    [notice] = Bounces().of(original, failed=[(who(), NOBODY)])
    assert notice.message.envelope.smtputf8
    assert b"message/global-delivery-status" in content_of(notice)
    # Nothing in it needs UTF-8, or its sender never said that it could read it.
    for other in (
        msgspec.structs.replace(message(), envelope=Envelope(ANN, smtputf8=True)),
        message(content=content),
    ):
        [notice] = Bounces().of(other, failed=[(who(), NOBODY)])
        assert not notice.message.envelope.smtputf8
        assert b"global" not in content_of(notice)


def test_a_report_goes_as_safely_as_its_message() -> None:
    """RFC 8689 §5."""
    original = msgspec.structs.replace(message(), envelope=Envelope(ANN, require_tls=True))
    [notice] = Bounces().of(original, failed=[(who(), NOBODY)])
    assert notice.message.envelope.require_tls

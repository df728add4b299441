"""The extensions that a server session offers, and what becomes of what clients say with them."""

from __future__ import annotations

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.content import InlineContent
from ekiden.message.envelope import DeliverBy, Notify, Ret
from ekiden.message.queued import QueuedMessage
from ekiden.receive.extensions import Occasion, offered_extensions
from support.honours import honours
from support.smtp_session import Talk, World, play

MESSAGE = "Subject: x\r\n\r\nHello\r\n."
NOW = 1_800_000_000.0  # of World: 2027-01-15T08:00:00Z
TRUSTED = {"mynetworks": "127.0.0.0/8"}


def queued(mail: str, *recipients: str, **settings: str) -> QueuedMessage:
    """The message that a client hands in with these arguments of MAIL and RCPT, all of which are accepted."""

    async def talk(client: Talk) -> None:
        await client.hello()
        assert (await client.say(f"MAIL FROM:{mail}")).startswith("250 ")
        for recipient in recipients or ("<u@here.example>",):
            assert (await client.say(f"RCPT TO:{recipient}")).startswith("250 ")
        await client.say("DATA")
        assert (await client.say(MESSAGE)).startswith("250 2.0.0 ")

    (message,) = play(World(**settings), talk).queued
    return message


def answers(*lines: str, **settings: str) -> list[str]:
    said: list[str] = []

    async def talk(client: Talk) -> None:
        await client.hello()
        said.extend([await client.say(line) for line in lines])

    play(World(**settings), talk)
    return said


_STRANGER = Occasion()


def offered(occasion: Occasion = _STRANGER, /, **settings: str) -> dict[str, str]:
    lines = offered_extensions(Parameters({"myhostname": "mx.example", **settings}), occasion)
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def test_what_a_stranger_is_offered() -> None:
    found = offered()
    assert {"DSN", "SMTPUTF8", "DELIVERBY", "MT-PRIORITY"} <= set(found)
    assert not {"FUTURERELEASE", "REQUIRETLS", "BURL", "AUTH"} & set(found)


def test_require_tls_is_offered_under_tls_only() -> None:
    """RFC 8689 §4.2.1"""
    assert "REQUIRETLS" in offered(Occasion(is_encrypted=True))


def test_how_many_recipients_is_said_beforehand() -> None:
    """RFC 9422 §4.2"""
    assert offered(smtpd_recipient_limit="123")["LIMITS"] == "RCPTMAX=123"


@pytest.mark.parametrize("occasion", [Occasion(is_trusted=True), Occasion(may_log_in=True)])
def test_holding_mail_back_is_for_those_who_may_relay(occasion: Occasion) -> None:
    """RFC 4865 §3: the longest time, and the last date."""
    assert offered(occasion, smtpd_future_release_limit="10d")["FUTURERELEASE"] == "864000 1970-01-11T00:00:00Z"
    assert "FUTURERELEASE" not in offered(occasion, smtpd_future_release_limit="0")


@honours("smtpd_discard_ehlo_keywords")
@pytest.mark.parametrize("keyword", ["dsn", "SMTPUTF8", "DeliverBy", "FUTURERELEASE", "MT-PRIORITY", "LIMITS"])
def test_each_extension_can_be_taken_away(keyword: str) -> None:
    occasion = Occasion(discarded=frozenset({keyword.upper()}), is_trusted=True)
    assert set(offered(Occasion(is_trusted=True))) - set(offered(occasion)) == {keyword.upper()}

    async def talk(client: Talk) -> None:
        await client.reply()
        assert keyword.upper() not in await client.say("EHLO client.example")

    play(World(smtpd_discard_ehlo_keywords=keyword, **TRUSTED), talk)


def test_what_was_taken_away_cannot_be_used() -> None:
    """RFC 5321 §4.1.1.11"""
    (answer,) = answers("MAIL FROM:<a@b.example> RET=FULL", smtpd_discard_ehlo_keywords="DSN")
    assert answer.startswith("555 5.5.4 ")


def test_after_helo_there_are_no_extensions() -> None:
    said = answers("HELO client.example", "MAIL FROM:<a@b.example> RET=FULL", "MAIL FROM:<a@b.example> SIZE=5")
    assert [answer[:9] for answer in said] == ["250 mx.he", "555 5.5.4", "250 2.1.0"]


def test_the_envelope_keeps_what_the_sender_wants_to_hear() -> None:
    """RFC 3461 §4"""
    message = queued(
        "<a@b.example> RET=HDRS ENVID=QQ+2B1",
        "<u@here.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;U+2B1@there.example",
        "<v@here.example> NOTIFY=NEVER",
        "<w@here.example> ORCPT=rfc822;w@there.example",
        "<x@here.example>",
    )
    assert (message.envelope.ret, message.envelope.envid) == (Ret.HDRS, "QQ+1")
    usual = Notify.FAILURE | Notify.DELAY
    assert [(recipient.notify, recipient.orcpt) for recipient in message.envelope.recipients] == [
        (Notify.GIVEN | Notify.SUCCESS | Notify.DELAY, "rfc822;U+1@there.example"),
        (Notify.GIVEN, ""),
        (usual, "rfc822;w@there.example"),
        (usual, ""),
    ]


def test_what_one_message_was_asked_for_is_not_asked_for_the_next() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        for parameters in (" RET=FULL ENVID=x BY=60;N MT-PRIORITY=-3 SMTPUTF8", ""):
            await client.say(f"MAIL FROM:<a@b.example>{parameters}")
            await client.say("RCPT TO:<u@here.example>")
            await client.say("DATA")
            assert (await client.say(MESSAGE)).startswith("250 ")

    first, second = play(World(), talk).queued
    assert first.envelope.deliver_by == DeliverBy(NOW + 60, returns=False)
    assert (first.envelope.priority, first.envelope.smtputf8) == (-3, True)
    envelope = second.envelope
    assert (envelope.ret, envelope.envid, envelope.deliver_by, envelope.priority) == (None, "", None, 0)
    assert not envelope.smtputf8


def test_deliver_by() -> None:
    """RFC 2852 §4"""
    message = queued("<a@b.example> BY=120;RT")
    assert message.envelope.deliver_by == DeliverBy(NOW + 120, returns=True, traces=True)
    assert queued("<a@b.example> BY=-5;N").envelope.deliver_by == DeliverBy(NOW - 5, returns=False)


def test_less_time_than_the_minimum_is_refused_where_it_would_bring_the_message_back() -> None:
    settings = {"smtpd_deliver_by_minimum": "5m"}
    assert offered(smtpd_deliver_by_minimum="5m")["DELIVERBY"] == "300"
    (answer,) = answers("MAIL FROM:<a@b.example> BY=299;R", **settings)
    assert answer.startswith("555 5.5.4 ")
    assert queued("<a@b.example> BY=299;N", **settings).envelope.deliver_by == DeliverBy(NOW + 299, returns=False)


@pytest.mark.parametrize("parameter", ["HOLDFOR=3600", "HOLDUNTIL=2027-01-15T09:00:00Z"])
def test_a_message_is_held_until_its_time_and_the_client_is_told_which(parameter: str) -> None:
    """RFC 4865 §4"""
    (answer,) = answers(f"MAIL FROM:<a@b.example> {parameter}", **TRUSTED)
    assert answer == "250 2.1.0 Ok, held until 2027-01-15T09:00:00Z"
    message = queued(f"<a@b.example> {parameter}", **TRUSTED)
    assert (message.due, message.envelope.held_until) == (NOW + 3600, NOW + 3600)
    assert message.arrived == NOW


def test_a_time_that_has_passed_holds_nothing() -> None:
    message = queued("<a@b.example> HOLDUNTIL=2027-01-15T07:59:59Z", **TRUSTED)
    assert (message.due, message.envelope.held_until) == (0.0, 0.0)


@pytest.mark.parametrize(
    "parameter", ["HOLDFOR=864001", "HOLDUNTIL=2027-01-25T08:00:01Z", "HOLDUNTIL=9999-01-01T00:00:00Z"]
)
def test_nothing_is_held_longer_than_the_limit(parameter: str) -> None:
    (answer,) = answers(f"MAIL FROM:<a@b.example> {parameter}", smtpd_future_release_limit="10d", **TRUSTED)
    assert answer.startswith("501 5.5.4 ")


def test_priorities_of_those_who_are_not_trusted_are_lowered_only() -> None:
    """RFC 6710 §8"""
    assert answers("MAIL FROM:<a@b.example> MT-PRIORITY=4") == ["250 2.3.6 0 is the priority of this message"]
    assert queued("<a@b.example> MT-PRIORITY=4").envelope.priority == 0
    assert queued("<a@b.example> MT-PRIORITY=-4").envelope.priority == -4
    assert queued("<a@b.example> MT-PRIORITY=4", **TRUSTED).envelope.priority == 4


@honours("smtputf8_enable")
def test_smtputf8() -> None:
    """RFC 6531 §3.4, §4.3"""
    message = queued("<jürgen@bücher.example> SMTPUTF8", "<駅伝@here.example>")
    assert message.envelope.smtputf8
    assert str(message.envelope.sender) == "jürgen@bücher.example"
    assert str(message.envelope.recipients[0].address) == "駅伝@here.example"
    assert isinstance(message.content, InlineContent)
    assert b" with UTF8SMTP id " in message.content.data
    assert "\tfor <駅伝@here.example>".encode() in message.content.data
    assert "SMTPUTF8" not in offered(smtputf8_enable="no")
    said = answers("MAIL FROM:<a@b.example> SMTPUTF8", "MAIL FROM:<jürgen@b.example>", smtputf8_enable="no")
    assert [answer[:9] for answer in said] == ["555 5.5.4", "553 5.6.7"]

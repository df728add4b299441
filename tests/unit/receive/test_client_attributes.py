"""XCLIENT and XFORWARD in a session: who may say them, and what becomes of the client and its messages."""

from __future__ import annotations

from typing import cast

import pytest

from ekiden.message.content import InlineContent
from ekiden.message.envelope import Client
from ekiden.observe.events import Accepting, Rejected
from ekiden.tables.match import ClientList
from ekiden.tables.table import TableTrouble
from support.honours import honours
from support.log_lines import rendered
from support.smtp_session import Talk, World, play

GATEWAY = {"smtpd_authorized_xclient_hosts": "127.0.0.1"}
FILTER = {"smtpd_authorized_xforward_hosts": "127.0.0.1"}
MESSAGE = "Subject: x\r\n\r\nHello\r\n."
DENIED = "550 5.7.0 Error: insufficient authorization"


@honours("smtpd_authorized_xclient_hosts")
@pytest.mark.parametrize(("hosts", "may"), [("", False), ("192.0.2.0/24", False), ("127.0.0.0/8", True)])
def test_who_may_speak_for_another_client(hosts: str, may: bool) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        offered = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN REVERSE_NAME DESTADDR DESTPORT"
        assert (offered in await client.say("EHLO gw.example")) is may
        answer = await client.say("XCLIENT NAME=a.example ADDR=192.0.2.7")
        assert answer == ("220 mx.here.example ESMTP Ekiden" if may else DENIED)
        if may:  # RFC 5321 §4.1.4: what was pipelined may be so again after the next EHLO only
            assert offered in await client.say("EHLO client.example")
        expected = "250 2.1.5 Ok" if may else "554 5.7.1 <u@elsewhere.example>: Relay access denied"
        assert await client.envelope("u@elsewhere.example") == [expected]

    world = play(World(smtpd_authorized_xclient_hosts=hosts), talk)
    accepted = [str(event.client) for event in world.events if isinstance(event, Accepting)]
    assert accepted == (["a.example[192.0.2.7]"] if may else [])


@honours("smtpd_authorized_xforward_hosts")
@pytest.mark.parametrize(("hosts", "may"), [("", False), ("192.0.2.0/24", False), ("127.0.0.0/8", True)])
def test_who_may_say_where_a_message_came_from(hosts: str, may: bool) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        offered = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
        assert (offered in await client.say("EHLO filter.example")) is may
        answer = await client.say("XFORWARD NAME=a.example ADDR=192.0.2.7 PROTO=ESMTP HELO=c.example IDENT=4Fz")
        assert answer == ("250 2.0.0 Ok" if may else DENIED)
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)

    world = play(World(smtpd_authorized_xforward_hosts=hosts), talk)
    origin = world.queued[0].envelope.client
    assert (str(origin), origin.helo) == (
        ("a.example[192.0.2.7]", "c.example") if may else ("unknown[127.0.0.1]", "filter.example")
    )
    (line,) = next(rendered(event) for event in world.events if isinstance(event, Accepting))
    told = ", orig_queue_id=4Fz, orig_client=a.example[192.0.2.7]" if may else ""
    assert line == f"postfix/smtpd[123]: Q0: client=unknown[127.0.0.1]{told}"
    content = world.queued[0].content
    assert isinstance(content, InlineContent)
    assert b"from filter.example (unknown [127.0.0.1])" in content.data  # Received: tells the hop that was
    assert b"192.0.2.7" not in content.data


def test_what_was_forwarded_is_of_one_message_only() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.say("XFORWARD NAME=a.example")
        await client.say("XFORWARD ADDR=192.0.2.7")
        for _ in range(2):
            await client.envelope("u@here.example")
            await client.say("DATA")
            await client.say(MESSAGE)
        await client.say("XFORWARD NAME=b.example ADDR=192.0.2.8")
        await client.say("RSET")
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)

    world = play(World(**FILTER), talk)
    origins = [str(message.envelope.client) for message in world.queued]
    assert origins == ["a.example[192.0.2.7]", "unknown[127.0.0.1]", "unknown[127.0.0.1]"]


@pytest.mark.parametrize(("source", "completed"), [("LOCAL", True), ("REMOTE", False), ("[UNAVAILABLE]", False)])
def test_where_a_message_was_written_decides_what_is_completed(source: str, completed: bool) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.say(f"XFORWARD SOURCE={source}")
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)

    world = play(World(**FILTER), talk)
    content = world.queued[0].content
    assert isinstance(content, InlineContent)
    assert (b"\nMessage-Id: " in content.data) is completed
    assert str(world.queued[0].envelope.client) == "unknown[127.0.0.1]"


def test_a_session_begins_anew_with_the_other_client() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.say("XCLIENT ADDR=192.0.2.7 HELO=other.example PROTO=ESMTP LOGIN=user")
        # Nothing may be pipelined before the new EHLO, and a transaction knows nothing of the session before.
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)
        await client.say("XCLIENT NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]")
        assert (await client.envelope("u@elsewhere.example"))[0].startswith("554 ")

    world = play(World(**GATEWAY), talk)
    client = world.queued[0].envelope.client
    assert (client.name, client.address, client.helo, client.protocol) == (
        *("unknown", "192.0.2.7", "other.example", "ESMTP"),
    )
    assert (client.login, client.login_method) == ("user", "XCLIENT")
    refused = next(event.client for event in world.events if isinstance(event, Rejected))
    assert refused == Client(port=client.port, protocol="SMTP")


def test_the_rights_of_the_gateway_are_its_own() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        for _ in range(3):
            assert (await client.say("XCLIENT ADDR=203.0.113.5")).startswith("220 ")
            assert (await client.say("XFORWARD ADDR=203.0.113.5")) == DENIED
        assert (await client.envelope("u@elsewhere.example"))[0].startswith("554 ")

    play(World(**GATEWAY), talk)


@honours("smtpd_client_message_rate_limit")
def test_no_limit_binds_a_gateway() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        for _ in range(3):
            await client.say("RSET")
            assert (await client.envelope("u@here.example"))[0].startswith("250 ")

    settings = {"smtpd_client_message_rate_limit": "1", "smtpd_client_event_limit_exceptions": ""}
    play(World(**GATEWAY, **settings), talk)


@honours("smtpd_forbid_bare_newline_exclusions")
def test_the_treatment_of_bare_newlines_is_the_other_client_s() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        for address, code in (("192.0.2.7", "250"), ("203.0.113.5", "550")):
            await client.say(f"XCLIENT ADDR={address}")
            await client.envelope("u@here.example")
            await client.say("DATA")
            assert (await client.say("Subject: x\r\n\r\nHel\nlo\r\n."))[:3] == code

    play(World(**GATEWAY, smtpd_forbid_bare_newline_exclusions="192.0.2.0/24"), talk)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("XCLIENT", "501 5.5.4 Syntax: XCLIENT attribute=value..."),
        ("XFORWARD", "501 5.5.4 Syntax: XFORWARD attribute=value..."),
        ("XCLIENT SHOE=44", "501 5.5.4 Error: bad XCLIENT attribute name: SHOE"),
        ("XCLIENT NAME", "501 5.5.4 Error: attribute=value expected"),
        ("XFORWARD ADDR=nowhere", "501 5.5.4 Error: bad ADDR syntax: nowhere"),
        (f"XCLIENT NAME={'a' * 256}", "501 5.5.4 Error: attribute value too long"),
        ("XCLIENT ADDR=192.0.2.7\tNAME=x", "501 5.5.2 Error: control character in command"),
        (f"XCLIENT NAME={'a' * 3000}", "500 5.5.2 Error: command line too long"),
    ],
)
def test_what_is_refused_changes_nothing(command: str, answer: str) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert await client.say(command) == answer
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)

    world = play(World(**GATEWAY, **FILTER), talk)
    assert str(world.queued[0].envelope.client) == "unknown[127.0.0.1]"


def test_trouble_with_a_table_ends_the_session_of_a_gateway() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert (await client.say("XCLIENT ADDR=192.0.2.7")).startswith("421 4.3.0 ")
        assert await client.reader.read() == b""

    class Networks:
        async def matches(self, address: str, _name: str = "") -> bool:
            if address == "192.0.2.7":
                raise TableTrouble("texthash:/x: not there")
            return True

    world = World(**GATEWAY)
    world.service.standings.trusted = cast("ClientList", Networks())
    play(world, talk)


@pytest.mark.parametrize(("name", "code"), [("[UNAVAILABLE]", "550 5.7.25"), ("[TEMPUNAVAIL]", "450 4.7.25")])
def test_a_name_that_cannot_be_looked_up_now_refuses_for_now(name: str, code: str) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.say(f"XCLIENT NAME={name} ADDR=203.0.113.5")
        assert (await client.envelope("u@here.example"))[0].startswith(code)

    settings = {"smtpd_client_restrictions": "reject_unknown_client_hostname", "unknown_client_reject_code": "550"}
    play(World(**GATEWAY, **settings), talk)

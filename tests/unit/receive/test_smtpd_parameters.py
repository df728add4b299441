"""Parameters of the SMTP server: each is changed, and what a client then hears is seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ekiden.config.errors import ConfigError
from ekiden.message.content import InlineContent
from ekiden.observe.events import Note, Rejected
from support.honours import honours
from support.smtp_session import Talk, World, play

MESSAGE = "Subject: x\r\n\r\nHello\r\n."


@honours("disable_vrfy_command")
@pytest.mark.parametrize(("disabled", "answer"), [("no", "252 2.0.0 postmaster"), ("yes", "502 5.5.1 ")])
def test_vrfy(disabled: str, answer: str) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        assert ("250-VRFY" in await client.say("EHLO client.example")) is (disabled == "no")
        assert (await client.say("VRFY postmaster")).startswith(answer)

    play(World(disable_vrfy_command=disabled), talk)


@honours("smtpd_helo_required")
@pytest.mark.parametrize(("required", "answer"), [("no", "250 2.1.0 "), ("yes", "503 5.5.1 ")])
def test_mail_without_helo(required: str, answer: str) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        assert (await client.say("MAIL FROM:<a@b.example>")).startswith(answer)
        await client.say("HELO client.example")
        if required == "yes":
            assert (await client.say("MAIL FROM:<a@b.example>")).startswith("250 ")

    play(World(smtpd_helo_required=required), talk)


@honours("smtpd_discard_ehlo_keywords", "mail_name", "smtpd_banner", "message_size_limit")
def test_what_the_server_says_of_itself() -> None:
    async def talk(client: Talk) -> None:
        assert await client.reply() == "220 mx.here.example says Post"
        answer = await client.say("EHLO client.example")
        assert "PIPELINING" not in answer
        assert "8BITMIME" not in answer
        assert "250-SIZE 5000" in answer
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)

    world = play(
        World(
            smtpd_banner="$myhostname says $mail_name",
            mail_name="Post",
            smtpd_discard_ehlo_keywords="pipelining, 8BITMIME",
            message_size_limit="5000",
        ),
        talk,
    )
    content = world.queued[0].content
    assert isinstance(content, InlineContent)
    assert b"\r\n\tby mx.here.example (Post) with ESMTP id Q0\r\n" in content.data


@honours("smtpd_error_sleep_time")
@pytest.mark.parametrize(("time", "slept"), [("3s", [3.0, 3.0]), ("0s", [0.0, 0.0])])
def test_how_long_an_erring_client_waits(time: str, slept: list[float]) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        for _ in range(3):
            assert (await client.say("WRONG")).startswith("500 ")

    assert play(World(smtpd_error_sleep_time=time, smtpd_soft_error_limit="1"), talk).clock.slept == slept


@honours("smtpd_forbid_bare_newline", "smtpd_forbid_bare_newline_exclusions")
@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({}, "550 5.5.2 Error: bare <LF> received"),
        ({"smtpd_forbid_bare_newline_exclusions": "192.0.2.0/24"}, "550 5.5.2 Error: bare <LF> received"),
        ({"smtpd_forbid_bare_newline_exclusions": "127.0.0.0/8"}, "250 2.0.0 Ok: queued as Q0"),
        ({"smtpd_forbid_bare_newline": "normalize"}, "250 2.0.0 Ok: queued as Q0"),
    ],
)
def test_bare_newlines(settings: dict[str, str], answer: str) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert await client.say("Subject: x\r\n\r\nHel\nlo\r\n.") == answer

    play(World(**settings), talk)


@honours("smtpd_noop_commands")
def test_commands_that_do_nothing() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        for command in ("VRFY x", "xyzzy", "Plugh now", "RSET"):
            assert await client.say(command) == "250 2.0.0 Ok"
        assert (await client.say("FROB")).startswith("500 ")
        assert await client.say("NOOP") == "421 4.7.0 mx.here.example Error: too many errors"

    settings = {"smtpd_noop_commands": "vrfy, XYZZY !frob inline:{plugh=1 frob=1 rset=1}"}
    play(World(smtpd_junk_command_limit="5", **settings), talk)


@honours("smtpd_forbidden_commands")
@pytest.mark.parametrize(
    ("forbidden", "ends"),
    [
        (None, ["GET /", "PUT /", "1234", "Subject: x"]),
        ("BDAT, frob", ["BDAT 1", "FROB x", "Subject: x"]),
        ("regexp:{{/^x/ 1}} !xa", ["XYZZY"]),
        ("!xa regexp:{{/^x/ 1}}", ["XYZZY"]),
    ],
)
def test_commands_that_end_the_session(forbidden: str | None, ends: list[str]) -> None:
    settings = {} if forbidden is None else {"smtpd_forbidden_commands": forbidden}
    for command in ends:

        async def talk(client: Talk, command: str = command) -> None:
            await client.hello()
            assert await client.say(command) == "221 2.7.0 Error: this is an SMTP server"
            assert await client.reader.read() == b""

        play(World(**settings), talk)


@honours("smtpd_forbidden_commands")
def test_commands_that_are_not_forbidden() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert (await client.say("GET / HTTP/1.1")).startswith("500 5.5.2 ")
        assert (await client.say("XA")).startswith("500 5.5.2 ")
        assert (await client.say("NOOP")).startswith("250 ")  # what is a command of SMTP is never forbidden

    play(World(smtpd_forbidden_commands="noop !xa regexp:{{/^x/ 1}}"), talk)


@honours("smtpd_command_filter")
def test_commands_are_taken_for_others() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert (await client.say("MAIL FROM:<a@b.example>")).startswith("250 ")
        assert (await client.say("RCPT TO:<'u@here.example'>")).startswith("250 2.1.5 ")
        assert (await client.say("NOTHING")).startswith("221 ")

    rules = "{/^(RCPT TO:<)'(.*)'(>.*)/ $$1$$2$$3} {/^nothing$$/ QUIT}"
    world = play(World(smtpd_command_filter=f"pcre:{{{rules}}}"), talk)
    shown = [event.text for event in world.events if isinstance(event, Note)]
    assert shown[0] == ('replacing client command "RCPT TO:<\'u@here.example\'>" with "RCPT TO:<u@here.example>"')


@honours("smtpd_command_filter")
def test_a_command_filter_that_cannot_be_asked_defers() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        assert await client.say("EHLO x") == "451 4.3.0 Error: a lookup table is not available"

    play(World(smtpd_command_filter="texthash:/nowhere/at/all"), talk)


@honours("smtpd_forbid_bare_newline_reject_code")
@pytest.mark.parametrize("code", ["521", "450"])
def test_the_code_of_a_bare_newline(code: str) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert (await client.say("Subject: x\r\n\r\nHel\nlo\r\n.")).startswith(
            f"{code} {code[0]}.5.2 Error: bare <LF> "
        )
        client.writer.write(b"NOOP\n")
        assert (await client.reply()).startswith(f"{code} {code[0]}.5.2 Error: bare <LF> ")

    play(World(smtpd_forbid_bare_newline_reject_code=code), talk)


@honours("smtpd_forbid_unauth_pipelining")
@pytest.mark.parametrize(("forbid", "answer"), [("yes", "554 5.5.0 Error: SMTP protocol sync"), ("no", "250 mx.here")])
def test_a_client_that_does_not_wait(forbid: str, answer: str) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        client.writer.write(b"HELO client.example\r\nMAIL FROM:<a@b.example>\r\n")
        assert (await client.reply()).startswith(answer)

    world = play(World(smtpd_forbid_unauth_pipelining=forbid), talk)
    shown = [event.text for event in world.events if isinstance(event, Note)]
    early = "improper command pipelining after HELO from unknown[127.0.0.1]: MAIL FROM:<a@b.example>??"
    assert shown == ([early] if forbid == "yes" else [])


@pytest.mark.parametrize("name", ["smtpd_noop_commands", "smtpd_forbidden_commands", "smtpd_command_filter"])
def test_commands_are_not_looked_up_elsewhere(name: str) -> None:
    with pytest.raises(ConfigError, match="memcache:/x: a table of SMTP commands must lie on this host"):
        World(**{name: "memcache:/x"})


def limited(talk: Callable[[Talk], Awaitable[None]], **settings: str) -> list[str]:
    """What the log says of refusals, when two sessions of a client follow each other."""
    world = World(**settings)
    for _ in range(2):
        play(world, talk)
    return [event.detail for event in world.events if isinstance(event, Rejected)]


@honours("smtpd_client_message_rate_limit")
def test_messages_of_a_client_in_a_time() -> None:
    answers: list[str] = []

    async def talk(client: Talk) -> None:
        await client.hello()
        answers.append(await client.say("MAIL FROM:<a@b.example>"))

    details = limited(talk, smtpd_client_message_rate_limit="1")
    assert answers == ["250 2.1.0 Ok", "450 4.7.1 Error: too much mail from 127.0.0.1"]
    assert details == ["Message delivery request rate limit exceeded: 2 from unknown[127.0.0.1] for service smtpd"]


@honours("smtpd_client_recipient_rate_limit", "smtpd_client_event_limit_exceptions")
@pytest.mark.parametrize(("exceptions", "refused"), [("192.0.2.0/24", 1), ("127.0.0.1", 0)])
def test_recipients_of_a_client_in_a_time(exceptions: str, refused: int) -> None:
    answers: list[str] = []

    async def talk(client: Talk) -> None:
        await client.hello()
        answers.extend(await client.envelope("u@here.example", "nobody@here.example"))

    settings = {"smtpd_client_recipient_rate_limit": "3", "smtpd_client_event_limit_exceptions": exceptions}
    limited(talk, **settings)
    codes = ["250 2.1.5", "550 5.1.1", "250 2.1.5", "450 4.7.1" if refused else "550 5.1.1"]
    assert [answer[:9] for answer in answers] == codes


@honours("smtpd_client_connection_rate_limit")
def test_connections_of_a_client_in_a_time() -> None:
    greetings: list[str] = []

    async def talk(client: Talk) -> None:
        greetings.append(await client.reply())

    details = limited(talk, smtpd_client_connection_rate_limit="1")
    assert greetings[1] == "421 4.7.0 mx.here.example Error: too many connections from 127.0.0.1"
    assert details == ["Connection rate limit exceeded: 2 from unknown[127.0.0.1] for service smtpd"]

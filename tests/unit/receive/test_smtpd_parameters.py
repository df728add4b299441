"""Parameters of the SMTP server: each is changed, and what a client then hears is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ekiden.config.errors import ConfigError
from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.reply import Refusal, reply
from ekiden.observe.events import Accepting, Note, Rejected
from ekiden.policy.relay_access import RelayAccess
from support.honours import honours
from support.log_lines import rendered
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
        ("BURL, frob", ["BURL 1", "FROB x", "Subject: x"]),
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


@honours("smtpd_discard_ehlo_keyword_address_maps", "smtpd_discard_ehlo_keywords")
@pytest.mark.parametrize(
    ("maps", "discarded"),
    [
        ("inline:{192.0.2.1=size}", "8BITMIME"),
        ("inline:{{127.0.0.1=size, pipelining}}", "SIZE PIPELINING"),
        ("inline:{{127.0.0.1=silent-discard}}", ""),
    ],
)
def test_extensions_are_hidden_from_some_clients(maps: str, discarded: str) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        answer = await client.say("EHLO client.example")
        missing = [word for word in ("8BITMIME", "PIPELINING", "SIZE") if word not in answer]
        assert sorted(missing) == sorted(discarded.split())

    play(World(smtpd_discard_ehlo_keywords="8bitmime", smtpd_discard_ehlo_keyword_address_maps=maps), talk)


def test_a_table_of_extensions_that_cannot_be_asked_defers() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        assert (await client.say("EHLO client.example")).startswith("451 4.3.0 ")

    play(World(smtpd_discard_ehlo_keyword_address_maps="texthash:/nowhere/at/all"), talk)


@honours("smtpd_hide_client_session")
@pytest.mark.parametrize(
    ("hidden", "begin"),
    [
        (
            "no",
            b"Received: from client.example (unknown [127.0.0.1])\r\n\tby mx.here.example (Ekiden) with ESMTP id Q0",
        ),
        ("yes", b"Received: by mx.here.example (Ekiden) with ESMTP id Q0\r\n\tfor <u@here.example>; "),
    ],
)
def test_the_received_field_may_hide_the_client(hidden: str, begin: bytes) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(MESSAGE)

    content = play(World(smtpd_hide_client_session=hidden), talk).queued[0].content
    assert isinstance(content, InlineContent)
    assert content.data.startswith(begin)


@honours("smtpd_client_port_logging")
@pytest.mark.parametrize("shown", ["yes", "no"])
def test_the_log_may_name_the_port(shown: str) -> None:
    ports: list[int] = []

    async def talk(client: Talk) -> None:
        ports.append(client.writer.get_extra_info("sockname")[1])
        await client.hello()
        await client.envelope("nobody@here.example")

    world = play(World(smtpd_client_port_logging=shown), talk)
    name = f"unknown[127.0.0.1]:{ports[0]}" if shown == "yes" else "unknown[127.0.0.1]"
    lines = rendered(*world.events)
    assert lines[0].endswith(f": connect from {name}")
    assert f": reject: RCPT from {name}: 550 " in lines[1]


@honours("smtpd_delay_open_until_valid_rcpt")
@pytest.mark.parametrize(("delay", "opened"), [("yes", 0), ("no", 1)])
def test_when_a_message_gets_its_queue_id(delay: str, opened: int) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("nobody@here.example")

    world = play(World(smtpd_delay_open_until_valid_rcpt=delay), talk)
    assert len([event for event in world.events if isinstance(event, Accepting)]) == opened


@honours("smtpd_per_request_deadline")
def test_a_command_that_drips_may_be_given_time_for_each_part() -> None:
    """For longer than a command may take, but never with so long a pause; test_session.py has the opposite."""

    async def talk(client: Talk) -> None:
        await client.reply()
        for _ in range(20):
            client.writer.write(b" ")
            await asyncio.sleep(0.1)
        assert (await client.say("NOOP")).startswith("250 2.0.0 ")

    play(World(smtpd_timeout="1s", smtpd_per_request_deadline="no"), talk, watch_interval_s=0.1)


def footed(settings: dict[str, str]) -> tuple[str, World]:
    answers: list[str] = []

    async def talk(client: Talk) -> None:
        await client.hello()
        answers.extend(await client.envelope("nobody@here.example"))

    world = play(World(**settings), talk)
    return answers[0], world


REFUSED = "5.1.1 <nobody@here.example>: User unknown"


@honours("smtpd_reject_footer", "smtpd_reject_footer_maps")
@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"smtpd_reject_footer": "Call 800-555."}, f"550-{REFUSED}\n550 5.1.1 Call 800-555."),
        ({"smtpd_reject_footer": r"\c. Call $client_address\nor $server_name"},
         f"550-{REFUSED}. Call 127.0.0.1\n550 5.1.1 or mx.here.example"),
        ({"smtpd_reject_footer": "x", "smtpd_reject_footer_maps": "pcre:{{/User unknown/ See $$$$server_name}}"},
         f"550-{REFUSED}\n550 5.1.1 See mx.here.example"),
        ({"smtpd_reject_footer": "x", "smtpd_reject_footer_maps": "pcre:{{/Other/ y}}"},
         f"550-{REFUSED}\n550 5.1.1 x"),
        ({"smtpd_reject_footer": "for $recipient"}, f"550 {REFUSED}"),
    ],
)  # fmt: skip
def test_refusals_have_a_footer(settings: dict[str, str], answer: str) -> None:
    said, world = footed(settings)
    assert said == answer
    # The log has the refusal alone, and says why a footer was left out.
    assert [event.reply for event in world.events if isinstance(event, Rejected)] == [f"550 {REFUSED}"]
    notes = [event.text for event in world.events if isinstance(event, Note)]
    assert [("has no value" in note) for note in notes] == ([True] if "$recipient" in str(settings) else [])


@honours("smtpd_expansion_filter")
@pytest.mark.parametrize(("allowed", "shown"), [("0123456789", "127_0_0_1"), ("0123456789.", "127.0.0.1")])
def test_what_a_footer_may_hold(allowed: str, shown: str) -> None:
    said, _ = footed({"smtpd_reject_footer": "$client_address", "smtpd_expansion_filter": allowed})
    assert said.endswith(f"550 5.1.1 {shown}")


def test_a_footer_table_in_trouble_does_no_harm() -> None:
    said, _ = footed({"smtpd_reject_footer": "x", "smtpd_reject_footer_maps": "texthash:/nowhere/at/all"})
    assert said == f"550-{REFUSED}\n550 5.1.1 x"


@honours("smtpd_reject_unlisted_sender")
def test_senders_that_do_not_exist_here() -> None:
    async def check(text: str) -> str:
        class Nobody:
            def lasts(self, address: Address) -> bool:
                return False

            async def is_relay_allowed_destination(self, address: Address) -> bool:
                return True

            async def check_recipient(self, address: Address) -> Refusal | None:
                words = f"<{address}>: Recipient address rejected: User unknown in local recipient table"
                return Refusal(reply(550, "5.1.1", words), "unknown-user") if address.local == "joe" else None

        local, _, domain = text.partition("@")
        found = await RelayAccess(Nobody()).check_sender(Address(local, domain))
        return found.reply.text if found is not None else ""

    refused = "550 5.1.0 <joe@here.example>: Sender address rejected: User unknown in local recipient table"
    assert asyncio.run(check("joe@here.example")) == refused
    assert asyncio.run(check("jane@here.example")) == ""
    assert asyncio.run(check("")) == ""

    for enabled, expected in (("no", "250 2.1.5"), ("yes", "550 5.1.0")):

        async def talk(client: Talk, expected: str = expected) -> None:
            await client.hello()
            await client.say("MAIL FROM:<nobody@here.example>")
            assert (await client.say("RCPT TO:<u@here.example>")).startswith(expected)

        play(World(smtpd_reject_unlisted_sender=enabled), talk)


@honours("tls_required_enable")
@pytest.mark.parametrize(
    ("field", "enabled", "optional"),
    [
        ("TLS-Required: No\r\n", "yes", True),
        ("tls-required:\r\n no \r\n", "yes", True),
        ("TLS-Required: No\r\n", "no", False),
        ("TLS-Required: Nobody\r\n", "yes", False),
        ("X-TLS-Required: No\r\n", "yes", False),
        ("", "yes", False),
    ],
)
def test_a_message_that_wants_no_policy_of_domains_in_its_way(field: str, enabled: str, optional: bool) -> None:
    """RFC 8689 §3."""

    async def talk(client: Talk) -> None:
        await client.reply()
        await client.say("EHLO client.example")
        await client.envelope("u@here.example")
        await client.say("DATA")
        await client.say(f"Subject: x\r\n{field}\r\nTLS-Required: No\r\n.")

    world = play(World(tls_required_enable=enabled), talk)
    assert world.queued[0].envelope.tls_optional is optional

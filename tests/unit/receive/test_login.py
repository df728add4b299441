"""AUTH in a session (RFC 4954): what is offered to whom, what a client hears and what the log says of it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, field
from typing import cast

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.message.tls_facts import TlsFacts
from ekiden.observe.events import Accepting, ConnectionLost, LoginFailed, Note, Rejected
from ekiden.observe.maillog import MailLogRenderer
from ekiden.receive.connection import Connection
from ekiden.receive.login_service import LoginService
from ekiden.receive.session import SmtpSession
from ekiden.sasl.accounts import Verdict
from ekiden.sasl.exchange import Facts, MechanismServer, MechanismTraits
from ekiden.sasl.own_mechanisms import OwnMechanisms
from ekiden.sasl.scram import ScramHash
from ekiden.sasl.scram_server import MadeUp
from ekiden.tls.certificate_names import mail_addresses_of
from support.honours import honours
from support.sasl import KnownAccounts, ScramTalk
from support.smtp_session import Talk, World, play

CLEAR = {"smtpd_sasl_auth_enable": "yes", "smtpd_tls_auth_only": "no"}
SCRAM = "SCRAM-SHA-256 SCRAM-SHA-1"


def own(accounts: KnownAccounts | None = None) -> OwnMechanisms:
    return OwnMechanisms(accounts or KnownAccounts(), MadeUp(lambda: b"secret"))


def world(accounts: KnownAccounts | None = None, /, **settings: str) -> World:
    return World(own(accounts), **{**CLEAR, **settings})


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def heard(service: World, *lines: str) -> list[str]:
    """The replies to these lines, after EHLO."""
    replies = []

    async def talk(client: Talk) -> None:
        await client.hello()
        replies.extend([await client.say(line) for line in lines])

    play(service, talk)
    return replies


def ehlo(service: World) -> str:
    return heard(service, "EHLO client.example")[0]


def log(service: World) -> list[str]:
    render = MailLogRenderer().render
    return [render(event)[1] for event in service.events if isinstance(event, LoginFailed | Note | Accepting)]


@honours("smtpd_sasl_auth_enable", "smtpd_tls_auth_only")
def test_auth_is_offered_where_it_is_allowed() -> None:
    assert f"250-AUTH {SCRAM} PLAIN LOGIN" in ehlo(world()).split("\n")
    closed = world(smtpd_tls_auth_only="yes")
    assert "AUTH" not in ehlo(closed)
    (answer,) = heard(closed, f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0) + 'secret')}")
    assert answer == "538 5.7.11 Encryption required for requested authentication mechanism"
    without = World()
    assert "AUTH" not in ehlo(without)
    assert heard(without, "AUTH PLAIN")[0].startswith("502 5.5.1 ")


def test_in_clear_text_nobody_logs_in_unless_it_is_allowed_by_name() -> None:
    assert Parameters().smtpd_tls_auth_only is True
    accounts = KnownAccounts()
    service = World(own(accounts), smtpd_sasl_auth_enable="yes")
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "NONSENSE"):
        assert heard(service, f"AUTH {mechanism}")[0].startswith("538 5.7.11 ")
    assert accounts.asked == []


@pytest.mark.parametrize(
    "lines",
    [
        (f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0) + 'secret')}",),
        ("auth plain", b64("\0bob\0secret")),
        ("AUTH LOGIN", b64("bob"), b64("secret")),
        (f"AUTH LOGIN {b64('bob')}", b64("secret")),
    ],
)
def test_who_knows_the_password_is_logged_in(lines: tuple[str, ...]) -> None:
    service = world()
    replies: list[str] = []

    async def talk(client: Talk) -> None:
        await client.hello()
        replies.extend([await client.say(line) for line in lines])
        await client.envelope("c@here.example")
        await client.say("DATA")
        replies.append(await client.say("Subject: x\r\n\r\nx\r\n."))

    play(service, talk)
    assert [reply[:4] for reply in replies] == ["334 "] * (len(lines) - 1) + ["235 ", "250 "]
    assert replies[-2] == "235 2.7.0 Authentication successful"
    client = service.queued[0].envelope.client
    assert (client.login, client.login_method) == ("bob", lines[0].split()[1].upper())
    # RFC 3848
    assert b" with ESMTPA id " in service.writers[-1].data
    assert f"client=unknown[127.0.0.1], sasl_method={client.login_method}, sasl_username=bob" in log(service)[-1]


def test_login_asks_in_the_words_that_clients_wait_for() -> None:
    assert heard(world(), "AUTH LOGIN", b64("bob")) == ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"]


def test_scram_says_its_last_word_in_a_challenge() -> None:
    talks = ScramTalk(ScramHash.SHA256, "bob", "secret")
    said = []

    async def talk(client: Talk) -> None:
        await client.hello()
        challenge = await client.say(f"AUTH SCRAM-SHA-256 {b64(talks.begin)}")
        last = await client.say(b64(talks.answer(base64.b64decode(challenge[4:]))))
        assert base64.b64decode(last[4:]) == talks.expected
        said.append(await client.say(""))
        # RFC 4954 §4: once a session.
        said.append(await client.say("AUTH PLAIN"))

    play(world(), talk)
    assert said == ["235 2.7.0 Authentication successful", "503 5.5.1 Error: already authenticated"]


def test_the_last_word_of_scram_wants_no_answer() -> None:
    talks = ScramTalk(ScramHash.SHA256, "bob", "secret")
    service = world()
    said = []

    async def talk(client: Talk) -> None:
        for end in (b64("what"), "*", "!"):
            challenge = await client.say(f"AUTH SCRAM-SHA-256 {b64(talks.begin)}")
            await client.say(b64(talks.answer(base64.b64decode(challenge[4:]))))
            said.append(await client.say(end))
        said.append(await client.say("AUTH SCRAM-SHA-256"))

    async def hello(client: Talk) -> None:
        await client.hello()
        await talk(client)

    play(service, hello)
    assert [answer[:9] for answer in said] == ["501 5.5.2", "501 5.7.0", "501 5.5.2", "334 "]


def test_a_failure_says_the_same_whatever_the_reason() -> None:
    accounts = KnownAccounts({"bob": "secret", "off": "secret"}, disabled=frozenset({"off"}))
    service = world(accounts)
    answers = heard(
        service,
        f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0) + 'guess')}",
        f"AUTH PLAIN {b64(chr(0) + 'nobody' + chr(0) + 'guess')}",
        f"AUTH PLAIN {b64(chr(0) + 'off' + chr(0) + 'secret')}",
        f"AUTH PLAIN {b64('alice' + chr(0) + 'bob' + chr(0) + 'secret')}",
        f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0))}",
    )
    assert answers == ["535 5.7.8 Error: authentication failed: (reason unavailable)"] * 5
    assert log(service) == [
        "warning: unknown[127.0.0.1]: SASL PLAIN authentication failed: authentication failure, sasl_username=bob",
        "warning: unknown[127.0.0.1]: SASL PLAIN authentication failed: authentication failure, sasl_username=nobody",
        "warning: unknown[127.0.0.1]: SASL PLAIN authentication failed: account disabled, sasl_username=off",
        "warning: unknown[127.0.0.1]: SASL PLAIN authentication failed: bob may not act as alice, sasl_username=bob",
        "warning: unknown[127.0.0.1]: SASL PLAIN authentication failed: empty password, sasl_username=bob",
    ]


def test_a_name_cannot_write_a_log_line() -> None:
    service = world()
    name = "x: host[192.0.2.1]: SASL LOGIN authentication failed: =<\r\nwarning: a, b"
    heard(service, f"AUTH PLAIN {b64(chr(0) + name + chr(0) + 'guess')}")
    (line,) = log(service)
    assert line.startswith("warning: unknown[127.0.0.1]: SASL PLAIN authentication failed: authentication failure, ")
    assert " " not in line.partition("sasl_username=")[2]


def test_accounts_that_cannot_be_asked_are_temporary() -> None:
    accounts = KnownAccounts()
    accounts.trouble = "server away"
    service = world(accounts)
    (answer,) = heard(service, f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0) + 'secret')}")
    assert answer == "454 4.7.0 Temporary authentication failure"
    assert log(service)[0].endswith("SASL PLAIN authentication failed: server away, sasl_username=bob")


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (("AUTH PLAIN", "*"), "501 5.7.0"),
        (("AUTH PLAIN", "="), "501 5.5.2"),
        (("AUTH PLAIN", "not base64!"), "501 5.5.2"),
        (("AUTH PLAIN", ""), "501 5.5.2"),
        (("AUTH PLAIN =",), "501 5.5.2"),
        (("AUTH PLAIN !",), "501 5.5.2"),
        (("AUTH PLAIN", b64("bob")), "501 5.5.2"),
        (("AUTH PLAIN", "A" * 13000), "500 5.5.6"),
        (("AUTH",), "501 5.5.4"),
        (("AUTH CRAM-MD5",), "504 5.5.4"),
        (("AUTH EXTERNAL =",), "504 5.5.4"),
        (("AUTH SCRAM-SHA-256-PLUS",), "504 5.5.4"),
        (("MAIL FROM:<a@b.example>", "AUTH PLAIN"), "503 5.5.1"),
        ((f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0) + 'secret')}", "AUTH LOGIN"), "503 5.5.1"),
    ],
)
def test_a_broken_exchange_ends_and_the_session_goes_on(lines: tuple[str, ...], last: str) -> None:
    service = world()
    *_, answer, after = heard(service, *lines, "NOOP")
    assert answer.startswith(f"{last} ")
    assert after.startswith("250 ")


def test_auth_before_helo_is_refused() -> None:
    said = []

    async def talk(client: Talk) -> None:
        await client.reply()
        said.append(await client.say("AUTH PLAIN"))
        # A session may begin with MAIL, and is between transactions after RSET.
        await client.say("MAIL FROM:<a@b.example>")
        await client.say("RSET")
        said.append(await client.say("AUTH PLAIN"))

    play(world(), talk)
    assert said == ["503 5.5.1 Error: send HELO/EHLO first"] * 2


@pytest.mark.parametrize("behind", ["MAIL FROM:<a@b.example>", "QUIT", b64("\0bob\0secret")])
def test_what_is_pipelined_behind_auth_ends_the_session_and_is_not_shown(behind: str) -> None:
    service = world(smtpd_forbid_unauth_pipelining="no")
    answers = heard(service, f"AUTH LOGIN {b64('bob')}\r\n{behind}")
    assert answers == ["554 5.5.0 Error: SMTP protocol synchronization"]
    assert not any(behind in line for line in log(service))


def test_a_password_that_came_too_early_is_not_in_the_log() -> None:
    service = world()
    secret = b64("\0bob\0secret")

    async def talk(client: Talk) -> None:
        await client.reply()
        client.writer.write(f"EHLO x\r\nAUTH PLAIN {secret}\r\n".encode())
        assert (await client.reply()).startswith("554 5.5.0 ")

    play(service, talk)
    assert any("improper command pipelining" in line for line in log(service))
    assert secret not in "\n".join(log(service))


@honours("smtpd_sasl_response_limit")
def test_a_response_has_its_limit() -> None:
    long = b64("\0bob\0" + "x" * 600)
    assert heard(world(smtpd_sasl_response_limit="512"), "AUTH PLAIN", long)[-1].startswith("500 5.5.6 ")
    assert heard(world(), "AUTH PLAIN", long)[-1].startswith("535 5.7.8 ")


@honours("smtpd_sasl_security_options", "smtpd_sasl_tls_security_options")
def test_mechanisms_must_be_good_enough_for_the_connection() -> None:
    assert f"250-AUTH {SCRAM}\n" in ehlo(world(smtpd_sasl_security_options="noanonymous, noplaintext"))
    assert "AUTH" not in ehlo(world(smtpd_sasl_security_options="nodictionary"))
    assert "AUTH" not in ehlo(world(smtpd_sasl_security_options="forward_secrecy"))
    assert f"250-AUTH {SCRAM}\n" in ehlo(world(smtpd_sasl_security_options="mutual_auth"))
    assert f"250-AUTH {SCRAM}\n" in ehlo(world(smtpd_sasl_security_options="noactive"))
    settings = {"smtpd_sasl_security_options": "noplaintext", "smtpd_sasl_tls_security_options": "noanonymous"}
    (answer,) = heard(world(**settings), f"AUTH PLAIN {b64(chr(0) + 'bob' + chr(0) + 'secret')}")
    assert answer.startswith("538 5.7.11 ")
    assert usable(Facts(tls=True), **settings) == (*SCRAM.split(), "PLAIN", "LOGIN")
    assert usable(Facts(), **settings) == tuple(SCRAM.split())


def usable(facts: Facts, **settings: str) -> tuple[str, ...]:
    parameters = Parameters({**CLEAR, **settings})
    service = LoginService(parameters, own(), Silent())
    return asyncio.run(service.usable(facts))


class Silent:
    def emit(self, event: object) -> None:
        """Nobody listens."""


@honours("smtpd_sasl_mechanism_filter")
def test_mechanisms_can_be_filtered() -> None:
    assert "250-AUTH PLAIN\n" in ehlo(world(smtpd_sasl_mechanism_filter="plain"))
    assert "250-AUTH PLAIN LOGIN\n" in ehlo(
        world(smtpd_sasl_mechanism_filter="!inline:{SCRAM-SHA-1=x} !scram-sha-256 static:x")
    )
    certified = Facts(tls=True, certificate_verified=True, certificate_name="bob")
    assert "EXTERNAL" not in usable(certified)
    assert usable(certified, smtpd_sasl_mechanism_filter="external, plain") == ("EXTERNAL", "PLAIN")
    assert usable(Facts(tls=True), smtpd_sasl_mechanism_filter="external, plain") == ("PLAIN",)


def test_plus_is_offered_where_the_channel_has_what_clients_expect() -> None:
    plus = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
    for kind, offered in (("tls-exporter", plus), ("tls-unique", plus), ("tls-server-end-point", ())):
        found = usable(Facts(tls=True, channel_bindings={kind: b"data"}))
        assert tuple(name for name in found if name.endswith("-PLUS")) == offered


@honours("smtpd_sasl_exceptions_networks")
def test_some_clients_are_not_offered_login() -> None:
    assert "AUTH" not in ehlo(world(smtpd_sasl_exceptions_networks="127.0.0.0/8"))
    assert "AUTH" in ehlo(world(smtpd_sasl_exceptions_networks="!127.0.0.1, 127.0.0.0/8"))
    answer = heard(world(smtpd_sasl_exceptions_networks="fail:trouble"), "EHLO client.example")[0]
    assert answer.startswith("451 4.3.0 ")


@honours("broken_sasl_auth_clients")
def test_old_clients_get_the_old_form() -> None:
    lines = ehlo(world(broken_sasl_auth_clients="yes", smtpd_sasl_mechanism_filter="plain, login")).split("\n")
    assert {"250-AUTH PLAIN LOGIN", "250-AUTH=PLAIN LOGIN"} <= set(lines)
    assert "AUTH" not in ehlo(world(broken_sasl_auth_clients="yes", smtpd_discard_ehlo_keywords="auth"))
    assert "AUTH=" not in ehlo(world())


@honours("smtpd_client_auth_rate_limit")
def test_logins_have_a_rate() -> None:
    service = world(smtpd_client_auth_rate_limit="2", smtpd_client_event_limit_exceptions="")
    *first, third = heard(service, *["AUTH PLAIN AA=="] * 3)
    assert all(answer.startswith("501 ") for answer in first)
    assert third == "450 4.7.1 Error: too many AUTH commands from 127.0.0.1"


@honours("smtpd_sasl_authenticated_header")
def test_the_received_field_names_who_logged_in_where_that_is_wanted() -> None:
    def trace(**settings: str) -> bytes:
        service = world(KnownAccounts({"b(o)b": "secret"}), **settings)

        async def talk(client: Talk) -> None:
            await client.hello()
            await client.say(f"AUTH PLAIN {b64(chr(0) + 'b(o)b' + chr(0) + 'secret')}")
            await client.envelope("c@here.example")
            await client.say("DATA")
            await client.say("Subject: x\r\n\r\nx\r\n.")

        play(service, talk)
        return service.writers[-1].data

    assert b"])\r\n\t(Authenticated sender: b?o?b)\r\n\tby " in trace(smtpd_sasl_authenticated_header="yes")
    assert b"Authenticated" not in trace()


@dataclass
class Overheard:
    """Mechanisms that keep what they were told of the connection."""

    facts: list[Facts] = field(default_factory=list)
    abandoned: int = 0

    async def mechanisms(self) -> tuple[MechanismTraits, ...]:
        return await own().mechanisms()

    def exchange(self) -> MechanismServer:
        outer, inner = self, own().exchange()

        class Exchange:
            async def start(self, mechanism: str, initial: bytes | None, facts: Facts) -> object:
                outer.facts.append(facts)
                return await inner.start(mechanism, initial, facts)

            async def respond(self, data: bytes) -> object:
                return await inner.respond(data)

            def abandon(self) -> None:
                outer.abandoned += 1
                inner.abandon()

        return Exchange()  # type: ignore[return-value]

    async def aclose(self) -> None:
        """Nothing is open."""


@honours("smtpd_sasl_service")
def test_mechanisms_hear_what_the_connection_is() -> None:
    mechanisms = Overheard()
    service = World(mechanisms, **CLEAR, smtpd_sasl_service="submission")
    heard(service, "AUTH PLAIN AA==")
    (facts,) = mechanisms.facts
    assert (facts.service, facts.remote_address, facts.tls) == ("submission", "127.0.0.1", False)
    assert facts.local_address == "127.0.0.1"
    assert facts.local_port != 0
    assert facts.server_name == "mx.here.example"
    assert facts.offered == frozenset({*SCRAM.split(), "PLAIN", "LOGIN"})
    assert "secret" not in repr(facts)


def test_an_exchange_that_the_client_leaves_is_abandoned() -> None:
    mechanisms = Overheard()
    service = World(mechanisms, **CLEAR)
    heard(service, "AUTH PLAIN")
    assert mechanisms.abandoned == 1
    assert [event.after for event in service.events if isinstance(event, ConnectionLost)] == ["AUTH"]
    heard(service, "AUTH PLAIN", "*")
    assert mechanisms.abandoned == 2


@honours("smtpd_sasl_certificate_maps")
def test_a_certificate_names_an_account_only_where_a_table_says_so() -> None:
    def name(facts: TlsFacts, tables: str) -> str:
        parameters = Parameters({**CLEAR, "smtpd_sasl_certificate_maps": tables})
        return asyncio.run(LoginService(parameters, own(), Silent())._certificate_name(facts))

    facts = TlsFacts("TLSv1.3", "x", peer_name="bob.example", fingerprint="AA:BB", key_fingerprint="CC:DD")
    trusted = structs.replace(facts, trusted=True)
    assert name(facts, "inline:{AA:BB=bob}") == "bob"
    assert name(facts, "inline:{CC:DD=bob}") == "bob"
    assert name(facts, "inline:{bob.example=bob}") == ""
    assert name(trusted, "inline:{bob.example=bob}") == "bob"
    assert name(trusted, "regexp:{{/^([a-z]+)[.]example$$/ $$1}}") == "bob"
    assert name(trusted, "") == ""


STRANGER = {"smtpd_client_event_limit_exceptions": "", "smtpd_hard_error_limit": "100"}


def plain(name: str, password: str) -> str:
    return f"AUTH PLAIN {b64(chr(0) + name + chr(0) + password)}"


@honours("smtpd_client_event_limit_exceptions")
def test_who_guesses_waits_and_is_refused_at_last() -> None:
    service = world(**STRANGER, smtpd_auth_failure_limit="4", smtpd_auth_failure_sleep_time="3")
    answers = heard(service, *[plain("bob", f"guess{number}") for number in range(4)])
    assert answers == ["535 5.7.8 Error: authentication failed: (reason unavailable)"] * 4
    assert [slept for slept in service.clock.slept if slept > 1] == [3.0, 6.0, 9.0]
    # The right password does not help either, and nobody is asked about it.
    (last,) = heard(service, plain("bob", "secret"))
    assert last.startswith("421 4.7.0 ")
    trusted = world(smtpd_auth_failure_limit="4", smtpd_client_event_limit_exceptions="127.0.0.0/8")
    assert heard(trusted, *[plain("bob", "guess")] * 5, plain("bob", "secret"))[-1].startswith("235 ")


def test_an_account_that_is_guessed_at_is_closed_to_strangers_whatever_they_say() -> None:
    service = world(**STRANGER, smtpd_auth_failure_limit="0", smtpd_auth_account_failure_limit="3")
    heard(service, *[plain("bob", "guess")] * 3)
    for password in ("guess", "secret"):
        assert heard(service, plain("bob", password)) == ["454 4.7.0 Temporary authentication failure"]


def test_broken_exchanges_and_trouble_are_no_guesses() -> None:
    accounts = KnownAccounts()
    service = world(accounts, **STRANGER, smtpd_auth_failure_limit="2")
    accounts.trouble = "server away"
    heard(service, "AUTH PLAIN AA==", "AUTH PLAIN", "*", plain("bob", "secret"), "AUTH LOGIN !")
    accounts.trouble = ""
    assert heard(service, plain("bob", "secret"))[0].startswith("235 ")


def test_who_is_logged_in_may_relay_and_owns_its_senders() -> None:
    lists = {
        "smtpd_sender_restrictions": "reject_sender_login_mismatch",
        "smtpd_sender_login_maps": "inline:{bob@here.example=bob}",
    }

    async def rcpt(client: Talk, sender: str) -> str:
        await client.say(f"MAIL FROM:<{sender}>")
        answer = await client.say("RCPT TO:<c@elsewhere.example>")
        await client.say("RSET")
        return answer[:9]

    async def talk(client: Talk) -> None:
        await client.hello()
        assert await rcpt(client, "free@b.example") == "554 5.7.1"
        assert await rcpt(client, "bob@here.example") == "553 5.7.1"
        assert (await client.say(plain("bob", "secret"))).startswith("235 ")
        assert await rcpt(client, "bob@here.example") == "250 2.1.5"
        assert await rcpt(client, "free@b.example") == "553 5.7.1"

    play(world(**lists), talk)


def test_what_data_and_its_end_want_is_asked() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("c@here.example")
        assert (await client.say("DATA")).startswith("554 5.7.1 <DATA>: ")
        assert (await client.say(plain("bob", "secret"))).startswith("503 5.5.1 ")
        await client.say("RSET")
        await client.say(plain("bob", "secret"))
        await client.envelope("c@here.example")
        assert (await client.say("DATA")).startswith("354 ")
        assert (await client.say("Subject: x\r\n\r\nx\r\n.")).startswith("450 4.3.2 <END-OF-MESSAGE>: ")

    service = world(
        smtpd_data_restrictions="permit_sasl_authenticated, reject",
        smtpd_end_of_data_restrictions="warn_if_reject reject, defer",
    )
    play(service, talk)
    assert service.queued == []
    warned = [event for event in service.events if isinstance(event, Rejected) and event.is_warning]
    assert [event.detail for event in warned] == ["smtpd_end_of_data_restrictions: reject"]
    _, line = MailLogRenderer().render(warned[0])
    assert ": reject_warning: END-OF-MESSAGE from unknown[127.0.0.1]: 554 5.7.1 <END-OF-MESSAGE>: " in line


def test_a_message_in_chunks_is_asked_about_before_its_first() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("c@here.example")
        assert (await client.say("BDAT 3 LAST\r\nx")).startswith("554 5.7.1 <DATA>: ")
        assert (await client.say("NOOP")).startswith("250 ")

    service = world(smtpd_data_restrictions="reject")
    play(service, talk)
    assert service.queued == []


def test_who_submitted_a_message_is_believed_of_clients_that_have_logged_in() -> None:
    def said(*, logs_in: bool, submitter: str) -> str:
        service = world()

        async def talk(client: Talk) -> None:
            await client.hello()
            if logs_in:
                await client.say(plain("bob", "secret"))
            assert (await client.say(f"MAIL FROM:<a@b.example> AUTH={submitter}")).startswith("250 ")
            assert (await client.say("RCPT TO:<c@here.example>")).startswith("250 ")

        play(service, talk)
        return log(service)[-1]

    assert said(logs_in=True, submitter="al+2Bx@b.example").endswith(", sasl_username=bob, sasl_sender=al+x@b.example")
    assert said(logs_in=True, submitter="<>").endswith(", sasl_username=bob")
    assert "sasl" not in said(logs_in=False, submitter="al@b.example")
    (refused,) = heard(world(), "MAIL FROM:<a@b.example> AUTH=a+ZZ")
    assert refused.startswith("501 5.5.4 ")


def test_what_comes_before_the_reply_in_a_packet_of_its_own_ends_the_session_too() -> None:
    class Slow(KnownAccounts):
        """The password takes its time."""

        async def verify(self, name: str, password: str) -> Verdict:
            began.set()
            await asyncio.wait_for(sent.wait(), 20)
            return await super().verify(name, password)

    began, sent = asyncio.Event(), asyncio.Event()
    service = world(Slow())

    async def talk(client: Talk) -> None:
        await client.hello()
        client.writer.write(f"{plain('bob', 'secret')}\r\n".encode())
        await asyncio.wait_for(began.wait(), 20)
        client.writer.write(b"MAIL FROM:<a@b.example>\r\n")
        await client.writer.drain()
        async with asyncio.timeout(20):
            while not connections or not connections[0].has_unread:
                await asyncio.sleep(0)
        sent.set()
        assert (await client.reply()).startswith("554 5.5.0 ")
        assert await client.reply() == ""

    connections: list[Connection] = []
    usable = service.service.login
    assert usable is not None
    facts = usable.facts

    async def noted(session: SmtpSession) -> Facts:
        connections.append(session.connection)
        return await facts(session)

    usable.facts = noted  # type: ignore[method-assign]
    play(service, talk)
    assert not any(event for event in service.events if isinstance(event, LoginFailed))


def test_the_addresses_of_a_certificate_count_where_its_maker_is_trusted() -> None:
    pem = trustme.CA().issue_cert("bob@here.example", "host.example", common_name="Bob").cert_chain_pems[0].bytes()
    certificate = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    assert mail_addresses_of(certificate) == ("bob@here.example",)
    assert mail_addresses_of(b"no certificate") == ()

    class Shown:
        def getpeercert(self, *, binary_form: bool) -> bytes:
            assert binary_form
            return certificate

    parameters = Parameters({**CLEAR, "smtpd_sasl_certificate_maps": "inline:{bob@here.example=bob}"})
    service = LoginService(parameters, own(), Silent())
    connection = cast(ssl.SSLObject, Shown())
    for trusted, name in ((True, "bob"), (False, "")):
        facts = TlsFacts("TLSv1.3", "x", peer_name="Bob", fingerprint="AA:BB", trusted=trusted)
        assert asyncio.run(service._certificate_name(facts, connection)) == name

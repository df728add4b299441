"""Our mechanisms, each with right and wrong clients: RFC 4616, RFC 4422, RFC 5802, RFC 7628, and LOGIN."""

from __future__ import annotations

import asyncio
import json

import pytest

from ekiden.sasl import scram
from ekiden.sasl.accounts import AccountTrouble, Outcome, Verdict
from ekiden.sasl.exchange import Challenge, Facts, Failure, Step, Success
from ekiden.sasl.own_mechanisms import OwnMechanisms, random_nonce
from ekiden.sasl.scram import ScramHash
from ekiden.sasl.scram_server import MadeUp
from support.sasl import KnownAccounts, ScramTalk

MADE_UP = MadeUp(lambda: b"server secret")
NO_TLS = Facts()
TLS = Facts(tls=True, channel_bindings={"tls-exporter": b"exported", "tls-server-end-point": b"hash"})
BY_CERTIFICATE = Facts(tls=True, certificate_verified=True, certificate_name="bob")


class KnownTokens:
    scope = "mail"
    discovery = "https://id.example/.well-known/openid-configuration"
    trouble = ""

    async def verify_token(self, token: str, name: str) -> Verdict:
        if self.trouble:
            raise AccountTrouble(self.trouble)
        return Verdict(Outcome.OK, "bob") if token == "good.token" else Verdict(Outcome.WRONG, detail="expired")


def talk(
    mechanism: str,
    *said: bytes | None,
    accounts: KnownAccounts | None = None,
    facts: Facts = NO_TLS,
    tokens: KnownTokens | None = None,
) -> list[Step]:
    """The steps of an exchange whose client says these things, the first of them with its AUTH."""

    async def run() -> list[Step]:
        own = OwnMechanisms(accounts or KnownAccounts(), MADE_UP, tokens=tokens, nonce=lambda: "serverNonce")
        exchange = own.exchange()
        steps = [await exchange.start(mechanism, said[0], facts)]
        for data in said[1:]:
            assert isinstance(steps[-1], Challenge), steps
            assert data is not None
            steps.append(await exchange.respond(data))
        return steps

    return asyncio.run(run())


def scram_talk(
    client: ScramTalk, mechanism: str, *, accounts: KnownAccounts | None = None, facts: Facts = NO_TLS
) -> list[Step]:
    async def run() -> list[Step]:
        exchange = OwnMechanisms(accounts or KnownAccounts(), MADE_UP, nonce=lambda: "serverNonce").exchange()
        steps = [await exchange.start(mechanism, client.begin, facts)]
        if isinstance(steps[0], Challenge):
            steps.append(await exchange.respond(client.answer(steps[0].data)))
        return steps

    return asyncio.run(run())


def test_plain_takes_the_message_with_auth_or_after_it() -> None:
    assert talk("PLAIN", b"\0bob\0secret") == [Success("bob")]
    assert talk("PLAIN", None, b"\0bob\0secret") == [Challenge(), Success("bob")]
    assert talk("PLAIN", b"bob\0bob\0secret") == [Success("bob")]


@pytest.mark.parametrize(
    "message", [b"", b"bob", b"\0bob", b"bob\0secret", b"\0bob\0secret\0", b"\0b\xffb\0secret", b"\0\0\0\0"]
)
def test_plain_knows_what_is_no_message(message: bytes) -> None:
    accounts = KnownAccounts()
    (step,) = talk("PLAIN", message, accounts=accounts)
    assert isinstance(step, Failure)
    assert step.malformed
    assert accounts.asked == []


@pytest.mark.parametrize(("name", "password"), [("", "secret"), ("bob", ""), ("", "")])
def test_no_place_of_accounts_is_asked_without_name_or_password(name: str, password: str) -> None:
    accounts = KnownAccounts({"bob": "", "": "secret"})
    for mechanism, said in (
        ("PLAIN", [f"\0{name}\0{password}".encode()]),
        ("LOGIN", [None, name.encode(), password.encode()]),
    ):
        assert isinstance(talk(mechanism, *said, accounts=accounts)[-1], Failure)
    assert accounts.asked == []


def test_login_asks_for_the_name_unless_it_has_it() -> None:
    assert talk("LOGIN", None, b"bob", b"secret") == [Challenge(b"Username:"), Challenge(b"Password:"), Success("bob")]
    assert talk("LOGIN", b"bob", b"secret") == [Challenge(b"Password:"), Success("bob")]
    wrong = talk("LOGIN", b"bob", b"guess")[-1]
    assert wrong == Failure("authentication failure", account="bob")
    for said in ((b"b\xffb",), (b"bob", b"\xff"), (b"b\0b",), (b"bob", b"se\0cret")):
        step = talk("LOGIN", *said)[-1]
        assert isinstance(step, Failure)
        assert step.malformed


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_an_unknown_account_a_wrong_password_and_a_disabled_account_differ_in_nothing_a_client_sees(
    mechanism: str,
) -> None:
    accounts = KnownAccounts({"bob": "secret", "off": "secret"}, disabled=frozenset({"off"}))
    for name, password in (("bob", "guess"), ("nobody", "guess"), ("off", "secret")):
        said = [f"\0{name}\0{password}".encode()] if mechanism == "PLAIN" else [name.encode(), password.encode()]
        step = talk(mechanism, *said, accounts=accounts)[-1]
        assert isinstance(step, Failure)
        assert (step.temporary, step.malformed, step.account) == (False, False, name)


def test_an_identity_that_is_not_ones_own_needs_leave() -> None:
    accounts = KnownAccounts({"bob": "secret", "alice": "other"}, may_act_as={"bob": {"sales"}})
    assert talk("PLAIN", b"sales\0bob\0secret", accounts=accounts) == [Success("sales")]
    (step,) = talk("PLAIN", b"alice\0bob\0secret", accounts=accounts)
    assert step == Failure("bob may not act as alice", account="bob")
    client = ScramTalk(ScramHash.SHA256, "bob", "secret", authzid="alice")
    assert isinstance(scram_talk(client, "SCRAM-SHA-256", accounts=accounts)[-1], Failure)
    client = ScramTalk(ScramHash.SHA256, "bob", "secret", authzid="sales")
    step = scram_talk(client, "SCRAM-SHA-256", accounts=accounts)[-1]
    assert step == Success("sales", client.expected)
    assert isinstance(talk("EXTERNAL", b"alice", accounts=accounts, facts=BY_CERTIFICATE)[-1], Failure)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "EXTERNAL", "OAUTHBEARER"])
def test_accounts_in_trouble_are_no_wrong_password(mechanism: str) -> None:
    accounts, tokens = KnownAccounts(), KnownTokens()
    accounts.trouble = tokens.trouble = "server away"
    said = {
        "PLAIN": [b"\0bob\0secret"],
        "LOGIN": [b"bob", b"secret"],
        "SCRAM-SHA-256": [ScramTalk(ScramHash.SHA256, "bob", "secret").begin],
        "EXTERNAL": [b""],
        "OAUTHBEARER": [b"n,,\x01auth=Bearer good.token\x01\x01"],
    }[mechanism]
    step = talk(mechanism, *said, accounts=accounts, facts=BY_CERTIFICATE, tokens=tokens)[-1]
    assert isinstance(step, Failure)
    assert step.temporary
    assert step.reason == "server away"


@pytest.mark.parametrize("algorithm", ScramHash)
def test_scram_convinces_both_sides(algorithm: ScramHash) -> None:
    client = ScramTalk(algorithm, "bob", "secret")
    steps = scram_talk(client, algorithm.mechanism)
    assert steps[-1] == Success("bob", client.expected)
    client = ScramTalk(algorithm, "bob", "guess")
    assert scram_talk(client, algorithm.mechanism)[-1] == Failure("authentication failure", account="bob")


@pytest.mark.parametrize("algorithm", ScramHash)
@pytest.mark.parametrize(("kind", "data"), TLS.channel_bindings.items())
def test_scram_plus_binds_the_channel(algorithm: ScramHash, kind: str, data: bytes) -> None:
    """RFC 5929 and RFC 9266 say what the data are; here they are only compared."""
    mechanism = f"{algorithm.mechanism}-PLUS"
    client = ScramTalk(algorithm, "bob", "secret", flag="p", binding=kind, bound=data)
    assert scram_talk(client, mechanism, facts=TLS)[-1] == Success("bob", client.expected)
    between = ScramTalk(algorithm, "bob", "secret", flag="p", binding=kind, bound=b"another channel")
    assert scram_talk(between, mechanism, facts=TLS)[-1] == Failure("channel bindings do not match", account="bob")


def test_scram_refuses_bindings_that_are_unknown_missing_or_out_of_place() -> None:
    def reason(mechanism: str, offered: frozenset[str] = frozenset(), **words: str) -> str:
        facts = Facts(tls=True, channel_bindings={"tls-exporter": b"exported"}, offered=offered)
        client = ScramTalk(ScramHash.SHA256, "bob", "secret", flag=words["flag"], binding=words.get("binding", ""))
        step = scram_talk(client, mechanism, facts=facts)[-1]
        return step.reason if isinstance(step, Failure) else ""

    assert "unsupported" in reason("SCRAM-SHA-256-PLUS", flag="p", binding="tls-unique")
    assert "has none" in reason("SCRAM-SHA-256", flag="p", binding="tls-exporter")
    assert "wants one" in reason("SCRAM-SHA-256-PLUS", flag="n")
    assert "wants one" in reason("SCRAM-SHA-256-PLUS", flag="y")
    # RFC 5802 §6: the client can bind channels and believes that we cannot, but we offered it.
    assert "was offered" in reason("SCRAM-SHA-256", frozenset({"SCRAM-SHA-256-PLUS"}), flag="y")
    assert reason("SCRAM-SHA-256", frozenset({"SCRAM-SHA-1-PLUS"}), flag="y") == ""
    assert reason("SCRAM-SHA-256", frozenset({"SCRAM-SHA-256-PLUS"}), flag="n") == ""


def test_the_header_of_the_binding_is_part_of_what_is_proved() -> None:
    """Who changes "y" to "n" on the way makes the proof worthless."""
    client = ScramTalk(ScramHash.SHA256, "bob", "secret", flag="y")
    begin = client.begin.replace(b"y,,", b"n,,")

    async def run() -> Step:
        exchange = OwnMechanisms(KnownAccounts(), MADE_UP, nonce=lambda: "serverNonce").exchange()
        step = await exchange.start("SCRAM-SHA-256", begin, Facts())
        assert isinstance(step, Challenge)
        return await exchange.respond(client.answer(step.data))

    assert asyncio.run(run()) == Failure("channel bindings do not match", account="bob")


def test_a_salt_for_who_does_not_exist_is_always_the_same_and_looks_like_the_others() -> None:
    def challenge(name: str, mechanism: str = "SCRAM-SHA-256", made_up: MadeUp = MADE_UP) -> scram.ServerFirst:
        async def run() -> Step:
            exchange = OwnMechanisms(KnownAccounts(), made_up, nonce=random_nonce).exchange()
            return await exchange.start(mechanism, ScramTalk(ScramHash.SHA256, name, "x").begin, Facts())

        step = asyncio.run(run())
        assert isinstance(step, Challenge)
        return scram.parse_server_first(step.data)

    nobody, again, bob = challenge("nobody"), challenge("nobody"), challenge("bob")
    assert nobody.salt == again.salt
    assert nobody.nonce != again.nonce
    assert (len(nobody.salt), nobody.iterations) == (len(bob.salt), bob.iterations)
    assert len({challenge(name).salt for name in ("nobody", "other", "bob")}) == 3
    assert challenge("Nobody").salt == nobody.salt
    assert challenge("nobody", "SCRAM-SHA-1").salt != nobody.salt
    assert challenge("nobody", made_up=MadeUp(lambda: b"another")).salt != nobody.salt
    steps = scram_talk(ScramTalk(ScramHash.SHA256, "nobody", "secret"), "SCRAM-SHA-256")
    assert steps[-1] == Failure("authentication failure", account="nobody")


def test_scram_refuses_what_is_no_message_and_a_nonce_of_another_exchange() -> None:
    begin = ScramTalk(ScramHash.SHA256, "bob", "secret").begin
    for said in ([b"what"], [None, b""], [begin, b"what"], [begin, b""]):
        step = talk("SCRAM-SHA-256", *said)[-1]
        assert isinstance(step, Failure)
        assert step.malformed
    step = talk("SCRAM-SHA-256", begin, b"c=biws,r=clientNonceother,p=AAAA")[-1]
    assert step == Failure("the nonce is not ours", account="bob")


def test_external_is_who_the_certificate_says() -> None:
    assert talk("EXTERNAL", b"", facts=BY_CERTIFICATE) == [Success("bob")]
    assert talk("EXTERNAL", None, b"bob", facts=BY_CERTIFICATE) == [Challenge(), Success("bob")]
    stranger = Facts(tls=True, certificate_verified=True, certificate_name="stranger")
    assert isinstance(talk("EXTERNAL", b"", facts=stranger)[-1], Failure)
    for facts in (Facts(tls=True), Facts(tls=True, certificate_verified=False, certificate_name="bob")):
        assert talk("EXTERNAL", b"", facts=facts) == [Failure("no certificate that names an account")]
    assert isinstance(talk("EXTERNAL", b"\xff", facts=BY_CERTIFICATE)[-1], Failure)
    assert isinstance(talk("EXTERNAL", b"b\0b", facts=BY_CERTIFICATE)[-1], Failure)


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("OAUTHBEARER", b"n,a=bob,\x01host=mail.example\x01port=587\x01auth=Bearer good.token\x01\x01"),
        ("OAUTHBEARER", b"n,,\x01auth=bearer good.token\x01\x01"),
        ("OAUTHBEARER", b"y,,\x01auth=Bearer  good.token\x01\x01"),
        ("XOAUTH2", b"user=bob\x01auth=Bearer good.token\x01\x01"),
    ],
)
def test_a_good_token_logs_in(mechanism: str, message: bytes) -> None:
    assert talk(mechanism, message, tokens=KnownTokens()) == [Success("bob")]
    assert talk(mechanism, None, message, tokens=KnownTokens()) == [Challenge(), Success("bob")]


@pytest.mark.parametrize(
    ("mechanism", "message", "end"),
    [
        ("OAUTHBEARER", b"n,a=bob,\x01auth=Bearer bad.token\x01\x01", b"\x01"),
        ("OAUTHBEARER", b"n,a=bob,\x01auth=Basic Ym9i\x01\x01", b"\x01"),
        ("OAUTHBEARER", b"n,a=bob,\x01\x01", b"\x01"),
        ("OAUTHBEARER", b"n,a=alice,\x01auth=Bearer good.token\x01\x01", b"\x01"),
        ("OAUTHBEARER", b"n,,\x01auth=Bearer good.token\x01auth=Bearer bad.token\x01\x01", b"\x01"),
        ("XOAUTH2", b"user=bob\x01auth=Bearer bad.token\x01\x01", b""),
    ],
)
def test_a_bad_token_is_told_what_is_wanted_and_then_refused(mechanism: str, message: bytes, end: bytes) -> None:
    challenge, failure = talk(mechanism, message, end, tokens=KnownTokens())
    assert isinstance(challenge, Challenge)
    error = json.loads(challenge.data)
    assert error["scope"] == "mail"
    assert error["status"] == ("401" if mechanism == "XOAUTH2" else "invalid_token")
    assert mechanism == "XOAUTH2" or error["openid-configuration"] == KnownTokens.discovery
    assert isinstance(failure, Failure)
    assert not failure.temporary


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("OAUTHBEARER", b""),
        ("OAUTHBEARER", b"\x01"),
        ("OAUTHBEARER", b"n,,\x01auth=Bearer good.token\x01"),
        ("OAUTHBEARER", b"p=tls-exporter,,\x01auth=Bearer good.token\x01\x01"),
        ("OAUTHBEARER", b"user=bob\x01auth=Bearer good.token\x01\x01"),
        ("OAUTHBEARER", b"n,,\x01auth=Bearer g\xff\x01\x01"),
        ("XOAUTH2", b"n,,\x01auth=Bearer good.token\x01\x01"),
    ],
)
def test_what_carries_no_token_is_no_message(mechanism: str, message: bytes) -> None:
    (step,) = talk(mechanism, message, tokens=KnownTokens())
    assert isinstance(step, Failure)
    assert step.malformed


def test_an_exchange_that_has_ended_does_not_go_on() -> None:
    async def run() -> list[Step]:
        exchange = OwnMechanisms(KnownAccounts(), MADE_UP).exchange()
        steps = [await exchange.respond(b"\0bob\0secret"), await exchange.start("PLAIN", b"\0bob\0secret", Facts())]
        steps.append(await exchange.respond(b"\0bob\0secret"))
        await exchange.start("LOGIN", b"bob", Facts())
        exchange.abandon()
        steps.append(await exchange.respond(b"secret"))
        return steps

    steps = asyncio.run(run())
    assert steps[1] == Success("bob")
    assert all(isinstance(step, Failure) for step in (steps[0], steps[2], steps[3]))


def test_only_what_can_work_is_offered() -> None:
    async def names(own: OwnMechanisms) -> list[str]:
        return [each.name for each in await own.mechanisms()]

    accounts = KnownAccounts()
    assert asyncio.run(names(OwnMechanisms(accounts, MADE_UP))) == [
        "EXTERNAL",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
        "LOGIN",
    ]
    offered = asyncio.run(names(OwnMechanisms(accounts, MADE_UP, tokens=KnownTokens())))
    assert {"OAUTHBEARER", "XOAUTH2"} <= set(offered)
    for mechanism in ("CRAM-MD5", "ANONYMOUS", "SCRAM-SHA-512", "XOAUTH2"):
        assert isinstance(talk(mechanism, b"")[-1], Failure)

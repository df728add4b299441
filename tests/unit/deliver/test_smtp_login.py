"""The smtp and lmtp agents that log in: when, as whom, and what becomes of mail when the server says no."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.smtp import SmtpAgent
from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryRequest
from ekiden.message.host import Host
from ekiden.runtime.system_clock import SystemClock
from support.certificates import Authority
from support.fake_peer import Act, Answer, FakePeer
from support.honours import honours
from support.smtp_delivery import Notes, brief, request, run
from support.tls_peer import TlsPeer, server_context

ROOT = Authority()
EHLO = b"250-fake.example\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN\r\n"
TLS_FIRST = b"250-fake.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
SENT = ("relayed", "2.0.0")
PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0user\0secret") + b"\r\n"
WELCOME = b"235 2.7.0 welcome\r\n"


def agent_for(prefix: str, *peers: FakePeer, notes: Notes | None = None, **own: str) -> SmtpAgent | LmtpAgent:
    async def hosts_for(next_hop: str) -> Sequence[Host]:
        return [peer.host for peer in peers]

    settings = {
        "sasl_auth_enable": "yes",
        "sasl_password_maps": "inline:{ { fake.example = user:secret } }",
        "sasl_security_options": "noanonymous",
        **own,
    }
    parameters = Parameters({"myhostname": "me.example", **{f"{prefix}_{key}": text for key, text in settings.items()}})
    kind = SmtpAgent if prefix == "smtp" else LmtpAgent
    return kind(parameters, hosts_for=hosts_for, clock=SystemClock(), observer=notes or Notes())


def script(**own: Answer | list[Answer]) -> dict[str, Answer | list[Answer]]:
    return {"EHLO": EHLO, "LHLO": EHLO, "AUTH": WELCOME, **own}


async def deliver(agent: SmtpAgent | LmtpAgent, message: DeliveryRequest | None = None) -> tuple[tuple[str, str], str]:
    (result,) = await agent.deliver(message or request("a"))
    return brief([result])[0], result.text


both = pytest.mark.parametrize("prefix", ["smtp", "lmtp"])


@honours("smtp_sasl_auth_enable", "smtp_sasl_password_maps", "lmtp_sasl_auth_enable", "lmtp_sasl_password_maps")
@both
@pytest.mark.parametrize("enable", ["yes", "no"])
def test_a_server_that_we_have_an_account_at_is_told_who_we_are(prefix: str, enable: str) -> None:
    async def work() -> None:
        async with FakePeer(script()) as peer:
            notes = Notes()
            agent = agent_for(prefix, peer, notes=notes, sasl_auth_enable=enable)
            assert (await deliver(agent))[0] == SENT
            await agent.close()
            assert (PLAIN in peer.lines) is (enable == "yes")
            assert not notes.texts

    run(work())


def test_a_login_in_several_steps() -> None:
    async def work() -> None:
        ehlo = b"250-fake.example\r\n250 AUTH=LOGIN\r\n"
        answers = script(EHLO=ehlo, AUTH=b"334 VXNlcm5hbWU6\r\n", DXNL=b"334 UGFzc3dvcmQ6\r\n", C2VJ=WELCOME)
        async with FakePeer(answers) as peer:
            agent = agent_for("smtp", peer)
            assert (await deliver(agent))[0] == SENT
            await agent.close()
            assert peer.lines[1:4] == [b"AUTH LOGIN\r\n", b"dXNlcg==\r\n", b"c2VjcmV0\r\n"]

    run(work())


@both
def test_servers_without_an_account_or_without_auth_are_strangers(prefix: str) -> None:
    async def work() -> None:
        plain = b"250-fake.example\r\n250 PIPELINING\r\n"
        async with FakePeer(script(EHLO=plain, LHLO=plain)) as mute, FakePeer(script(), name="other.example") as other:
            for peer in (mute, other):
                agent = agent_for(prefix, peer)
                assert (await deliver(agent))[0] == SENT
                await agent.close()
                assert "AUTH" not in peer.verbs

    run(work())


def test_by_default_no_password_goes_out_in_clear_text() -> None:
    async def work() -> None:
        async with FakePeer(script()) as peer:
            agent = agent_for("smtp", peer, sasl_security_options="noplaintext, noanonymous")
            brief_result, text = await deliver(agent)
            await agent.close()
            assert brief_result == ("delayed", "4.7.0")
            assert text == (
                "SASL authentication failed: server fake.example[127.0.0.1] offered no compatible authentication "
                "mechanisms for this type of connection security"
            )
            assert "AUTH" not in peer.verbs
            assert "MAIL" not in peer.verbs

    run(work())


@honours("smtp_sasl_tls_security_options")
def test_within_tls_the_password_goes_out_where_that_is_allowed(tmp_path: Path) -> None:
    async def work() -> None:
        context = server_context(tmp_path, ROOT.issue("fake.example"))
        ehlos: list[Answer] = [TLS_FIRST, EHLO]
        async with TlsPeer(context, script(EHLO=ehlos)) as peer:
            own = {"sasl_security_options": "noplaintext", "sasl_tls_security_options": "noanonymous"}
            agent = agent_for("smtp", peer, **own)  # type: ignore[arg-type]
            assert (await deliver(agent))[0] == SENT
            await agent.close()
            assert peer.lines[3] == PLAIN

    run(work())


@pytest.mark.parametrize("verified", [True, False])
@honours("smtp_sasl_tls_verified_security_options")
def test_a_server_that_has_shown_who_it_is_may_hear_more(tmp_path: Path, verified: bool) -> None:
    async def work() -> None:
        root = tmp_path / "root.pem"
        root.write_bytes(ROOT.pem)
        context = server_context(tmp_path, ROOT.issue("fake.example"))
        ehlos: list[Answer] = [TLS_FIRST, EHLO]
        async with TlsPeer(context, script(EHLO=ehlos)) as peer:
            own = {
                "sasl_security_options": "noplaintext",
                "sasl_tls_verified_security_options": "noanonymous",
                "tls_security_level": "verify" if verified else "encrypt",
                "tls_CAfile": str(root),
            }
            agent = agent_for("smtp", peer, **own)  # type: ignore[arg-type]
            assert (await deliver(agent))[0] == (SENT if verified else ("delayed", "4.7.0"))
            await agent.close()

    run(work())


def test_with_a_password_there_is_no_way_back_to_plain_text() -> None:
    """Not even for mail that has waited: whoever breaks the handshake wants to hear it."""

    async def work() -> None:
        ehlo = b"250-fake.example\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"
        async with FakePeer(script(EHLO=ehlo, STAR=(b"220 go\r\n", Act.CLOSE))) as peer:
            agent = agent_for("smtp", peer)
            assert (await deliver(agent))[0] == ("delayed", "4.7.5")
            await agent.close()
            assert peer.connections == 1
            assert "AUTH" not in peer.verbs

    run(work())


@honours("smtp_sasl_auth_soft_bounce", "lmtp_sasl_auth_soft_bounce")
@both
@pytest.mark.parametrize("soft", ["yes", "no"])
@pytest.mark.parametrize("code", [535, 454])
def test_a_refused_login_says_nothing_of_the_message(prefix: str, soft: str, code: int) -> None:
    async def work() -> None:
        said = f"{code} {code // 100}.7.8 no".encode() + b"\r\n"
        async with FakePeer(script(AUTH=said)) as peer:
            agent = agent_for(prefix, peer, sasl_auth_soft_bounce=soft)
            brief_result, text = await deliver(agent)
            await agent.close()
            assert brief_result == (("failed", "5.7.8") if soft == "no" and code == 535 else ("delayed", "4.7.8"))
            assert text == (
                f"SASL authentication failed; server fake.example[127.0.0.1] said: {code} {code // 100}.7.8 no"
            )
            assert "MAIL" not in peer.verbs
            assert "secret" not in text

    run(work())


@honours("smtp_sasl_auth_cache_name")
def test_a_password_that_was_refused_is_not_tried_with_every_message() -> None:
    async def work() -> None:
        async with FakePeer(script(AUTH=b"535 5.7.8 no\r\n")) as peer:
            agent = agent_for("smtp", peer, sasl_auth_cache_name="x")
            first, second = await deliver(agent), await deliver(agent)
            await agent.close()
            assert first == second
            assert peer.verbs.count("AUTH") == 1

    run(work())


@honours("smtp_sasl_mechanism_filter")
def test_a_server_of_which_nothing_is_to_be_used() -> None:
    async def work() -> None:
        async with FakePeer(script()) as peer:
            agent = agent_for("smtp", peer, sasl_mechanism_filter="scram-sha-256")
            assert (await deliver(agent))[0] == ("delayed", "4.7.0")
            await agent.close()

    run(work())


@honours("smtp_sender_dependent_authentication", "lmtp_sender_dependent_authentication")
@both
def test_a_connection_takes_the_mail_of_one_account_only(prefix: str) -> None:
    async def work() -> None:
        async with FakePeer(script()) as peer:
            table = "inline:{ { a@s.example = anna:1 } { b@s.example = bert:2 } }"
            agent = agent_for(prefix, peer, sasl_password_maps=table, sender_dependent_authentication="yes")
            for name in ("a", "a", "b", "c"):
                base = request("r", sender=Address(name, "s.example"))
                message = structs.replace(base, next_hop="relay.example")
                assert (await deliver(agent, message))[0] == SENT
            await agent.close()
            logins = [base64.b64decode(line.split()[2]) for line in peer.lines if line.startswith(b"AUTH")]
            assert logins == [b"\0anna\x001", b"\0bert\x002"]
            assert peer.connections == 3

    run(work())


@honours("smtp_send_dummy_mail_auth", "lmtp_send_dummy_mail_auth")
@both
@pytest.mark.parametrize("dummy", ["yes", "no"])
def test_who_vouches_for_a_message(prefix: str, dummy: str) -> None:
    """RFC 4954 §5."""

    async def work() -> None:
        async with FakePeer(script()) as peer:
            agent = agent_for(prefix, peer, send_dummy_mail_auth=dummy)
            assert (await deliver(agent))[0] == SENT
            await agent.close()
            assert (b"MAIL FROM:<s@s.example> AUTH=<>\r\n" in peer.lines) is (dummy == "yes")

    run(work())


@pytest.mark.parametrize("answer", [Act.CLOSE, b"421 4.3.2 bye\r\n", b"334 ???\r\n", b"garbage\r\n"])
def test_a_server_that_breaks_off_in_the_login(answer: Answer) -> None:
    async def work() -> None:
        async with FakePeer(script(AUTH=answer)) as peer:
            agent = agent_for("smtp", peer)
            brief_result, text = await deliver(agent)
            await agent.close()
            assert brief_result[0] == "delayed"
            assert "secret" not in text
            assert "MAIL" not in peer.verbs

    run(work())


@pytest.mark.parametrize("echo", [b"secret", base64.b64encode(b"secret"), base64.b64encode(b"\0user\0secret")])
def test_a_password_that_the_server_repeats_is_not_told_further(echo: bytes) -> None:
    async def work() -> None:
        async with FakePeer(script(AUTH=b"535 5.7.8 no: " + echo + b"\r\n")) as peer:
            notes = Notes()
            agent = agent_for("smtp", peer, notes=notes)
            (result,) = await agent.deliver(request("a"))
            await agent.close()
            told = " ".join([result.text, result.diagnostic, *notes.texts])
            assert "535 5.7.8 no:" in told
            assert "secret" not in told
            assert echo.decode() not in told

    run(work())


def test_a_user_without_password_and_a_table_that_does_not_answer() -> None:
    async def work() -> None:
        async with FakePeer(script()) as peer:
            agent = agent_for("smtp", peer, sasl_password_maps="texthash:/nowhere/passwords")
            assert (await deliver(agent))[0] == ("delayed", "4.3.0")
            await agent.close()
            assert not peer.connections

    run(work())

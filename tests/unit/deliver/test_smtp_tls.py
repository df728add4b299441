"""The smtp and lmtp agents and TLS: what each level asks of a server, and what becomes of mail when it is not so.

Every test runs for both: what it sets under the prefix smtp_ is set for LMTP under lmtp_.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.smtp import SmtpAgent
from ekiden.deliver.smtp_security import Policies
from ekiden.dns.resolver import Tlsa
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.host import Host
from ekiden.runtime.system_clock import SystemClock
from ekiden.tls.facts import fingerprint_of
from ekiden.tls.key_files import KeyFileReader, KeyFiles
from ekiden.tls.policy import Level, Problem, TlsOutcome, TlsPolicy
from support.certificates import Authority, Pair, self_signed
from support.fake_peer import Act, Answer, FakePeer
from support.honours import honours
from support.smtp_delivery import Notes, brief, request, run
from support.tls_peer import AFTER, EHLO, TlsPeer, server_context

pytestmark = honours(
    "lmtp_tls_security_level", "lmtp_tls_CAfile", "lmtp_tls_loglevel", "lmtp_tls_verify_cert_match",
    "lmtp_tls_secure_cert_match", "lmtp_tls_fingerprint_cert_match", "lmtp_tls_fingerprint_digest",
    "lmtp_starttls_timeout", "lmtp_tls_wrappermode", "lmtp_use_tls", "lmtp_enforce_tls", "lmtp_tls_enforce_peername",
    "lmtp_tls_protocols", "lmtp_tls_mandatory_protocols", "lmtp_tls_ciphers", "lmtp_tls_mandatory_ciphers",
    "lmtp_tls_exclude_ciphers", "lmtp_tls_mandatory_exclude_ciphers", "lmtp_tls_servername", "lmtp_tls_cert_file",
    "lmtp_tls_key_file", "lmtp_tls_eccert_file", "lmtp_tls_eckey_file", "lmtp_tls_chain_files", "lmtp_tls_CApath",
    "lmtp_tls_trust_anchor_file", "lmtp_tls_policy_maps", "lmtp_tls_connection_reuse",
    "lmtp_tls_session_cache_database", "lmtp_tls_session_cache_timeout", "lmtp_tls_note_starttls_offer",
)  # fmt: skip

ROOT = Authority()
NAME = "fake.example"
GOOD = ROOT.issue(NAME)
PRINT = fingerprint_of(GOOD.der, "sha256")

SENT = ("relayed", "2.0.0")
PUT_OFF = ("delayed", "4.7.5")


_under_test = "smtp"


@pytest.fixture(autouse=True, params=["smtp", "lmtp"])
def prefix(request: pytest.FixtureRequest) -> str:
    global _under_test
    _under_test = str(request.param)
    return _under_test


def agent_for(
    *peers: FakePeer,
    settings: dict[str, str] | None = None,
    notes: Notes | None = None,
    key_files: Callable[[], KeyFiles] = KeyFiles,
    policies: Policies | None = None,
) -> SmtpAgent | LmtpAgent:
    async def hosts_for(next_hop: str) -> Sequence[Host]:
        return [peer.host for peer in peers]

    renamed = {
        f"{_under_test}_{name.removeprefix('smtp_')}" if name.startswith("smtp_") else name: value
        for name, value in (settings or {}).items()
    }
    kind = SmtpAgent if _under_test == "smtp" else LmtpAgent
    parameters = Parameters({"myhostname": "me.example", "lmtp_tls_security_level": "may", **renamed})
    return kind(
        parameters,
        hosts_for=hosts_for,
        clock=SystemClock(),
        observer=notes or Notes(),
        key_files=key_files,
        policies=policies,
    )


def verbs(*smtp: str) -> list[str]:
    return ["LHLO" if verb == "EHLO" and _under_test == "lmtp" else verb for verb in smtp]


def young(*names: str) -> DeliveryRequest:
    """A message that has just come."""
    return structs.replace(request(*names or ("a",)), arrived=time.time())


def settings(tmp_path: Path, **own: str) -> dict[str, str]:
    path = tmp_path / "root.pem"
    path.write_bytes(ROOT.pem)
    return {"smtp_tls_CAfile": str(path), "smtp_tls_loglevel": "1", **own}


async def sent_to(
    peer: FakePeer, own: dict[str, str], notes: Notes | None = None, message: DeliveryRequest | None = None
) -> DeliveryResult:
    agent = agent_for(peer, settings=own, notes=notes)
    try:
        (result,) = await agent.deliver(message or young())
        return result
    finally:
        await agent.close()


# -- the levels against certificates --

CERTIFICATES: dict[str, Pair] = {
    "right": GOOD,
    "wrong name": ROOT.issue("other.example"),
    "expired": ROOT.issue(NAME, days=(-30, -1)),
    "self-signed": self_signed(NAME),
    "another authority": Authority("Nobody's").issue(NAME),
}
WHY = {
    "wrong name": "Server certificate not verified: its names are other.example, wanted is fake.example",
    "expired": "Server certificate not trusted: certificate has expired",
    "self-signed": "Server certificate not trusted: self-signed certificate",
    "another authority": "Server certificate not trusted: unable to get local issuer certificate",
}
OPEN = ("may", "encrypt")
NAMED = {"verify": {}, "secure": {"smtp_tls_secure_cert_match": NAME}}


@honours("smtp_tls_security_level", "smtp_tls_CAfile", "smtp_tls_loglevel")
@pytest.mark.parametrize("certificate", CERTIFICATES)
@pytest.mark.parametrize("level", OPEN)
def test_without_a_wish_to_know_the_server_any_certificate_will_do(
    tmp_path: Path, level: str, certificate: str
) -> None:
    async def work() -> None:
        notes = Notes()
        async with TlsPeer(server_context(tmp_path, CERTIFICATES[certificate])) as peer:
            result = await sent_to(peer, settings(tmp_path, smtp_tls_security_level=level), notes)
            assert brief([result]) == [SENT]
            assert len(peer.handshakes) == 1
            word = "Trusted" if certificate in ("right", "wrong name") else "Untrusted"
            assert notes.texts == [
                f"{word} TLS connection established to fake.example[127.0.0.1]:{peer.port}: "
                "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
            ]
            assert peer.verbs == verbs("EHLO", "STAR", "EHLO", "MAIL", "RCPT", "DATA", "QUIT")

    run(work())


@honours("smtp_tls_security_level", "smtp_tls_verify_cert_match", "smtp_tls_secure_cert_match")
@pytest.mark.parametrize("certificate", CERTIFICATES)
@pytest.mark.parametrize("level", NAMED)
def test_a_server_that_must_show_who_it_is(tmp_path: Path, level: str, certificate: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with TlsPeer(server_context(tmp_path, CERTIFICATES[certificate])) as peer:
            own = settings(tmp_path, smtp_tls_security_level=level, **NAMED[level])
            result = await sent_to(peer, own, notes)
            if certificate == "right":
                assert brief([result]) == [SENT]
                assert notes.texts[0].startswith("Verified TLS connection established to fake.example")
                assert result.tls == "verified TLSv1.3 TLS_AES_256_GCM_SHA384"
                return
            assert brief([result]) == [PUT_OFF]
            assert result.text == WHY[certificate]
            assert "MAIL" not in peer.verbs
            assert any(text.startswith("certificate verification failed for fake.example") for text in notes.texts)

    run(work())


def key_print(pair: Pair) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return fingerprint_of(
        pair.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "sha256"
    )


@honours("smtp_tls_security_level", "smtp_tls_fingerprint_cert_match", "smtp_tls_fingerprint_digest")
@pytest.mark.parametrize("known", ["certificate", "key", "bare and in small letters", "sha512", "another's"])
def test_a_server_that_is_known_by_its_fingerprint(tmp_path: Path, known: str) -> None:
    """Whoever signed it, and whatever name is in it."""
    stranger = self_signed("whatever.example", days=(-3, -1))
    digests = {
        "certificate": fingerprint_of(stranger.der, "sha256"),
        "key": key_print(stranger),
        "bare and in small letters": hashlib.sha256(stranger.der).hexdigest(),
        "sha512": fingerprint_of(stranger.der, "sha512"),
        "another's": f"{PRINT}|{PRINT}",
    }

    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, stranger)) as peer:
            result = await sent_to(
                peer,
                settings(
                    tmp_path,
                    smtp_tls_security_level="fingerprint",
                    smtp_tls_fingerprint_cert_match=digests[known],
                    smtp_tls_fingerprint_digest="sha512" if known == "sha512" else "sha256",
                ),
            )
            assert brief([result]) == [PUT_OFF if known == "another's" else SENT]
            if known == "another's":
                assert result.text.startswith("Server certificate not verified: its fingerprint is ")
                assert "MAIL" not in peer.verbs

    run(work())


@honours("smtp_tls_security_level")
def test_without_tls_none_is_asked_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            assert brief([await sent_to(peer, {"smtp_tls_security_level": "none"})]) == [SENT]
            assert not peer.handshakes

    run(work())


# -- servers without TLS, and handshakes that fail --

LEVELS = {
    "may": {"smtp_tls_security_level": "may"},
    "encrypt": {"smtp_tls_security_level": "encrypt"},
    "fingerprint": {"smtp_tls_security_level": "fingerprint", "smtp_tls_fingerprint_cert_match": PRINT},
    "verify": {"smtp_tls_security_level": "verify"},
    "secure": {"smtp_tls_security_level": "secure"},
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_server_that_does_not_offer_tls(level: str) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            result = await sent_to(peer, LEVELS[level])
            if level == "may":
                assert brief([result]) == [SENT]
                return
            assert brief([result]) == [("delayed", "4.7.4")]
            assert result.text == "TLS is required, but was not offered by host fake.example[127.0.0.1]"
            assert peer.verbs == verbs("EHLO", "QUIT")

    run(work())


@pytest.mark.parametrize("level", LEVELS)
def test_a_server_that_declines_starttls(level: str) -> None:
    async def work() -> None:
        async with FakePeer({"EHLO": EHLO, "LHLO": EHLO, "STAR": b"454 4.7.0 not now\r\n"}) as peer:
            result = await sent_to(peer, LEVELS[level])
            if level == "may":
                assert brief([result]) == [SENT]
                assert peer.connections == 1
                return
            assert brief([result]) == [("delayed", "4.7.0")]
            assert result.text == (
                "TLS is required, but host fake.example[127.0.0.1] refused to start TLS: 454 4.7.0 not now"
            )
            assert "MAIL" not in peer.verbs

    run(work())


HANDSHAKES: dict[str, Answer] = {
    "closed": (b"220 go\r\n", Act.CLOSE),
    "no TLS": b"220 go\r\n",
    "plain text before it": b"220 go\r\n250 injected.example\r\n",
}


class NoTlsPeer(FakePeer):
    """Whatever our side of the handshake says, the answer is none."""

    async def _answer(
        self, verb: str, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        said = await super()._answer(verb, line, reader, writer)
        if verb == "STAR":
            await reader.read(1)
            writer.write(b"-ERR what is this?\r\n")
        return said


@pytest.mark.parametrize("old", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize("fault", ["closed", "no TLS"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_handshake_that_fails(level: str, fault: str, old: bool) -> None:
    """Mail that has waited for minimal_backoff_time goes without TLS where TLS is only wished for, as with Postfix."""

    async def work() -> None:
        async with NoTlsPeer({"EHLO": EHLO, "LHLO": EHLO, "STAR": HANDSHAKES[fault]}) as peer:
            notes = Notes()
            result = await sent_to(peer, LEVELS[level], notes, request("a") if old else None)
            if level == "may" and old:
                assert brief([result]) == [SENT]
                assert "MAIL" in peer.verbs
                assert peer.connections == 2
            else:
                assert brief([result]) == [PUT_OFF]
                assert result.text == "Cannot start TLS: handshake failure"
                assert peer.connections == 1
            assert any(text.startswith("SSL_connect error to fake.example[127.0.0.1]:") for text in notes.texts)

    run(work())


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_said_in_plain_text_behind_the_reply_to_starttls_is_never_listened_to(level: str) -> None:
    """CVE-2011-0411."""

    async def work() -> None:
        async with FakePeer({"EHLO": EHLO, "LHLO": EHLO, "STAR": HANDSHAKES["plain text before it"]}) as peer:
            result = await sent_to(peer, LEVELS[level])
            assert brief([result])[0][0] == "delayed"
            assert "MAIL" not in peer.verbs

    run(work())


@honours("smtp_starttls_timeout")
@pytest.mark.parametrize("stage", [Act.STALL, (b"220 go\r\n", Act.STALL)])
def test_a_server_that_is_slow_with_tls_is_left(stage: Answer) -> None:
    async def work() -> None:
        async with FakePeer({"EHLO": EHLO, "LHLO": EHLO, "STAR": stage}) as peer:
            result = await sent_to(peer, {"smtp_starttls_timeout": "1s", "smtp_tls_security_level": "encrypt"})
            assert brief([result])[0][0] == "delayed"
            assert "timed out" in result.text or result.text == "Cannot start TLS: handshake failure"

    run(work())


@honours("smtp_tls_security_level")
def test_the_next_server_is_tried_when_one_is_not_good_enough(tmp_path: Path) -> None:
    async def work() -> None:
        async with FakePeer() as plain, TlsPeer(server_context(tmp_path, GOOD)) as peer:
            agent = agent_for(plain, peer, settings=settings(tmp_path, smtp_tls_security_level="verify"))
            (result,) = await agent.deliver(young())
            await agent.close()
            assert brief([result]) == [SENT]
            assert "MAIL" not in plain.verbs

    run(work())


@pytest.mark.parametrize("certificate", ["right", "self-signed"])
def test_a_message_that_asks_for_tls_goes_to_servers_that_show_who_they_are(tmp_path: Path, certificate: str) -> None:
    """RFC 8689 §4.2.1."""

    async def work() -> None:
        message = structs.replace(young(), envelope=structs.replace(young().envelope, require_tls=True))
        after = EHLO.replace(b"STARTTLS", b"REQUIRETLS")
        ehlos: list[Answer] = [EHLO, after]
        context = server_context(tmp_path, CERTIFICATES[certificate])
        async with TlsPeer(context, {"EHLO": ehlos, "LHLO": ehlos}) as peer, FakePeer() as plain:
            for level in ("may", "none"):
                result = await sent_to(plain, settings(tmp_path, smtp_tls_security_level=level), message=message)
                assert brief([result]) == [("delayed", "4.7.4")]
            result = await sent_to(peer, settings(tmp_path), message=message)
            assert brief([result]) == [SENT if certificate == "right" else PUT_OFF]
            if certificate == "right":
                assert b"MAIL FROM:<s@s.example> REQUIRETLS SIZE=27\r\n" in peer.lines

    run(work())


# -- at once --


@honours("smtp_tls_wrappermode")
@pytest.mark.parametrize("level", ["may", "none", "encrypt", "verify"])
def test_tls_from_the_first_byte_on(tmp_path: Path, level: str) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD), implicit=True) as peer:
            own = settings(tmp_path, smtp_tls_security_level=level, smtp_tls_wrappermode="yes")
            assert brief([await sent_to(peer, own)]) == [SENT]
            assert peer.verbs == verbs("EHLO", "MAIL", "RCPT", "DATA", "QUIT")
            assert len(peer.handshakes) == 1

    run(work())


@honours("smtp_tls_wrappermode")
def test_tls_from_the_first_byte_on_has_no_way_back_to_plain_text() -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            result = await sent_to(peer, {"smtp_tls_wrappermode": "yes"}, message=request("a"))
            assert brief([result]) == [PUT_OFF]
            assert result.text == "Cannot start TLS: handshake failure"
            assert "MAIL" not in peer.verbs
            assert peer.connections == 1

    run(work())


# -- the old words --


@honours("smtp_use_tls", "smtp_enforce_tls", "smtp_tls_enforce_peername")
@pytest.mark.parametrize(
    ("old", "takes_plain", "takes_stranger"),
    [
        ({}, True, True),
        ({"smtp_use_tls": "yes"}, True, True),
        ({"smtp_enforce_tls": "yes"}, False, False),
        ({"smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": "no"}, False, True),
    ],
)
def test_the_parameters_of_old(tmp_path: Path, old: dict[str, str], takes_plain: bool, takes_stranger: bool) -> None:
    async def work() -> None:
        own = settings(tmp_path, smtp_tls_security_level="", **old)
        async with FakePeer() as plain, TlsPeer(server_context(tmp_path, self_signed(NAME))) as stranger:
            assert (brief([await sent_to(plain, own)]) == [SENT]) is takes_plain
            assert (brief([await sent_to(stranger, own)]) == [SENT]) is takes_stranger
            assert bool(stranger.handshakes) is bool(old)

    run(work())


# -- what is spoken --


@honours("smtp_tls_protocols", "smtp_tls_mandatory_protocols")
@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_the_versions_of_tls(tmp_path: Path, level: str) -> None:
    async def work() -> None:
        wide = "smtp_tls_mandatory_protocols" if level == "may" else "smtp_tls_protocols"
        narrow = "smtp_tls_protocols" if level == "may" else "smtp_tls_mandatory_protocols"
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            own = {"smtp_tls_security_level": level, narrow: "TLSv1.2", wide: ">=TLSv1.2"}
            assert brief([await sent_to(peer, own)]) == [SENT]
            assert peer.handshakes[0].version() == "TLSv1.2"

    run(work())


@honours(
    "smtp_tls_ciphers", "smtp_tls_mandatory_ciphers", "smtp_tls_exclude_ciphers", "smtp_tls_mandatory_exclude_ciphers"
)
@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_the_ciphers(tmp_path: Path, level: str) -> None:
    """Those of TLS 1.2: there is nothing to choose of TLS 1.3's."""

    async def cipher(own: dict[str, str]) -> str:
        async with TlsPeer(server_context(tmp_path, ROOT.issue(NAME, key="rsa"))) as peer:
            own = {
                "smtp_tls_security_level": level,
                "smtp_tls_protocols": "TLSv1.2",
                "smtp_tls_mandatory_protocols": "TLSv1.2",
                "tls_medium_cipherlist": "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
                "tls_high_cipherlist": "ECDHE-RSA-CHACHA20-POLY1305",
                **own,
            }
            assert brief([await sent_to(peer, own)]) == [SENT]
            return peer.handshakes[0].cipher()[0]  # type: ignore[index]

    async def work() -> None:
        weak, strong = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"
        assert await cipher({}) == strong
        assert await cipher({"smtp_tls_exclude_ciphers": "AES256"}) == weak
        both = {"smtp_tls_mandatory_exclude_ciphers": "AES256"}
        assert await cipher(both) == (strong if level == "may" else weak)
        name = "smtp_tls_ciphers" if level == "may" else "smtp_tls_mandatory_ciphers"
        assert await cipher({name: "high"}) == "ECDHE-RSA-CHACHA20-POLY1305"

    run(work())


@honours("smtp_tls_servername")
@pytest.mark.parametrize(
    ("word", "asked"),
    [("", None), ("hostname", NAME), ("nexthop", "d.example"), ("sni.example", "sni.example"), ("192.0.2.1", None)],
)
def test_the_name_that_the_handshake_asks_for(tmp_path: Path, word: str, asked: str | None) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            own = {"smtp_tls_security_level": "encrypt", "smtp_tls_servername": word}
            assert brief([await sent_to(peer, own)]) == [SENT]
            assert peer.names == [asked]

    run(work())


OWN = ROOT.issue("me.example", client=True)


@honours(
    "smtp_tls_cert_file", "smtp_tls_key_file", "smtp_tls_eccert_file", "smtp_tls_eckey_file", "smtp_tls_chain_files"
)
@pytest.mark.parametrize("way", ["cert_file", "eccert_file", "chain_files", "none"])
def test_a_server_that_asks_who_we_are(tmp_path: Path, way: str) -> None:
    certificate, key = OWN.write(tmp_path, "own")
    both = tmp_path / "both.pem"
    both.write_bytes(OWN.key_pem + OWN.pem)
    own = {
        "cert_file": {"smtp_tls_cert_file": str(certificate), "smtp_tls_key_file": str(key)},
        "eccert_file": {"smtp_tls_eccert_file": str(certificate), "smtp_tls_eckey_file": str(key)},
        "chain_files": {"smtp_tls_chain_files": str(both)},
        "none": {},
    }[way]

    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD, asks=ROOT)) as peer:
            # TLS 1.2, in which a server says within the handshake that it misses something.
            own["smtp_tls_mandatory_protocols"] = "TLSv1.2"
            result = await sent_to(peer, {"smtp_tls_security_level": "encrypt", **own})
            assert brief([result]) == [PUT_OFF if way == "none" else SENT]
            if way != "none":
                assert peer.handshakes[0].getpeercert(binary_form=True) == OWN.der

    run(work())


def test_a_key_that_is_renewed_is_used_from_then_on(tmp_path: Path) -> None:
    """The files are read by the supervisor, which tells of what is in them now."""
    again = ROOT.issue("me.example", client=True)
    paths = "/etc/own.pem", "/etc/own.key"
    held = [KeyFiles(dict(zip(paths, (pair.pem, pair.key_pem), strict=True))) for pair in (OWN, again)]

    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD, asks=ROOT)) as peer:
            own = {
                "smtp_tls_security_level": "encrypt", "smtp_tls_cert_file": paths[0], "smtp_tls_key_file": paths[1],
                "smtp_tls_connection_reuse": "no", "smtp_tls_session_cache_database": "x:y",
            }  # fmt: skip
            agent = agent_for(peer, settings=own, key_files=lambda: held[0])
            for _ in range(2):
                assert brief(await agent.deliver(young())) == [SENT]
            held.pop(0)
            assert brief(await agent.deliver(young())) == [SENT]
            await agent.close()
            shown = [each.getpeercert(binary_form=True) for each in peer.handshakes]
            assert shown == [OWN.der, OWN.der, again.der]

    run(work())


def test_a_key_that_could_not_be_read(tmp_path: Path) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            own = {"smtp_tls_security_level": "encrypt", "smtp_tls_chain_files": "/etc/own.pem"}
            agent = agent_for(peer, settings=own, key_files=lambda: KeyFiles(troubles={"/etc/own.pem": "No such file"}))
            (result,) = await agent.deliver(young())
            await agent.close()
            assert brief([result]) == [PUT_OFF]
            assert result.text.endswith("_tls_chain_files = /etc/own.pem: /etc/own.pem: No such file")

    run(work())


def test_the_supervisor_reads_the_keys_of_clients_too(tmp_path: Path) -> None:
    certificate, key = OWN.write(tmp_path, "own")
    settings = {f"{_under_test}_tls_cert_file": str(certificate), f"{_under_test}_tls_key_file": str(key)}
    files = KeyFileReader([], [(Parameters(settings), _under_test)]).read()
    assert files.contents == {str(certificate): OWN.pem, str(key): OWN.key_pem}


@honours("smtp_tls_CApath", "smtp_tls_trust_anchor_file")
@pytest.mark.parametrize("way", ["CApath", "anchor", "anchor of another"])
def test_other_places_of_authorities(tmp_path: Path, way: str) -> None:
    middle = Authority("Middle", issuer=ROOT)
    pair = middle.issue(NAME)

    async def work() -> None:
        own = {"smtp_tls_security_level": "verify"}
        if way == "CApath":
            folder = tmp_path / "authorities"
            folder.mkdir()
            (folder / "root.pem").write_bytes(ROOT.pem)
            # As openssl rehash names it.
            probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            probe.load_verify_locations(cadata=ROOT.pem.decode())
            import subprocess

            subprocess.run(["openssl", "rehash", str(folder)], check=True)
            own["smtp_tls_CApath"] = str(folder)
        else:
            # The anchor goes before all authorities, and need not be a root.
            anchor = tmp_path / "anchor.pem"
            anchor.write_bytes(middle.pem if way == "anchor" else Authority("Other").pem)
            own |= {"smtp_tls_trust_anchor_file": str(anchor), "smtp_tls_CAfile": str(tmp_path / "root.pem")}
            (tmp_path / "root.pem").write_bytes(ROOT.pem)
        async with TlsPeer(server_context(tmp_path, pair)) as peer:
            result = await sent_to(peer, own)
            assert brief([result]) == [PUT_OFF if way == "anchor of another" else SENT]

    run(work())


@honours("smtp_tls_scert_verifydepth", "lmtp_tls_scert_verifydepth")
@pytest.mark.parametrize("depth", ["0", "1"])
def test_how_far_an_authority_may_be(tmp_path: Path, depth: str) -> None:
    async def work() -> None:
        pair = Authority("Middle", issuer=ROOT).issue(NAME)
        async with TlsPeer(server_context(tmp_path, pair)) as peer:
            own = settings(tmp_path, smtp_tls_security_level="verify", smtp_tls_scert_verifydepth=depth)
            assert brief([await sent_to(peer, own)]) == [SENT if depth == "1" else PUT_OFF]

    run(work())


@honours("tls_wildcard_matches_multiple_labels")
@pytest.mark.parametrize("several", ["yes", "no"])
def test_how_much_an_asterisk_stands_for(tmp_path: Path, several: str) -> None:
    async def work() -> None:
        for name, fits in (("a.fake.example", True), ("a.b.fake.example", several == "yes")):
            async with TlsPeer(server_context(tmp_path, ROOT.issue("*.fake.example")), name=name) as peer:
                own = settings(tmp_path, smtp_tls_security_level="verify", tls_wildcard_matches_multiple_labels=several)
                assert brief([await sent_to(peer, own)]) == [SENT if fits else PUT_OFF]

    run(work())


# -- policy tables --

POLICIES = {
    "none": "",
    "encrypt": "smtp_tls_security_level=encrypt",
    "verify match=fake.example": "",
    "verify match=other.example:fake.example": "",
    "secure match=nexthop": "x",
    f"fingerprint match={PRINT}": "",
    f"fingerprint match={'AA:' * 31}AA": "x",
}


@honours("smtp_tls_policy_maps")
@pytest.mark.parametrize("policy", POLICIES)
def test_a_table_has_a_policy_for_a_next_hop(tmp_path: Path, policy: str) -> None:
    async def work() -> None:
        table = f"inline:{{ {{ d.example = {policy} }} }}"
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            result = await sent_to(peer, settings(tmp_path, smtp_tls_policy_maps=table))
            assert brief([result]) == [PUT_OFF if POLICIES[policy] == "x" else SENT]
            assert bool(peer.handshakes) is (policy != "none")

    run(work())


@honours("smtp_tls_policy_maps")
@pytest.mark.parametrize(
    "policy", ["always", "encrypt match=x", "verify match", "encrypt protocols=TLSv7", "encrypt ciphers=best",
               "fingerprint match=zz", "encrypt colour=blue", ","],
)  # fmt: skip
def test_a_policy_that_cannot_be_read_stops_the_mail(policy: str) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            table = f"inline:{{ {{ d.example = {policy} }} }}" if policy else "static: "
            result = await sent_to(
                peer, {"smtp_tls_policy_maps": table} if policy else {"smtp_tls_policy_maps": "static:,"}
            )
            assert brief([result]) == [PUT_OFF]
            assert result.text.startswith(
                f"client TLS configuration problem: {_under_test}_tls_policy_maps: d.example: "
            )
            assert not peer.connections

    run(work())


@honours("smtp_tls_per_site", "lmtp_tls_per_site")
@pytest.mark.parametrize(
    ("sites", "takes_plain", "takes_stranger", "encrypts"),
    [
        ("{ d.example = NONE }", True, True, False),
        ("{ fake.example = none }", True, True, False),
        ("{ d.example = MAY }", True, True, True),
        ("{ d.example = MAY } { fake.example = NONE }", True, True, False),
        ("{ d.example = MUST_NOPEERMATCH } { fake.example = NONE }", False, True, True),
        ("{ d.example = MUST } { fake.example = MAY }", False, False, True),
        ("{ elsewhere.example = MUST }", True, True, True),
        ("{ d.example = WHAT }", False, False, False),
    ],
)
def test_the_table_of_old(tmp_path: Path, sites: str, takes_plain: bool, takes_stranger: bool, encrypts: bool) -> None:
    async def work() -> None:
        own = settings(tmp_path, smtp_tls_security_level="may", smtp_tls_per_site=f"inline:{{ {sites} }}")
        async with FakePeer() as plain, TlsPeer(server_context(tmp_path, self_signed(NAME))) as stranger:
            assert (brief([await sent_to(plain, own)]) == [SENT]) is takes_plain
            assert (brief([await sent_to(stranger, own)]) == [SENT]) is takes_stranger
            assert bool(stranger.handshakes) is encrypts

    run(work())


@honours("smtp_tls_fingerprint_cert_match")
def test_fingerprint_without_any_is_no_configuration() -> None:
    with pytest.raises(ConfigError, match="_tls_fingerprint_cert_match"):
        agent_for(settings={"smtp_tls_security_level": "fingerprint"})


@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_a_file_that_is_not_there_stops_what_must_be_encrypted_and_nothing_else(tmp_path: Path, level: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            own = {"smtp_tls_security_level": level, "smtp_tls_cert_file": "/nowhere/own.pem"}
            result = await sent_to(peer, own, notes)
            assert brief([result]) == [SENT if level == "may" else PUT_OFF]
            assert (
                f"client TLS configuration problem: {_under_test}_tls_cert_file = /nowhere/own.pem: " in notes.texts[0]
            )

    run(work())


# -- again --


@honours("smtp_tls_connection_reuse")
@pytest.mark.parametrize("reuse", ["yes", "no"])
def test_an_encrypted_connection_takes_the_next_message(tmp_path: Path, reuse: str) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            agent = agent_for(peer, settings=settings(tmp_path, smtp_tls_connection_reuse=reuse))
            for _ in range(3):
                assert brief(await agent.deliver(young())) == [SENT]
            await agent.close()
            assert peer.connections == (1 if reuse == "yes" else 3)

    run(work())


@honours("smtp_tls_session_cache_database", "smtp_tls_session_cache_timeout")
@pytest.mark.parametrize("cache", ["", "btree:/var/lib/postfix/smtp_scache"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_session_is_resumed(tmp_path: Path, cache: str, version: str) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            own = settings(
                tmp_path, smtp_tls_security_level="verify", smtp_tls_connection_reuse="no",
                smtp_tls_session_cache_database=cache, smtp_tls_mandatory_protocols=version,
            )  # fmt: skip
            notes = Notes()
            agent = agent_for(peer, settings=own, notes=notes)
            for _ in range(3):
                assert brief(await agent.deliver(young())) == [SENT]
            await agent.close()
            assert [bool(each.session_reused) for each in peer.handshakes] == [False, bool(cache), bool(cache)]
            assert all(text.startswith("Verified TLS") for text in notes.texts)

    run(work())


class Fixed:
    """One policy for every server; what is told is kept."""

    def __init__(self, policy: TlsPolicy) -> None:
        self.policy = policy
        self.told: list[TlsOutcome] = []

    def constant_for(self, next_hop: str) -> TlsPolicy | None:
        return None

    async def policy_for(
        self, next_hop: str, host: Host, *, require_tls: bool = False, tls_optional: bool = False
    ) -> TlsPolicy:
        return self.policy

    def tell(self, next_hop: str, host: Host, policy: TlsPolicy, outcome: TlsOutcome) -> None:
        self.told.append(outcome)


@pytest.mark.parametrize("usage", [2, 3])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("right", [True, False])
def test_records_of_dns_are_held_against_resumed_sessions_too(
    tmp_path: Path, usage: int, version: str, right: bool
) -> None:
    """RFC 7672 §3.1."""
    middle = Authority("Middle", issuer=ROOT)
    pair = middle.issue(NAME)
    meant = (pair if usage == 3 else middle).der if right else GOOD.der
    record = Tlsa(usage, 0, 1, hashlib.sha256(meant).digest())
    source = Fixed(TlsPolicy(Level.DANE, "dane", tlsa=(record,), tlsa_base=NAME, protocols=version, ciphers="medium"))

    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, pair)) as peer:
            own = {"smtp_tls_connection_reuse": "no", "smtp_tls_session_cache_database": "x:y"}
            source.policy = structs.replace(source.policy, reuse=False)
            agent = agent_for(peer, settings=own, policies=lambda configured: source)
            for _ in range(2):
                assert brief(await agent.deliver(young())) == [SENT if right else PUT_OFF]
            await agent.close()
            assert peer.names == [NAME, NAME]
            assert [outcome.problem is None for outcome in source.told] == [right, right]
            if right:
                assert [bool(each.session_reused) for each in peer.handshakes] == [False, True]

    run(work())


@pytest.mark.parametrize("certificate", ["right", "wrong name", "self-signed"])
@pytest.mark.parametrize("offered", [True, False])
def test_a_policy_that_is_only_tested_stops_nothing_and_is_told(
    tmp_path: Path, certificate: str, offered: bool
) -> None:
    """RFC 8461 §5."""
    root = tmp_path / "root.pem"
    root.write_bytes(ROOT.pem)
    source = Fixed(
        TlsPolicy(Level.SECURE, "sts", match=("hostname",), trust_anchors=(str(root),), ciphers="medium", testing=True)
    )

    async def work() -> None:
        context = server_context(tmp_path, CERTIFICATES[certificate])
        async with TlsPeer(context, None if offered else {"EHLO": AFTER, "LHLO": AFTER}) as peer:
            agent = agent_for(peer, policies=lambda configured: source)
            assert brief(await agent.deliver(young())) == [SENT]
            await agent.close()
            expected = {"right": None, "wrong name": Problem.WRONG_NAME, "self-signed": Problem.NOT_TRUSTED}[
                certificate
            ]
            assert [each.problem for each in source.told] == [expected if offered else Problem.NOT_OFFERED]
            assert source.told[0].local_address == "127.0.0.1"
            assert source.told[0].helo == "fake.example"

    run(work())


@honours("smtp_tls_fingerprint_digest")
def test_a_digest_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="_tls_fingerprint_digest = nosuch: there is no such digest"):
        agent_for(settings={"smtp_tls_fingerprint_digest": "nosuch"})


def test_a_stranger_stays_one_when_its_session_is_resumed(tmp_path: Path) -> None:
    """A resumed handshake shows no chain: what was found at the first time holds."""

    async def work() -> None:
        notes = Notes()
        async with TlsPeer(server_context(tmp_path, self_signed(NAME))) as peer:
            own = settings(
                tmp_path, smtp_tls_security_level="encrypt", smtp_tls_connection_reuse="no",
                smtp_tls_session_cache_database="x:y",
            )  # fmt: skip
            agent = agent_for(peer, settings=own, notes=notes)
            for _ in range(2):
                assert brief(await agent.deliver(young())) == [SENT]
            await agent.close()
            assert [bool(each.session_reused) for each in peer.handshakes] == [False, True]
            assert all(text.startswith("Untrusted TLS") for text in notes.texts)

    run(work())


def test_a_connection_is_used_again_only_under_the_same_policy(tmp_path: Path) -> None:
    """The way out into plain text is for the message that needs it, not for the next one."""

    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            peer._script["STAR"] = [(b"220 go\r\n", Act.CLOSE), b"220 go\r\n"]
            agent = agent_for(peer, settings=settings(tmp_path))
            assert brief(await agent.deliver(request("a"))) == [SENT]
            assert not peer.handshakes
            assert brief(await agent.deliver(young())) == [SENT]
            assert len(peer.handshakes) == 1
            await agent.close()

    run(work())


@honours("smtp_tls_note_starttls_offer")
@pytest.mark.parametrize("note", ["yes", "no"])
def test_servers_that_offer_tls_in_vain_are_noted(note: str) -> None:
    async def work() -> None:
        notes = Notes()
        async with FakePeer({"EHLO": EHLO, "LHLO": EHLO}) as peer:
            own = {"smtp_tls_security_level": "none", "smtp_tls_note_starttls_offer": note}
            assert brief([await sent_to(peer, own, notes)]) == [SENT]
        assert notes.texts == (["Host offered STARTTLS: [fake.example]"] if note == "yes" else [])

    run(work())


def test_large_content_goes_through_tls_whole(tmp_path: Path) -> None:
    from ekiden.message.content import InlineContent

    async def work() -> None:
        data = b"".join(b"line %d\r\n" % at for at in range(100_000))
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            message = structs.replace(young(), content=InlineContent(data))
            assert brief([await sent_to(peer, settings(tmp_path), message=message)]) == [SENT]
            assert peer.contents == [data + b".\r\n"]

    run(work())

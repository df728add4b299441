"""DANE and MTA-STS against strangers: for each policy and each failure, is the message sent or put off?

A real Postfix shows each kind of certificate; zones are signed by ldns, served by nsd and validated by unbound.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import Struct

from ekiden.cli.main import main
from ekiden.config.load import load
from ekiden.deliver.smtp import SmtpAgent
from ekiden.message.address import Address
from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import Envelope, Recipient
from ekiden.runtime.decisions import Decisions
from ekiden.runtime.domain_tls import DomainTls
from ekiden.runtime.system_clock import SystemClock
from ekiden.tls.dane import key_of
from support.certificates import Authority, Pair, self_signed
from support.honours import honours
from support.https_server import HttpsServer, text
from support.peers import Peer, running_postfix
from support.running import free_port
from support.signed_dns import running_signed_dns
from support.smtp_delivery import Notes

ROOT = Authority("Test Root")
STRANGER = Authority("Another Root")
NAMES = ("*.signed.test", "*.plain.test")
CERTIFICATES = {
    "right": ROOT.issue(*NAMES),
    "wrong": ROOT.issue("elsewhere.example"),
    "expired": ROOT.issue(*NAMES, days=(-30, -1)),
    "self": self_signed(*NAMES),
    "stranger": STRANGER.issue(*NAMES),
}
ADDRESSES = {name: f"127.0.1.{n}" for n, name in enumerate((*CERTIFICATES, "none"), 1)}  # none: without TLS

SENT, PUT_OFF, NO_TLS = "2.0.0", "4.7.5", "4.7.4"


def digest(data: bytes | None) -> str:
    assert data is not None
    return hashlib.sha256(data).hexdigest()


def own(name: str) -> str:
    """3 1 1 of a server's key."""
    return f"3 1 1 {digest(key_of(CERTIFICATES[name].der))}"


ANCHOR = f"2 0 1 {digest(ROOT.der)}"
WRONG = f"3 1 1 {'00' * 32}"
UNUSABLE = f"1 1 1 {digest(key_of(CERTIFICATES['right'].der))}"


class Case(Struct, frozen=True):
    """The TLSA records of a host, which certificate it shows, and what becomes of mail at levels dane and dane-only."""

    server: str
    records: tuple[str, ...]
    dane: str
    only: str
    zone: str = "signed.test"


DANE = {
    # 3 1 1: the key is all that counts (RFC 7672 §3.1.1).
    "ee-right": Case("right", (own("right"),), SENT, SENT),
    "ee-wrong-name": Case("wrong", (own("wrong"),), SENT, SENT),
    "ee-expired": Case("expired", (own("expired"),), SENT, SENT),
    "ee-self-signed": Case("self", (own("self"),), SENT, SENT),
    "ee-mismatch": Case("right", (WRONG,), PUT_OFF, PUT_OFF),
    "ee-one-of-two": Case("right", (WRONG, own("right")), SENT, SENT),
    "ee-without-tls": Case("none", (own("right"),), NO_TLS, NO_TLS),
    # 2 0 1: an authority, with names and dates (RFC 7672 §3.1.2).
    "ta-right": Case("right", (ANCHOR,), SENT, SENT),
    "ta-wrong-name": Case("wrong", (ANCHOR,), PUT_OFF, PUT_OFF),
    "ta-expired": Case("expired", (ANCHOR,), PUT_OFF, PUT_OFF),
    "ta-self-signed": Case("self", (ANCHOR,), PUT_OFF, PUT_OFF),
    "ta-stranger": Case("stranger", (ANCHOR,), PUT_OFF, PUT_OFF),
    # Records that are there and cannot be used: TLS, with anybody (RFC 7672 §2.2).
    "unusable": Case("self", (UNUSABLE,), SENT, PUT_OFF),
    "unusable-without-tls": Case("none", (UNUSABLE,), NO_TLS, PUT_OFF),
    # No records, proven: as good as may.
    "absent": Case("self", (), SENT, PUT_OFF),
    "absent-without-tls": Case("none", (), SENT, PUT_OFF),
    # Records that do not validate are no absence (RFC 7672 §2.1.2).
    "bogus": Case("right", (f"3 1 1 {'cd' * 32}",), PUT_OFF, PUT_OFF),
    # A zone that nobody signed (RFC 7672 §2.2): its records are nothing.
    "insecure": Case("self", (WRONG,), SENT, PUT_OFF, "plain.test"),
}


class Alias(Struct, frozen=True):
    """An MX host that is an alias (RFC 7672 §2.2.2, §2.2.3): which server, the records there and where it leads."""

    target: str
    server: str
    at_alias: tuple[str, ...]
    at_target: tuple[str, ...]
    expected: str


ALIASES = {
    "alias-target": Alias("real1.signed.test", "right", (), (own("right"),), SENT),
    "alias-target-first": Alias("real2.signed.test", "right", (own("right"),), (WRONG,), PUT_OFF),
    "alias-itself": Alias("real3.signed.test", "self", (own("self"),), (), SENT),
    "alias-itself-mismatch": Alias("real4.signed.test", "right", (WRONG,), (), PUT_OFF),
    # It leads out of the signed zones: the alias itself is proven, and its records count.
    "alias-away": Alias("away1.plain.test", "self", (own("self"),), (WRONG,), SENT),
    "alias-away-mismatch": Alias("away2.plain.test", "right", (WRONG,), (own("right"),), PUT_OFF),
    "alias-away-absent": Alias("away3.plain.test", "self", (), (WRONG,), SENT),
}

# The MTA-STS policy of each domain of the unsigned zone, and where its policy host is.
POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"
HTTPS = {"good": "127.0.2.1", "expired": "127.0.2.2", "wrong": "127.0.2.3", "nobody": "127.0.2.4"}


class Sts(Struct, frozen=True):
    server: str
    mode: str
    expected: str
    https: str = "good"
    mx: str = "*.plain.test"
    level: str = "may"


STS = {
    "enforce-right": Sts("right", "enforce", SENT),
    "enforce-wrong-name": Sts("wrong", "enforce", PUT_OFF),
    "enforce-expired": Sts("expired", "enforce", PUT_OFF),
    "enforce-self-signed": Sts("self", "enforce", PUT_OFF),
    "enforce-without-tls": Sts("none", "enforce", NO_TLS),
    "enforce-not-listed": Sts("right", "enforce", PUT_OFF, mx="mx.elsewhere.example"),
    # The asterisk of a certificate is one label here, whatever tls_wildcard_matches_multiple_labels says.
    "deep.enforce": Sts("right", "enforce", PUT_OFF, mx="*.enforce.plain.test"),
    "enforce-at-encrypt": Sts("self", "enforce", PUT_OFF, level="encrypt"),
    "enforce-at-none": Sts("self", "enforce", SENT, level="none"),
    "testing-right": Sts("right", "testing", SENT),
    "testing-wrong-name": Sts("wrong", "testing", SENT),
    "testing-expired": Sts("expired", "testing", SENT),
    "testing-self-signed": Sts("self", "testing", SENT),
    "testing-without-tls": Sts("none", "testing", SENT),
    "testing-not-listed": Sts("self", "testing", SENT, mx="mx.elsewhere.example"),
    "none-self-signed": Sts("self", "none", SENT),
    # A policy that cannot be fetched, and was never: mail goes as without one (RFC 8461 §5.1).
    "https-expired": Sts("self", "enforce", SENT, https="expired"),
    "https-wrong-name": Sts("self", "enforce", SENT, https="wrong"),
    "https-nobody": Sts("self", "enforce", SENT, https="nobody"),
    "policy-broken": Sts("self", "nonsense", SENT),
}


class Place(Struct):
    resolver: str
    port: int
    https_port: int
    postfix: Peer
    ca_file: str


def signed_zone(port: int) -> str:
    lines: list[str] = []
    for name, case in DANE.items():
        if case.zone == "signed.test":
            lines += host(name, case.server, case.records, port)
    for name, alias in ALIASES.items():
        lines += [f"{name} MX 10 mx-{name}", f"mx-{name} CNAME {alias.target}."]
        lines += [f"_{port}._tcp.mx-{name} TLSA {record}" for record in alias.at_alias]
    return "\n".join([*lines, *targets("signed.test", port)])


def targets(zone: str, port: int) -> list[str]:
    """Where aliases lead to, in a zone."""
    lines: list[str] = []
    for alias in ALIASES.values():
        name, _, its_zone = alias.target.partition(".")
        if its_zone == zone:
            lines.append(f"{name} A {ADDRESSES[alias.server]}")
            lines += [f"_{port}._tcp.{name} TLSA {record}" for record in alias.at_target]
    return lines


def plain_zone(port: int) -> str:
    lines = [*host("insecure", "self", DANE["insecure"].records, port), *targets("plain.test", port)]
    for name, case in STS.items():
        lines += host(name, case.server, (), port)
        lines.append(f'_mta-sts.{name} TXT "v=STSv1; id=1;"')
        lines.append(f"mta-sts.{name} A {HTTPS[case.https]}")
    return "\n".join(lines)


def host(name: str, server: str, records: Sequence[str], port: int) -> list[str]:
    return [
        f"{name} MX 10 mx-{name}",
        f"mx-{name} A {ADDRESSES[server]}",
        *(f"_{port}._tcp.mx-{name} TLSA {record}" for record in records),
    ]


def listener(name: str, address: str, port: int, directory: Path) -> str:
    line = f"{address}:{port} inet n - n - - smtpd"
    if name == "none":
        return f"{line} -o smtpd_tls_security_level=none"
    pair = CERTIFICATES[name]
    above = {"stranger": STRANGER.pem}.get(name, b"" if name == "self" else ROOT.pem)
    chain = directory / f"{name}.chain"
    chain.write_bytes(pair.key_pem + pair.pem + above)
    return f"{line} -o smtpd_tls_security_level=may -o smtpd_tls_chain_files={chain}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("truth")
    ca_file = directory / "ca.pem"
    ca_file.write_bytes(ROOT.pem)
    port = free_port()
    lines = [listener(name, address, port, directory) for name, address in ADDRESSES.items()]
    lines.append("tlsmgr unix - - n 1000? 1 tlsmgr")
    with (
        running_signed_dns(
            directory / "dns",
            {"signed.test": signed_zone(port)},
            unsigned={"plain.test": plain_zone(port)},
            forged={"signed.test": ("cd" * 32, "ce" * 32)},
        ) as resolver,
        running_postfix(master_cf=lines) as postfix,
    ):
        yield Place(resolver, port, free_port(), postfix, str(ca_file))


class MovedClock(SystemClock):
    """The system's, some time later."""

    later_s = 0.0

    def time(self) -> float:
        return super().time() + self.later_s

    def monotonic(self) -> float:
        return super().monotonic() + self.later_s


class Station:
    """Our side: the smtp agent with all that decides for it, as a worker wires it."""

    def __init__(self, place: Place, directory: Path, settings: Mapping[str, str]) -> None:
        queue = directory / "queue"
        (queue / "tls").mkdir(parents=True, exist_ok=True)
        main_cf = {
            "myhostname": "me.test",
            "queue_directory": str(queue),
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "dns_resolvers": place.resolver,
            "smtp_tcp_port": str(place.port),
            "smtp_tls_CAfile": place.ca_file,
            **settings,
        }
        (directory / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in main_cf.items()))
        configuration = load(directory)
        assert not configuration.errors
        parameters = configuration.parameters
        self.clock = MovedClock()
        self.notes = Notes()
        self.decisions = Decisions(configuration, self.clock)
        self.tls = DomainTls(
            parameters,
            resolver=self.decisions.resolver,
            secure_resolver=lambda: self.decisions.secure_resolver,
            submit=self._submit,
            clock=self.clock,
            observer=self.notes,
            https_port=place.https_port,
        )
        self.agent = SmtpAgent(
            parameters,
            hosts_for=self.decisions.hosts_for(parameters, "smtp"),
            clock=self.clock,
            observer=self.notes,
            policies=self.tls.policies(parameters, "smtp"),
        )

    async def _submit(self, sender: str, recipient: str, content: bytes) -> None:
        raise AssertionError("no report is due")

    async def send(self, domain: str) -> DeliveryResult:
        recipient = Recipient(Address("u", domain))
        content = InlineContent(b"Subject: x\r\n\r\nHello\r\n")
        envelope = Envelope(Address("s", "me.test"))
        arrived = time.time()
        (result,) = await self.agent.deliver(
            DeliveryRequest("Q1", "smtp", domain, envelope, (recipient,), content, arrived)
        )
        return result

    async def close(self) -> None:
        await self.agent.close()
        await self.tls.close()
        await self.decisions.close()


def outcome(result: DeliveryResult) -> str:
    return str(result.status)


# -- DANE --


@honours("smtp_tls_security_level", "smtp_dns_support_level")
@pytest.mark.parametrize("level", ["dane", "dane-only"])
@pytest.mark.parametrize("name", DANE)
def test_dane(place: Place, tmp_path: Path, name: str, level: str) -> None:
    case = DANE[name]

    async def scenario() -> None:
        settings = {"smtp_tls_security_level": level, "smtp_dns_support_level": "dnssec", "smtp_mta_sts_policy": "none"}
        station = Station(place, tmp_path, settings)
        try:
            result = await station.send(f"{name}.{case.zone}")
        finally:
            await station.close()
        assert outcome(result) == (case.dane if level == "dane" else case.only), result.text

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ALIASES)
def test_dane_with_hosts_that_are_aliases(place: Place, tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        settings = {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec"}
        station = Station(place, tmp_path, settings)
        try:
            result = await station.send(f"{name}.signed.test")
        finally:
            await station.close()
        assert outcome(result) == ALIASES[name].expected, result.text

    asyncio.run(scenario())


def test_every_message_that_was_sent_under_tlsa_records_went_encrypted(place: Place, tmp_path: Path) -> None:
    """Postfix says so itself, in what it adds to the message."""

    async def scenario() -> None:
        station = Station(place, tmp_path, {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec"})
        for name in ("ee-right", "ta-right", "unusable"):
            assert outcome(await station.send(f"{name}.signed.test")) == SENT
        await station.close()

    asyncio.run(scenario())
    for name in ("ee-right", "ta-right", "unusable"):
        mail = place.postfix.wait_for_mail(f"u@{name}.signed.test")[-1]
        assert b"with ESMTPS id" in mail, mail


@pytest.mark.parametrize("name", ["ee-right", "ta-right"])
def test_a_session_that_is_resumed_is_held_against_the_records_too(place: Place, tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        settings = {
            "smtp_tls_security_level": "dane",
            "smtp_dns_support_level": "dnssec",
            "smtp_tls_session_cache_database": "btree:x",
            "smtp_tls_connection_reuse": "no",
            "smtp_tlsrpt_enable": "yes",
            "smtp_tlsrpt_skip_reused_handshakes": "yes",
        }
        station = Station(place, tmp_path, settings)
        for _ in range(3):
            assert outcome(await station.send(f"{name}.signed.test")) == SENT
        station.tls.store.flush()
        ((day, domain),) = station.tls.store.domains("9999")
        (count,) = station.tls.store.counts(day, domain)
        assert (count.sessions, count.failure) == (1, None)  # the others were resumed
        await station.close()

    asyncio.run(scenario())


# -- MTA-STS --


class PolicyHosts:
    """The HTTPS servers of all domains: one with the right certificate, others with the others."""

    def __init__(self, place: Place, directory: Path) -> None:
        names = [f"mta-sts.{name}.plain.test" for name in STS]
        pairs: dict[str, Pair] = {
            "good": ROOT.issue(*names),
            "expired": ROOT.issue(*names, days=(-9, -1)),
            "wrong": ROOT.issue("elsewhere.example"),
        }
        self.servers = {
            kind: HttpsServer(pair, directory, self.answer, address=HTTPS[kind], port=place.https_port)
            for kind, pair in pairs.items()
        }
        self.policies: dict[str, str] = {name: POLICY.format(mode=case.mode, mx=case.mx) for name, case in STS.items()}

    def answer(self, asked: bytes) -> bytes:
        head = asked.decode("ascii")
        assert head.startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
        name = head.partition("Host: mta-sts.")[2].partition(".plain.test")[0]
        return text(self.policies[name].encode())


@pytest.mark.parametrize("name", STS)
def test_mta_sts(place: Place, tmp_path: Path, name: str) -> None:
    case = STS[name]

    async def scenario() -> None:
        hosts = PolicyHosts(place, tmp_path)
        station = Station(place, tmp_path, {"smtp_tls_security_level": case.level})
        async with AsyncExitStack() as stack:
            for server in hosts.servers.values():
                await stack.enter_async_context(server)
            result = await station.send(f"{name}.plain.test")
            await station.close()
        assert outcome(result) == case.expected, result.text

    asyncio.run(scenario())


def test_a_policy_in_the_cache_holds_until_its_end_whatever_happens(place: Place, tmp_path: Path) -> None:
    """RFC 8461 §5.1: not a restart, nor a policy host that is gone, nor one whose certificate is wrong, ends it."""
    name = "enforce-self-signed"
    domain = f"{name}.plain.test"

    async def scenario() -> None:
        hosts = PolicyHosts(place, tmp_path)
        station = Station(place, tmp_path, {"smtp_tls_security_level": "may"})
        async with hosts.servers["good"]:
            assert outcome(await station.send(domain)) == PUT_OFF
        await station.close()
        station = Station(place, tmp_path, {"smtp_tls_security_level": "may"})  # a restart; the policy host is down
        assert outcome(await station.send(domain)) == PUT_OFF
        station.clock.later_s = 86_000
        assert outcome(await station.send(domain)) == PUT_OFF
        station.clock.later_s = 86_401
        assert outcome(await station.send(domain)) == SENT
        await station.close()

    asyncio.run(scenario())


def test_why_says_what_would_be_asked_of_a_server(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same decisions, in words; and nothing is left behind that a worker could not use."""

    def why(domain: str, **settings: str) -> list[str]:
        Station(place, tmp_path, settings)  # for its main.cf
        main(["why", f"u@{domain}", "--json", "-c", str(tmp_path)])
        steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [step["text"] for step in steps if step["kind"] == "tls"]

    dane = {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec", "smtp_mta_sts_policy": "none"}
    assert why("ee-right.signed.test", **dane) == [
        "TLS, with a certificate that a TLSA record of mx-ee-right.signed.test knows (3 1 1)"
    ]
    assert why("unusable.signed.test", **dane) == [
        "TLS, with any certificate: the server has TLSA records that cannot be used"
    ]
    assert why("absent.signed.test", **dane) == ["TLS if the server offers it, with any certificate"]
    (text,) = why("bogus.signed.test", **dane)
    assert text.startswith("nothing is sent to mx-bogus.signed.test: TLSA lookup error")
    secure = {"smtp_tls_security_level": "secure"}
    assert why("ee-right.signed.test", **secure) == [
        "TLS, with a certificate that an authority gave to nexthop or dot-nexthop"
    ]
    assert not (tmp_path / "queue" / "tls" / "mta-sts.sqlite").exists()


def test_what_was_found_is_counted_under_the_policy_that_held(place: Place, tmp_path: Path) -> None:
    """RFC 8460 §4.3, for the kinds of failure above."""
    expected = {
        "testing-expired": ("sts", "certificate-expired"),
        "testing-wrong-name": ("sts", "certificate-host-mismatch"),
        "testing-self-signed": ("sts", "certificate-not-trusted"),
        "testing-without-tls": ("sts", "starttls-not-supported"),
        "enforce-not-listed": ("sts", "validation-failure"),
        "enforce-right": ("sts", ""),
        "https-expired": ("sts", "sts-webpki-invalid"),
        "https-nobody": ("sts", "sts-policy-fetch-error"),
        "policy-broken": ("sts", "sts-policy-invalid"),
    }

    async def scenario() -> None:
        hosts = PolicyHosts(place, tmp_path)
        station = Station(place, tmp_path, {"smtp_tls_security_level": "may", "smtp_tlsrpt_enable": "yes"})
        async with AsyncExitStack() as stack:
            for server in hosts.servers.values():
                await stack.enter_async_context(server)
            for name in expected:
                await station.send(f"{name}.plain.test")
        station.tls.store.flush()
        found: dict[str, set[tuple[str, str]]] = {}
        for day, domain in station.tls.store.domains("9999"):
            for count in station.tls.store.counts(day, domain):
                failure = count.failure.result_type if count.failure is not None else ""
                found.setdefault(domain, set()).add((count.policy.policy_type, failure))
        await station.close()
        for name, pair in expected.items():
            assert pair in found[f"{name}.plain.test"], (name, found[f"{name}.plain.test"])

    asyncio.run(scenario())

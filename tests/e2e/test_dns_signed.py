"""What is authentic, by a signing name server and a validating resolver that others wrote (RFC 4035, RFC 7672 §2.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from ekiden.config.load import load
from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Tlsa
from ekiden.dns.stub import StubResolver
from ekiden.message.delivery import DeliveryResult
from ekiden.message.host import Host
from ekiden.runtime.decisions import Decisions
from ekiden.runtime.system_clock import SystemClock
from support.honours import honours
from support.signed_dns import running_signed_dns

R = TypeVar("R")

HASH = "ab" * 32
SIGNED = {
    "signed.test": f"""\
@ MX 10 mx
mx A 192.0.2.1
mx AAAA 2001:db8::1
_25._tcp.mx TLSA 3 1 1 {HASH}
forged A 192.0.2.66
_25._tcp.forged TLSA 3 1 1 {"cd" * 32}
alias CNAME mx
away CNAME host.plain.test.
loop CNAME loop2
loop2 CNAME loop
many MX 10 mx
"""
    + "\n".join(f"many MX {n} mx{n}" for n in range(200))
    + "\n",
}
UNSIGNED = {
    "plain.test": f"@ MX 10 host\nhost A 192.0.2.2\n_25._tcp.host TLSA 3 1 1 {HASH}\nhome CNAME mx.signed.test.\n"
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    forged = {"signed.test": ("cd" * 32, "ce" * 32)}
    with running_signed_dns(tmp_path_factory.mktemp("dns"), SIGNED, unsigned=UNSIGNED, forged=forged) as address:
        yield address


def ask(server: str, look_up: Callable[[StubResolver], Awaitable[R]], **settings: str) -> R:
    async def scenario() -> R:
        return await look_up(StubResolver(Parameters({"dns_resolvers": server, **settings})))

    return asyncio.run(scenario())


def test_records_of_a_signed_zone_are_authentic(server: str) -> None:
    mx = ask(server, lambda r: r.mx("Signed.test."))
    assert (mx.records, mx.authentic) == ((Mx(10, "mx.signed.test"),), True)
    assert 0 < mx.ttl_s <= 300
    addresses = ask(server, lambda r: r.addresses("mx.signed.test"))
    assert (sorted(addresses.records), addresses.authentic) == (["192.0.2.1", "2001:db8::1"], True)
    tlsa = ask(server, lambda r: r.tlsa("_25._tcp.mx.signed.test"))
    assert (tlsa.records, tlsa.authentic) == ((Tlsa(3, 1, 1, bytes.fromhex(HASH)),), True)


def test_records_of_an_unsigned_zone_are_not(server: str) -> None:
    for answer in (
        ask(server, lambda r: r.mx("plain.test")),
        ask(server, lambda r: r.addresses("host.plain.test")),
        ask(server, lambda r: r.tlsa("_25._tcp.host.plain.test")),
    ):
        assert answer.found is Found.RECORDS
        assert answer.authentic is False


def test_absence_is_authentic_too(server: str) -> None:
    nxdomain = ask(server, lambda r: r.tlsa("_25._tcp.nobody.signed.test"))
    nodata = ask(server, lambda r: r.tlsa("mx.signed.test"))
    assert (nxdomain.found, nxdomain.authentic) == (Found.NXDOMAIN, True)
    assert (nodata.found, nodata.authentic) == (Found.NODATA, True)
    assert 0 < nodata.ttl_s <= 5  # the SOA's minimum
    assert ask(server, lambda r: r.tlsa("nobody.plain.test")).authentic is False


def test_bogus_is_trouble(server: str) -> None:
    with pytest.raises(DnsTrouble, match="SERVFAIL"):
        ask(server, lambda r: r.tlsa("_25._tcp.forged.signed.test"))
    assert ask(server, lambda r: r.addresses("forged.signed.test")).authentic is True


def test_aliases_are_as_good_as_their_worst_part(server: str) -> None:
    alias = ask(server, lambda r: r.addresses("alias.signed.test"))
    assert (alias.authentic, alias.canonical) == (True, "mx.signed.test")
    away = ask(server, lambda r: r.addresses("away.signed.test"))
    assert (away.records, away.authentic, away.canonical) == (("192.0.2.2",), False, "host.plain.test")
    home = ask(server, lambda r: r.addresses("home.plain.test"))
    assert (home.authentic, home.canonical) == (False, "mx.signed.test")
    # RFC 7672 §2.2.2: the alias record by itself.
    assert ask(server, lambda r: r.cname("away.signed.test")).authentic is True
    assert ask(server, lambda r: r.cname("away.signed.test")).records == ("host.plain.test",)
    assert ask(server, lambda r: r.cname("home.plain.test")).authentic is False
    with pytest.raises(DnsTrouble):
        ask(server, lambda r: r.addresses("loop.signed.test"))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_large_answers(server: str, transport: str) -> None:
    answer = ask(server, lambda r: r.mx("many.signed.test"), dns_transport=transport)
    assert len(answer.records) == 201
    assert answer.authentic


def test_without_edns_the_ad_bit_is_asked_for_by_itself(server: str) -> None:
    assert ask(server, lambda r: r.mx("signed.test"), dns_edns="no").authentic


def test_two_hundred_questions_on_uvloop(server: str) -> None:
    async def scenario() -> list[Answer[str]]:
        resolver = StubResolver(Parameters({"dns_resolvers": server}))
        return await asyncio.gather(*(resolver.addresses("mx.signed.test") for _ in range(200)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(scenario())
    assert all(answer.authentic and len(answer.records) == 2 for answer in answers)


@honours("smtp_dns_support_level", "lmtp_dns_support_level")
@pytest.mark.parametrize("prefix", ["smtp", "lmtp"])
def test_the_hosts_of_a_next_hop_bear_what_was_proved(server: str, tmp_path: Path, prefix: str) -> None:
    def hosts(level: str, next_hop: str) -> Sequence[Host] | DeliveryResult:
        (tmp_path / "main.cf").write_text(
            f"myhostname = me.test\ndns_resolvers = {server}\n{prefix}_dns_support_level = {level}\n"
            "inet_protocols = ipv4\ninet_interfaces = loopback-only\n"
        )

        async def scenario() -> Sequence[Host] | DeliveryResult:
            decisions = Decisions(load(tmp_path), SystemClock())
            try:
                return await decisions.hosts_for(decisions.configuration.parameters, prefix)(next_hop)
            finally:
                await decisions.close()

        return asyncio.run(scenario())

    hop = "signed.test" if prefix == "smtp" else "mx.signed.test"
    assert hosts("dnssec", hop) == [Host("mx.signed.test", "192.0.2.1", 25 if prefix == "smtp" else 24, True)]
    plain = hosts("enabled", hop)
    assert not isinstance(plain, DeliveryResult)
    assert not plain[0].authentic
    if prefix == "smtp":
        assert hosts("dnssec", "plain.test") == [Host("host.plain.test", "192.0.2.2", 25, False, True)]

"""The resolver and MX routing against a real authoritative server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
import uvloop

from ekiden.config.snapshot import Parameters
from ekiden.dns.cares import CaresResolver
from ekiden.dns.resolver import DnsTrouble, Found, Mx, Srv
from ekiden.message.delivery import DeliveryResult
from ekiden.route.mx import MxRouter
from support.honours import honours
from support.nsd import running_nsd

R = TypeVar("R")

BIG_TXT = " ".join(f'"{chr(97 + n % 26) * 255}"' for n in range(40))
ZONES = {
    "x.test": f"""\
@ MX 20 b
_submission._tcp SRV 10 0 587 a1
_submission._tcp SRV 20 0 465 b
_none._tcp SRV 0 0 0 .
@ MX 10 A1
@ MX 10 a2
a1 A 192.0.2.11
a2 A 192.0.2.12
a2 AAAA 2001:db8::12
b A 192.0.2.13
null MX 0 .
implicit A 192.0.2.14
alias CNAME target
target MX 5 a1
target A 192.0.2.15
mxcname MX 10 alias
loopalias CNAME loopalias2
loopalias2 CNAME loopalias
dangling CNAME nowhere
literal MX 10 192.0.2.1.
literal MX 20 a1
text TXT "v=spf1 " "include:_spf.x.test" " -all"
text TXT "another" "\\000\\255"
big TXT {BIG_TXT}
only6 AAAA 2001:db8::16
"""
    + "\n".join(f"many MX {n % 50} h{n}" for n in range(1000))
    + "\n"
    + "\n".join(f"h{n} A 198.51.{n // 250}.{n % 250 + 1}" for n in range(1000)),
    "xn--bcher-kva.test": "@ MX 10 mx\nmx A 192.0.2.20",
    "2.0.192.in-addr.arpa": """\
1 PTR mx.example.com.
2 PTR bad\\032name.example.
2 PTR <script>.example.
3 PTR a\\@b.example.
3 PTR good.example.
3 PTR 192.0.2.3.
4 CNAME 1
""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_nsd(tmp_path_factory.mktemp("nsd"), ZONES) as address:
        yield address


def ask(server: str, look_up: Callable[[CaresResolver], Awaitable[R]], **settings: str) -> R:
    async def scenario() -> R:
        resolver = CaresResolver(Parameters({"dns_resolvers": server, **settings}))
        try:
            return await look_up(resolver)
        finally:
            await resolver.close()

    return asyncio.run(scenario())


def find(server: str, next_hop: str, **settings: str) -> list[str]:
    parameters = Parameters({"myhostname": "me.test", **settings})

    async def look_up(resolver: CaresResolver) -> list[str]:
        router = MxRouter(resolver, parameters, rng=random.Random(1))
        found = await router.hosts_for(next_hop)
        return [f"{found.status}"] if isinstance(found, DeliveryResult) else [str(host) for host in found]

    return ask(server, look_up)


def test_mx(server: str) -> None:
    answer = ask(server, lambda r: r.mx("X.test."))
    assert sorted(answer.records) == [Mx(10, "a1.x.test"), Mx(10, "a2.x.test"), Mx(20, "b.x.test")]
    assert 0 < answer.ttl_s <= 300
    assert ask(server, lambda r: r.mx("null.x.test")).records == (Mx(0, ""),)


@honours("use_srv_lookup")
def test_srv(server: str) -> None:
    answer = ask(server, lambda r: r.srv("_submission._tcp.x.test"))
    assert set(answer.records) == {Srv(10, 0, 587, "a1.x.test"), Srv(20, 0, 465, "b.x.test")}
    assert ask(server, lambda r: r.srv("_none._tcp.x.test")).records == (Srv(0, 0, 0, ""),)
    found = find(server, "x.test:submission", use_srv_lookup="submission")
    assert found == ["a1.x.test[192.0.2.11]:587", "b.x.test[192.0.2.13]:465"]


def test_addresses_of_both_protocols(server: str) -> None:
    assert sorted(ask(server, lambda r: r.addresses("a2.x.test")).records) == ["192.0.2.12", "2001:db8::12"]
    assert ask(server, lambda r: r.addresses("a2.x.test"), inet_protocols="ipv4").records == ("192.0.2.12",)
    assert ask(server, lambda r: r.addresses("a2.x.test"), inet_protocols="ipv6").records == ("2001:db8::12",)
    assert len(ask(server, lambda r: r.addresses("a2.x.test"), inet_protocols="all").records) == 2
    assert ask(server, lambda r: r.addresses("only6.x.test"), inet_protocols="ipv4").found is Found.NODATA


def test_absence_has_two_forms(server: str) -> None:
    async def look_up(resolver: CaresResolver) -> None:
        for ask_for in (resolver.mx, resolver.addresses, resolver.txt):
            assert (await ask_for("no.such.x.test")).found is Found.NXDOMAIN
        assert (await resolver.mx("implicit.x.test")).found is Found.NODATA
        assert (await resolver.addresses("null.x.test")).found is Found.NODATA
        assert (await resolver.txt("a1.x.test")).found is Found.NODATA

    ask(server, look_up)


def test_aliases_are_followed_and_loops_end(server: str) -> None:
    assert ask(server, lambda r: r.addresses("alias.x.test")).records == ("192.0.2.15",)
    assert ask(server, lambda r: r.mx("alias.x.test")).records == (Mx(5, "a1.x.test"),)
    assert ask(server, lambda r: r.addresses("dangling.x.test")).found is Found.NXDOMAIN
    try:
        assert ask(server, lambda r: r.addresses("loopalias.x.test")).found is Found.NODATA
    except DnsTrouble:
        pass  # servers differ in what they make of a loop; both are an end


def test_strings_of_a_txt_record_are_joined(server: str) -> None:
    answer = ask(server, lambda r: r.txt("text.x.test"))
    assert set(answer.records) == {b"v=spf1 include:_spf.x.test -all", b"another\x00\xff"}


def test_an_answer_that_does_not_fit_comes_by_tcp(server: str) -> None:
    (record,) = ask(server, lambda r: r.txt("big.x.test")).records
    assert len(record) == 40 * 255
    assert ask(server, lambda r: r.mx("x.test"), dns_transport="tcp").found is Found.RECORDS
    assert ask(server, lambda r: r.mx("x.test"), dns_edns="no").found is Found.RECORDS


def test_a_thousand_mx(server: str) -> None:
    assert len(ask(server, lambda r: r.mx("many.x.test")).records) == 1000
    found = find(server, "many.x.test")
    assert len(found) == 5
    assert all(int(host.split(".")[0][1:]) % 50 == 0 for host in found)


def test_names_in_u_labels(server: str) -> None:
    assert ask(server, lambda r: r.mx("BÜCHER.test")).records == (Mx(10, "mx.xn--bcher-kva.test"),)
    assert find(server, "bücher.test") == ["mx.xn--bcher-kva.test[192.0.2.20]:25"]


def test_names_of_addresses_that_no_host_has_are_left_out(server: str) -> None:
    assert ask(server, lambda r: r.ptr("192.0.2.1")).records == ("mx.example.com",)
    assert ask(server, lambda r: r.ptr("192.0.2.4")).records == ("mx.example.com",)
    assert ask(server, lambda r: r.ptr("192.0.2.2")).found is Found.NODATA
    assert ask(server, lambda r: r.ptr("192.0.2.3")).records == ("good.example",)
    assert ask(server, lambda r: r.ptr("unknown")).found is Found.NXDOMAIN


@pytest.mark.parametrize("name", ["", ".", "a..b", "a b.x.test", "x\x00.test", "a" * 64 + ".test", "\\.x.test"])
def test_names_that_cannot_exist_are_not_asked_for(server: str, name: str) -> None:
    assert ask("127.0.0.1:9", lambda r: r.mx(name)).found is Found.NXDOMAIN


def test_a_zone_that_is_not_served_is_trouble(server: str) -> None:
    with pytest.raises(DnsTrouble, match="REFUSED"):
        ask(server, lambda r: r.mx("elsewhere.example"))


def test_routing(server: str) -> None:
    found = find(server, "x.test")
    assert {host.partition("[")[0] for host in found[:3]} == {"a1.x.test", "a2.x.test"}
    assert found[3:] == ["b.x.test[192.0.2.13]:25"]
    assert find(server, "null.x.test") == ["5.1.10"]
    assert find(server, "implicit.x.test:2525") == ["implicit.x.test[192.0.2.14]:2525"]
    assert find(server, "literal.x.test") == ["a1.x.test[192.0.2.11]:25"]
    assert find(server, "mxcname.x.test") == ["alias.x.test[192.0.2.15]:25"]
    assert find(server, "gone.x.test") == ["5.4.4"]
    assert find(server, "elsewhere.example") == ["4.4.3"]
    assert find(server, "x.test", myhostname="a1.x.test") == ["5.4.6"]


def test_many_questions_at_once_on_either_loop(server: str) -> None:
    async def scenario() -> None:
        resolver = CaresResolver(Parameters({"dns_resolvers": server}))
        answers = await asyncio.gather(*(resolver.addresses(f"h{n}.x.test") for n in range(100)))
        assert all(answer.found is Found.RECORDS for answer in answers)
        await resolver.close()
        with pytest.raises(DnsTrouble, match="closed"):
            await resolver.mx("x.test")

    asyncio.run(scenario())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def test_a_channel_is_given_up_after_many_questions(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.dns.cares._QUESTIONS_A_CHANNEL", 7)

    async def scenario(resolver: CaresResolver) -> None:
        for start in range(0, 100, 20):
            answers = await asyncio.gather(*(resolver.addresses(f"h{start + n}.x.test") for n in range(20)))
            assert all(answer.found is Found.RECORDS for answer in answers)

    ask(server, scenario)

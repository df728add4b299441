from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import Answer, Found, Mx, Srv
from ekiden.message.delivery import Action, DeliveryResult
from ekiden.message.host import Host
from ekiden.route.mx import BetterHosts, MxRouter, host_rules, uses_dns
from ekiden.route.srv import in_order
from support.fake_resolver import SERVFAIL, FakeResolver, Zone
from support.honours import honours

OWN = frozenset({"192.0.2.99", "127.0.0.1"})
MX, A = "MX", "A"


def find(
    next_hop: str, zone: Zone, *, seed: int = 1, port: int = 25, **settings: str
) -> Sequence[Host] | DeliveryResult:
    parameters = Parameters({"myhostname": "me.example", **settings})
    router = MxRouter(FakeResolver(zone), parameters, own_addresses=OWN, rng=random.Random(seed))
    return asyncio.run(router.hosts_for(next_hop, port))


def found(next_hop: str, zone: Zone, **options: Any) -> list[Host]:
    result = find(next_hop, zone, **options)
    assert not isinstance(result, DeliveryResult), result
    return list(result)


def hosts(next_hop: str, zone: Zone, **options: Any) -> list[str]:
    return [str(host) for host in found(next_hop, zone, **options)]


def problem(next_hop: str, zone: Zone, **options: Any) -> DeliveryResult:
    found = find(next_hop, zone, **options)
    assert isinstance(found, DeliveryResult), found
    return found


def test_mx_by_preference() -> None:
    zone = {
        (MX, "x"): [Mx(20, "b"), Mx(10, "a"), Mx(30, "c")],
        (A, "a"): ["192.0.2.1"],
        (A, "b"): ["2001:db8::2"],
        (A, "c"): ["192.0.2.3"],
    }
    assert hosts("x", zone) == ["a[192.0.2.1]:25", "b[2001:db8::2]:25", "c[192.0.2.3]:25"]
    assert hosts("x:2525", zone)[0] == "a[192.0.2.1]:2525"
    assert hosts("x", zone, port=24)[0] == "a[192.0.2.1]:24"


def test_equal_preferences_are_shuffled() -> None:
    zone: dict[tuple[str, str], Any] = {(MX, "x"): [Mx(10, f"h{n}") for n in range(4)]}
    zone |= {(A, f"h{n}"): [f"192.0.2.{n}"] for n in range(4)}
    orders = {tuple(hosts("x", zone, seed=seed)) for seed in range(30)}
    assert len(orders) > 5
    assert {frozenset(order) for order in orders} == {frozenset(hosts("x", zone))}


@honours("smtp_address_preference")
@pytest.mark.parametrize(("preference", "first"), [("ipv4", "192.0.2.1"), ("ipv6", "2001:db8::1")])
def test_the_preferred_protocol_comes_first_among_equals(preference: str, first: str) -> None:
    zone = {(MX, "x"): [Mx(10, "a"), Mx(20, "b")], (A, "a"): ["2001:db8::1", "192.0.2.1"], (A, "b"): ["2001:db8::2"]}
    for seed in range(5):
        found = find("x", zone, seed=seed, smtp_address_preference=preference)
        assert not isinstance(found, DeliveryResult)
        assert found[0].address == first
        assert found[2].name == "b"  # preference of the MX goes before that of the protocol


def test_no_preference_tries_either_protocol_first() -> None:
    zone = {(MX, "x"): [Mx(10, "a")], (A, "a"): ["2001:db8::1", "192.0.2.1"]}
    assert len({hosts("x", zone, seed=seed)[0] for seed in range(20)}) == 2


def test_a_domain_without_mx_is_its_own() -> None:
    assert hosts("x", {(A, "x"): ["192.0.2.1"]}) == ["x[192.0.2.1]:25"]


def test_a_domain_with_mx_is_not() -> None:
    zone = {(MX, "x"): [Mx(10, "gone")], (A, "x"): ["192.0.2.1"]}
    assert problem("x", zone).text == (
        "Host or domain name not found. Name service error for name=gone type=A: Host not found"
    )


def test_null_mx() -> None:
    # RFC 7505 §3
    result = problem("x", {(MX, "x"): [Mx(0, "")], (A, "x"): ["192.0.2.1"]})
    assert (result.action, str(result.status)) == (Action.FAILED, "5.1.10")
    assert result.text == "Domain x does not accept mail (nullMX)"


def test_null_mx_among_others_means_nothing() -> None:
    assert hosts("x", {(MX, "x"): [Mx(0, ""), Mx(10, "a")], (A, "a"): ["192.0.2.1"]}) == ["a[192.0.2.1]:25"]


def test_nxdomain_fails() -> None:
    result = problem("x.example", {})
    assert (result.action, str(result.status)) == (Action.FAILED, "5.4.4")
    assert result.text == (
        "Host or domain name not found. Name service error for name=x.example type=MX: Host not found"
    )


def test_a_domain_without_mx_and_address_fails() -> None:
    result = problem("x", {("TXT", "x"): [b""]})
    assert str(result.status) == "5.4.4"
    assert "type=A: Host found but no data record of requested type" in result.text


@pytest.mark.parametrize(
    "zone",
    [
        {(MX, "x"): SERVFAIL},
        {(MX, "x"): Found.NODATA, (A, "x"): SERVFAIL},
        {(MX, "x"): [Mx(10, "a"), Mx(20, "b")], (A, "a"): SERVFAIL},  # b does not exist, but a may be back
        {(MX, "x"): [Mx(10, "a"), Mx(20, "b")], (A, "b"): SERVFAIL},
        {(MX, "x"): [Mx(10, "a"), Mx(10, "b")], (A, "b"): SERVFAIL},
        {(MX, "x"): [Mx(10, "a"), Mx(20, "me.example")], (A, "a"): SERVFAIL},  # only we are left, for now
    ],
)
def test_trouble_defers(zone: Zone) -> None:
    result = problem("x", zone)
    assert (result.action, str(result.status)) == (Action.DELAYED, "4.4.3")
    assert "SERVFAIL" in result.diagnostic


def test_trouble_with_one_mx_leaves_the_others() -> None:
    zone = {(MX, "x"): [Mx(10, "a"), Mx(20, "b")], (A, "a"): SERVFAIL, (A, "b"): ["192.0.2.2"]}
    assert hosts("x", zone) == ["b[192.0.2.2]:25"]


@honours("smtp_defer_if_no_mx_address_found")
def test_without_any_address_mail_may_wait() -> None:
    result = problem("x", {(MX, "x"): [Mx(10, "a")]}, smtp_defer_if_no_mx_address_found="yes")
    assert (result.action, str(result.status)) == (Action.DELAYED, "4.4.4")


@pytest.mark.parametrize("exchange", ["192.0.2.1", "2001:db8::1", "a b", "<script>", "x" * 64, "a\x1b[2J", "-", "a..b"])
def test_an_mx_that_is_no_host_name_is_skipped(exchange: str) -> None:
    records = [Mx(10, exchange), Mx(20, "b")]
    assert hosts("x", {(MX, "x"): records, (A, "b"): ["192.0.2.2"]}) == ["b[192.0.2.2]:25"]
    result = problem("x", {(MX, "x"): records[:1]})
    assert str(result.status) == "5.4.4"
    assert result.text.endswith("type=MX: Malformed or unexpected host name")
    assert result.text.isprintable()


@pytest.mark.parametrize("own", ["me.example", "also-me"])
def test_hosts_of_our_preference_and_worse_are_left_out(own: str) -> None:
    zone = {
        (MX, "x"): [Mx(10, "a"), Mx(20, own), Mx(20, "b"), Mx(30, "c")],
        (A, "a"): ["192.0.2.1"],
        (A, "b"): ["192.0.2.2"],
        (A, "c"): ["192.0.2.3"],
        (A, "also-me"): ["192.0.2.99"],
        (A, "me.example"): ["203.0.113.1"],
    }
    assert hosts("x", zone) == ["a[192.0.2.1]:25"]
    assert isinstance(find("x", zone), BetterHosts)  # no fallback relay may follow


@pytest.mark.parametrize(
    ("next_hop", "zone"),
    [
        ("x", {(MX, "x"): [Mx(10, "me.example"), Mx(20, "b")], (A, "b"): ["192.0.2.2"]}),
        ("x", {(A, "x"): ["192.0.2.99"]}),
        ("[x]", {(A, "x"): ["192.0.2.99"]}),
        ("[192.0.2.99]", {}),
        ("[127.0.0.1]:25", {}),
    ],
)
def test_mail_that_would_come_back_to_us_fails(next_hop: str, zone: Zone) -> None:
    result = problem(next_hop, zone)
    assert (result.action, str(result.status)) == (Action.FAILED, "5.4.6")
    assert result.text == f"mail for {next_hop} loops back to myself"


def test_another_port_of_this_host_is_another_server() -> None:
    assert hosts("[127.0.0.1]:2525", {}) == ["127.0.0.1[127.0.0.1]:2525"]
    assert hosts("[x]:2525", {(A, "x"): ["192.0.2.99"]}) == ["x[192.0.2.99]:2525"]


def test_a_host_in_brackets_has_no_mx() -> None:
    zone = {(MX, "x"): [Mx(10, "a")], (A, "x"): ["192.0.2.1"]}
    assert hosts("[x]:587", zone) == ["x[192.0.2.1]:587"]
    result = problem("[gone]", {})
    assert result.text.endswith("Name service error for name=gone type=A: Host not found")


@honours("smtp_mx_address_limit", "smtp_balance_inet_protocols")
def test_only_so_many_addresses_of_both_protocols() -> None:
    zone = {(MX, "x"): [Mx(10, "a")], (A, "a"): [f"2001:db8::{n}" for n in range(1, 9)] + ["192.0.2.1"]}
    for seed in range(10):
        found = hosts("x", zone, seed=seed, smtp_mx_address_limit="3", smtp_address_preference="ipv6")
        assert len(found) == 3
        assert found[-1] == "a[192.0.2.1]:25"
    unbalanced = hosts(
        "x", zone, smtp_mx_address_limit="3", smtp_address_preference="ipv6", smtp_balance_inet_protocols="no"
    )
    assert not any("192.0.2.1" in host for host in unbalanced)
    assert len(hosts("x", zone, smtp_mx_address_limit="0")) == 9


def test_a_thousand_mx_cost_no_thousand_look_ups() -> None:
    zone = {(MX, "x"): [Mx(n % 7, f"h{n}") for n in range(1000)]}
    resolver = FakeResolver(zone)
    router = MxRouter(resolver, Parameters({"smtp_mx_record_limit": "20"}), rng=random.Random(1))
    assert isinstance(asyncio.run(router.hosts_for("x")), DeliveryResult)
    assert len(resolver.asked) == 21


def test_worse_hosts_are_not_looked_up_when_better_ones_are_enough() -> None:
    zone: dict[tuple[str, str], Any] = {(MX, "x"): [Mx(10, "a"), Mx(20, "b")], (A, "a"): ["192.0.2.1"]}
    resolver = FakeResolver(zone)
    router = MxRouter(resolver, Parameters({"smtp_mx_address_limit": "1"}), rng=random.Random(1))
    asyncio.run(router.hosts_for("x"))
    assert resolver.asked == [(MX, "x"), (A, "a")]


def test_the_same_host_twice_is_tried_once() -> None:
    zone = {(MX, "x"): [Mx(10, "a"), Mx(10, "a")], (A, "a"): ["192.0.2.1", "192.0.2.1"]}
    assert hosts("x", zone) == ["a[192.0.2.1]:25"]


def test_a_protocol_that_is_not_in_use() -> None:
    assert str(problem("[2001:db8::1]", {}, inet_protocols="ipv4").status) == "5.4.4"


@honours("ignore_mx_lookup_error")
def test_the_domain_itself_may_stand_in_for_mx_records_that_cannot_be_had() -> None:
    zone = {(MX, "x"): SERVFAIL, (A, "x"): ["192.0.2.1"]}
    assert problem("x", zone).status.klass == 4
    assert hosts("x", zone, ignore_mx_lookup_error="yes") == ["x[192.0.2.1]:25"]


@honours("smtp_dns_support_level", "disable_dns_lookups", "lmtp_dns_support_level")
def test_without_dns_nobody_is_asked_for_mx_records() -> None:
    zone = {(MX, "x"): [Mx(10, "a")], (A, "a"): ["192.0.2.1"], (A, "x"): ["192.0.2.2"]}
    assert hosts("x", zone) == ["a[192.0.2.1]:25"]
    assert hosts("x", zone, smtp_dns_support_level="disabled") == ["x[192.0.2.2]:25"]
    assert hosts("x", zone, disable_dns_lookups="yes") == ["x[192.0.2.2]:25"]
    assert hosts("x", zone, disable_dns_lookups="yes", smtp_dns_support_level="enabled") == ["a[192.0.2.1]:25"]
    assert uses_dns(Parameters(), "lmtp")
    assert not uses_dns(Parameters({"lmtp_dns_support_level": "disabled"}), "lmtp")


@honours(
    "smtp_randomize_addresses",
    "lmtp_randomize_addresses",
    "lmtp_address_preference",
    "lmtp_balance_inet_protocols",
    "lmtp_defer_if_no_mx_address_found",
)
@pytest.mark.parametrize("prefix", ["smtp", "lmtp"])
def test_smtp_and_lmtp_each_have_their_own_rules(prefix: str) -> None:
    settings = {
        f"{prefix}_randomize_addresses": "no",
        f"{prefix}_address_preference": "ipv6",
        f"{prefix}_balance_inet_protocols": "no",
        f"{prefix}_defer_if_no_mx_address_found": "yes",
    }
    rules, plain = host_rules(Parameters(settings), prefix), host_rules(Parameters(), prefix)
    assert (rules.randomize, rules.preference, rules.balance, rules.defer_without_address) == (
        False, "ipv6", False, True,
    )  # fmt: skip
    assert (plain.randomize, plain.preference, plain.balance, plain.defer_without_address) == (
        True, "any", True, False,
    )  # fmt: skip
    assert plain.use_mx is (prefix == "smtp")


def test_the_order_of_dns_can_be_kept() -> None:
    names = [f"h{n}" for n in range(6)]
    zone: dict[tuple[str, str], Any] = {(MX, "x"): [Mx(10, name) for name in names]}
    zone |= {(A, name): ["192.0.2.9", "192.0.2.7"] for name in names}
    for seed in range(3):
        found = hosts("x", zone, seed=seed, smtp_randomize_addresses="no", smtp_mx_address_limit="0")
        assert found == [f"{name}[192.0.2.{last}]:25" for name in names for last in (9, 7)]


@pytest.mark.parametrize("next_hop", ["a..b", "192.0.2.1", "[x", "x\x1b[2J.example", "\u202e.example" * 50])
def test_what_is_no_domain_fails_in_printable_words(next_hop: str) -> None:
    result = problem(next_hop, {})
    assert str(result.status) == "5.1.2"
    assert result.text.isprintable()
    assert len(result.text) < 200


SRV_ZONE: Zone = {
    ("SRV", "_submission._tcp.x"): [Srv(20, 0, 465, "b"), Srv(10, 5, 587, "a"), Srv(30, 0, 25, "me.example")],
    (A, "a"): ["192.0.2.1"],
    (A, "b"): ["192.0.2.2"],
    (A, "me.example"): ["192.0.2.99"],
    (MX, "x"): [Mx(10, "m")],
    (A, "m"): ["192.0.2.3"],
}
SRV = "_submission._tcp.x"
USE = {"use_srv_lookup": "submission"}
FALL_BACK = {**USE, "allow_srv_lookup_fallback": "yes"}
IGNORE = {**USE, "ignore_srv_lookup_error": "yes"}


@honours("use_srv_lookup", "allow_srv_lookup_fallback", "ignore_srv_lookup_error")
@pytest.mark.parametrize(
    ("next_hop", "answer", "settings", "expected"),
    [
        ("x:submission", "", {}, ["m[192.0.2.3]:587"]),
        ("x:submission", "", USE, ["a[192.0.2.1]:587", "b[192.0.2.2]:465"]),
        ("x", "", USE, ["m[192.0.2.3]:25"]),
        ("x", "", {**USE, "smtp_tcp_port": "submission"}, ["a[192.0.2.1]:587", "b[192.0.2.2]:465"]),
        ("x:587", "", USE, ["m[192.0.2.3]:587"]),
        ("[m]:submission", "", USE, ["m[192.0.2.3]:587"]),
        ("x:submission", Found.NODATA, USE, "5.4.4"),
        ("x:submission", Found.NXDOMAIN, USE, "5.4.4"),
        ("x:submission", [Srv(0, 0, 0, "")], FALL_BACK, "5.4.4"),
        ("x:submission", Found.NODATA, FALL_BACK, ["m[192.0.2.3]:587"]),
        ("x:submission", SERVFAIL, FALL_BACK, "4.4.3"),
        ("x:submission", SERVFAIL, IGNORE, ["m[192.0.2.3]:587"]),
        ("x:submission", [Srv(0, 0, 25, "me.example")], USE, "5.4.6"),
        ("x:submission", [Srv(0, 0, 25, "gone")], USE, "5.4.4"),
    ],
)  # fmt: skip
def test_srv_records_name_the_servers_of_a_service(
    next_hop: str, answer: object, settings: dict[str, str], expected: list[str] | str
) -> None:
    zone = {**SRV_ZONE, **({("SRV", SRV): answer} if answer else {})}
    found = find(next_hop, zone, seed=1, port=25, **settings)
    shown = str(found.status) if isinstance(found, DeliveryResult) else [str(host) for host in found]
    assert shown == expected


def test_srv_records_of_equal_priority_share_by_weight() -> None:
    """RFC 2782, "Weight"."""
    records = [Srv(10, 0, 1, "none"), Srv(10, 1, 1, "one"), Srv(10, 3, 1, "three"), Srv(5, 0, 1, "first")]
    rng = random.Random(7)
    orders = [[record.target for record in in_order(records, rng)] for _ in range(2000)]
    assert {order[0] for order in orders} == {"first"}
    second = [order[1] for order in orders]
    assert 2 < second.count("three") / second.count("one") < 4.5
    assert 0 < second.count("none") < second.count("three")
    assert all(sorted(order) == ["first", "none", "one", "three"] for order in orders)


def test_what_dnssec_proved_goes_with_the_hosts() -> None:
    """RFC 7672 §2.2."""
    zone: dict[tuple[str, str], Any] = {
        (MX, "x"): Answer(Found.RECORDS, (Mx(10, "a"), Mx(20, "b")), authentic=True),
        (A, "a"): Answer(Found.RECORDS, ("192.0.2.1",), authentic=True, canonical="c"),
        (A, "b"): ["192.0.2.2"],
        (MX, "y"): [Mx(10, "a")],
        (MX, "a"): Found.NODATA,
    }
    a, b = Host("a", "192.0.2.1", 25, authentic=True, canonical="c"), Host("b", "192.0.2.2", 25)
    assert found("x", zone) == [a, b]
    assert found("y", zone) == [structs.replace(a, insecure_mx=True)]
    assert found("[a]", zone) == found("a", zone) == [a]

"""The name of a client: verified, and verified again when the answers that it stands on are no longer good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.dns.cache import CachingResolver
from ekiden.dns.hosts import HostsResolver
from ekiden.dns.resolver import Answer, DnsTrouble, Found
from ekiden.receive import client_name
from ekiden.receive.client_name import ClientNames
from support.fake_resolver import FakeResolver, MovedClock

ADDRESS, NAME = "192.0.2.7", "mail.friend.test"


class Lookups:
    """As in the server: a hosts file, then a cache, then DNS."""

    def __init__(
        self, zone: dict[tuple[str, str], object], hosts: dict[str, str] | None = None, **settings: str
    ) -> None:
        self.inner, self.clock = FakeResolver(zone), MovedClock()
        self.cache = CachingResolver(self.inner, self.clock, Parameters(settings))
        resolver = HostsResolver(self.cache, self.clock, Parameters(settings))
        self.names = ClientNames(resolver, hosts or {}, self.cache)

    def look_up(self, address: str = ADDRESS) -> str | None:
        return asyncio.run(self.names.look_up(address))


def zone(ptr_ttl_s: float = 300.0, address_ttl_s: float = 300.0) -> dict[tuple[str, str], object]:
    return {
        ("PTR", ADDRESS): Answer(Found.RECORDS, (NAME,), ttl_s=ptr_ttl_s),
        ("A", NAME): Answer(Found.RECORDS, (ADDRESS,), ttl_s=address_ttl_s),
    }


@pytest.mark.parametrize(("ptr_ttl_s", "address_ttl_s"), [(60.0, 300.0), (300.0, 60.0)])
def test_a_verified_name_is_known_as_long_as_both_answers_last(ptr_ttl_s: float, address_ttl_s: float) -> None:
    lookups = Lookups(zone(ptr_ttl_s, address_ttl_s))
    assert lookups.names.known(ADDRESS) is None
    assert lookups.look_up() == NAME
    lookups.clock.now += 59.9
    assert lookups.names.known(ADDRESS) == NAME
    assert lookups.names.known("192.0.2.8") is None
    lookups.clock.now += 0.2
    assert lookups.names.known(ADDRESS) is None


def test_what_is_left_of_the_time_counts_and_not_the_whole_of_it() -> None:
    lookups = Lookups(zone())
    lookups.look_up()
    lookups.clock.now += 299.0
    assert lookups.look_up() == NAME  # from the cache
    lookups.clock.now += 1.1
    assert lookups.names.known(ADDRESS) is None


@pytest.mark.parametrize(
    "answers",
    [
        {("PTR", ADDRESS): [NAME]},
        {("PTR", ADDRESS): [NAME], ("A", NAME): ["192.0.2.99"]},
        {("PTR", ADDRESS): ["<b>.test"], ("A", "<b>.test"): [ADDRESS]},
        {},
    ],
)
def test_a_client_whose_name_cannot_be_verified_has_none(answers: dict[tuple[str, str], object]) -> None:
    lookups = Lookups(answers)
    assert lookups.look_up() == "unknown"
    assert lookups.names.known(ADDRESS) == "unknown"
    lookups.inner.zone = dict(zone())
    lookups.cache.clear()
    assert lookups.names.known(ADDRESS) is None
    assert lookups.look_up() == NAME


def test_trouble_is_not_remembered() -> None:
    lookups = Lookups({("PTR", ADDRESS): [NAME], ("A", NAME): DnsTrouble("SERVFAIL")})
    assert lookups.look_up() is None
    assert lookups.names.known(ADDRESS) is None


def test_what_the_hosts_file_says_of_a_name_may_change_at_any_time(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{ADDRESS} {NAME}\n")
    answers: dict[tuple[str, str], object] = {("PTR", ADDRESS): [NAME]}
    lookups = Lookups(answers, smtp_host_lookup="dns, native", native_hosts_file=str(hosts))
    assert lookups.look_up() == NAME
    assert lookups.names.known(ADDRESS) is None


def test_no_more_clients_than_the_limit_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_name, "_REMEMBERED", 2)
    answers: dict[tuple[str, str], object] = {}
    for number in range(3):
        answers |= {("PTR", f"192.0.2.{number}"): [f"n{number}"], ("A", f"n{number}"): [f"192.0.2.{number}"]}
    lookups = Lookups(answers)
    for number in range(3):
        assert lookups.look_up(f"192.0.2.{number}") == f"n{number}"
    assert [lookups.names.known(f"192.0.2.{number}") for number in range(3)] == [None, None, "n2"]


def test_the_list_of_hosts_comes_before_dns() -> None:
    assert Lookups(zone(), {ADDRESS: "from.hosts"}).names.known(ADDRESS) == "from.hosts"


def test_no_client_has_a_name_where_none_is_looked_up() -> None:
    assert ClientNames(None, {ADDRESS: "from.hosts"}).known(ADDRESS) == "unknown"

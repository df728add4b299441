"""What SPF found of a client is remembered for it alone, and as long as DNS says the same."""

from __future__ import annotations

import asyncio

import pytest
import yaml
from msgspec.structs import replace

from ekiden.auth.spf import remembered
from ekiden.auth.spf.lookups import SpfLimits
from ekiden.auth.spf.record import CACHED_RECORD_BYTES
from ekiden.auth.spf.remembered import SpfChecks, SpfFindings
from ekiden.auth.verdict import Result
from ekiden.config.snapshot import Parameters
from ekiden.dns.cache import CachingResolver
from ekiden.dns.resolver import Resolver
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Client
from support.fake_resolver import SERVFAIL, FakeResolver, MovedClock, Zone
from support.requirements import require_conformance
from support.spf_zone import SpfZone

GOOD = b"v=spf1 ip4:192.0.2.1 -all"
ZONE: dict[tuple[str, str], object] = {("TXT", "a.test"): [GOOD], ("TXT", "h.test"): [GOOD]}
CLIENT = Client(address="192.0.2.1", helo="h.test")
ANNA = Address("anna", "a.test")


class Service:
    def __init__(self, zone: Zone = ZONE, *, explains: bool = True) -> None:
        self.inner, self.clock = FakeResolver(zone, ttl_s=60), MovedClock()
        self.resolver = CachingResolver(self.inner, self.clock, Parameters({}))
        self.explains = explains
        self.checks = self.anew()

    def anew(self, *, cached: bool = True) -> SpfChecks:
        return SpfChecks(
            self.resolver if cached else self.inner,
            receiver="mx.test",
            limits=SpfLimits(explains=self.explains),
            checks_helo=True,
            writes_field=True,
            time=self.clock.time,
        )

    def check(self, client: Client = CLIENT, sender: Address = ANNA) -> SpfFindings:
        return asyncio.run(self.checks.check(client, sender))


def test_what_was_found_is_known_until_its_answer_dies() -> None:
    service = Service()
    assert service.checks.known(CLIENT, ANNA) is None
    found = service.check()
    assert (found.mail_from.result, found.helo and found.helo.result) == (Result.PASS, Result.PASS)
    assert b'envelope-from="anna@a.test"' in found.field
    assert service.checks.known(CLIENT, ANNA) is found
    service.inner.zone["TXT", "a.test"] = [b"v=spf1 -all"]
    service.clock.now += 59.9
    assert service.checks.known(CLIENT, ANNA) is found
    service.clock.now += 0.2
    assert service.checks.known(CLIENT, ANNA) is None
    assert service.check().mail_from.result is Result.FAIL


@pytest.mark.parametrize(
    ("client", "sender"),
    [
        (replace(CLIENT, address="192.0.2.2"), ANNA),
        (replace(CLIENT, helo="i.test"), ANNA),
        (replace(CLIENT, helo=""), ANNA),
        (CLIENT, Address("anna", "b.test")),
        (CLIENT, Address("anna", "")),
        (CLIENT, NULL_SENDER),
    ],
)
def test_it_is_known_of_nobody_else(client: Client, sender: Address) -> None:
    service = Service()
    service.check()
    assert service.checks.known(client, sender) is None
    service.check(client, sender)
    assert service.checks.known(CLIENT, ANNA) is not None


def test_mail_of_nobody_and_of_a_name_of_this_host_are_kept_apart() -> None:
    service = Service()
    for one, other in ((NULL_SENDER, Address("postmaster")), (Address("postmaster"), NULL_SENDER)):
        found = service.check(sender=one)
        assert service.checks.known(CLIENT, one) is found
        assert service.checks.known(CLIENT, other) is None


@pytest.mark.parametrize("local", ["berta", "", "a b", 'x"@y', "j\u00fcrgen", "anna+" + "v" * 300])
def test_another_mailbox_of_the_domain_is_told_what_a_check_would_find(local: str) -> None:
    service = Service()
    service.check()
    sender = Address(local, "a.test")
    known = service.checks.known(CLIENT, sender)
    assert known is not None
    assert known.mail_from.sender != "anna@a.test"
    assert known == asyncio.run(service.anew(cached=False).check(CLIENT, sender))


@pytest.mark.parametrize("macro", ["%{l}", "%{s}", "%{L}", "%{S}"])
def test_what_a_record_makes_of_the_local_part_is_not_remembered(macro: str) -> None:
    service = Service({**ZONE, ("TXT", "a.test"): [f"v=spf1 exists:{macro}.x.test -all".encode()]})
    assert service.check().mail_from.result is Result.FAIL
    assert service.checks.known(CLIENT, ANNA) is None
    service.inner.zone["A", "berta.x.test"] = ["127.0.0.1"]
    service.inner.zone["A", "berta@a.test.x.test"] = ["127.0.0.1"]
    service.inner.zone["A", "berta%40a.test.x.test"] = ["127.0.0.1"]
    assert service.check(sender=Address("berta", "a.test")).mail_from.result is Result.PASS


@pytest.mark.parametrize("macro", ["%{i}", "%{h}", "%{d}", "%{o}", "%{v}", "%{p}"])
def test_what_a_record_makes_of_client_and_domain_is(macro: str) -> None:
    service = Service({**ZONE, ("TXT", "a.test"): [f"v=spf1 exists:{macro}.x.test -all".encode()]})
    found = service.check()
    assert service.checks.known(CLIENT, ANNA) is found


def test_an_explanation_that_tells_the_time_is_not_remembered() -> None:
    zone = {**ZONE, ("TXT", "a.test"): [b"v=spf1 -all exp=e.test"]}
    for text, is_kept in ((b"no", True), (b"no, %{i}", True), (b"no, %{t}", False), (b"no, %{l}", False)):
        service = Service({**zone, ("TXT", "e.test"): [text]})
        assert service.check().mail_from.explanation.startswith("no")
        assert (service.checks.known(CLIENT, ANNA) is not None) is is_kept, text
        service = Service({**zone, ("TXT", "e.test"): [text]}, explains=False)
        service.check()
        assert service.checks.known(CLIENT, ANNA) is not None


@pytest.mark.parametrize(
    "zone",
    [
        {("TXT", "a.test"): SERVFAIL},
        {("TXT", "h.test"): SERVFAIL},
        {("TXT", "a.test"): [b"v=spf1 a:t.test -all"], ("A", "t.test"): SERVFAIL},
        # What the check gets over is trouble too: an explanation, and names of the client.
        {("TXT", "a.test"): [b"v=spf1 -all exp=t.test"], ("TXT", "t.test"): SERVFAIL},
        {("TXT", "a.test"): [b"v=spf1 ptr ?all"], ("PTR", "192.0.2.1"): SERVFAIL},
    ],
)
def test_trouble_is_for_the_moment(zone: Zone) -> None:
    service = Service({**ZONE, **zone})
    service.check()
    assert service.checks.known(CLIENT, ANNA) is None


def test_an_address_that_a_record_leads_to_ends_it_too() -> None:
    service = Service({**ZONE, ("TXT", "a.test"): [b"v=spf1 a:m.test -all"], ("A", "m.test"): ["192.0.2.1"]})
    service.inner.ttl_s = 10
    asyncio.run(service.resolver.addresses("m.test"))
    service.inner.ttl_s = 60
    assert service.check().mail_from.result is Result.PASS
    service.inner.zone["A", "m.test"] = ["192.0.2.9"]
    service.clock.now += 9.9
    assert service.checks.known(CLIENT, ANNA) is not None
    service.clock.now += 0.2
    assert service.checks.known(CLIENT, ANNA) is None
    assert service.check().mail_from.result is Result.FAIL


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED", 10)
    service = Service()
    for number in range(25):
        service.check(replace(CLIENT, helo=f"h{number}.test"))
    known = [service.checks.known(replace(CLIENT, helo=f"h{number}.test"), ANNA) for number in range(25)]
    assert 0 < len([found for found in known if found is not None]) <= 10


def test_a_huge_record_is_not_kept() -> None:
    for octets, is_kept in ((CACHED_RECORD_BYTES, True), (CACHED_RECORD_BYTES + 1, False)):
        for name in ("a.test", "h.test"):
            service = Service({**ZONE, ("TXT", name): [GOOD.ljust(octets)]})
            assert service.check().mail_from.result is Result.PASS
            assert (service.checks.known(CLIENT, ANNA) is not None) is is_kept


@pytest.mark.parametrize("name", ["rfc7208-tests.part.yml", "rfc4408-tests.part.yml"])
def test_memory_changes_nothing_in_the_suites_of_others(name: str) -> None:
    """Each of a suite's clients with each of its senders: what is known is what a check finds that knows nothing."""

    async def run(zone: SpfZone, clients: list[Client], senders: list[Address]) -> int:
        clock, hits = MovedClock(), 0

        def checks(resolver: Resolver) -> SpfChecks:
            return SpfChecks(
                resolver,
                receiver="mx.test",
                limits=SpfLimits(),
                checks_helo=True,
                writes_field=True,
                time=clock.time,
            )

        remembering = checks(CachingResolver(zone, clock, Parameters({})))
        for client in clients:
            for sender in senders:
                known = remembering.known(client, sender)
                hits += known is not None
                anew = await checks(zone).check(client, sender)
                assert (known or await remembering.check(client, sender)) == anew, (client, sender)
        return hits

    hits = 0
    for scenario in yaml.safe_load_all(require_conformance("spf", name).read_text("utf-8")):
        tests = scenario["tests"].values()
        clients = dict.fromkeys((test["host"], test["helo"]) for test in tests)
        senders = dict.fromkeys(Address(*(test["mailfrom"] or "").rpartition("@")[::2]) for test in tests)
        others = [Address("other+1", sender.domain) for sender in senders if sender.domain]
        hits += asyncio.run(
            run(
                SpfZone(scenario["zonedata"]),
                [Client(address=address, helo=helo) for address, helo in clients],
                [*senders, *others],
            )
        )
    assert hits > 10

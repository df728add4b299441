"""The truth tables of DANE, MTA-STS and REQUIRETLS, without a network: which policy a server gets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ekiden.config.snapshot import Parameters
from ekiden.deliver.tls_policies import DomainPolicies, dane_rules
from ekiden.dns.resolver import Answer, Found, Tlsa
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.protocol.http import HttpResponse
from ekiden.tls.dane_records import ServerRecords
from ekiden.tls.https import HttpsTrouble
from ekiden.tls.mta_sts import Mode, Policy
from ekiden.tls.policy import LEVELS, Level, NoDelivery, Problem, TlsOutcome, TlsPolicy
from ekiden.tls.sts_cache import StsCache
from ekiden.tls.sts_discovery import StsDiscovery
from support.fake_clock import FakeClock
from support.fake_resolver import SERVFAIL, FakeResolver
from support.honours import honours

GOOD = Tlsa(3, 1, 1, b"\xaa" * 32)
STRONG = Tlsa(3, 1, 2, b"\xaa" * 64)
UNUSABLE = Tlsa(1, 1, 1, b"\xaa" * 32)
PROVEN = Host("mx.x.test", "192.0.2.1", 25, authentic=True)
PLAIN = Host("mx.x.test", "192.0.2.1", 25, insecure_mx=True)
_COUNT = itertools.count()
TLSA, NAME = "TLSA", "_25._tcp.mx.x.test"
RECORD = {("TXT", "_mta-sts.x.test"): [b"v=STSv1; id=1"]}


def secure(*records: Tlsa) -> Answer[Tlsa]:
    return Answer(Found.RECORDS, records, authentic=True, ttl_s=60)


class FakeConfigured:
    """One level for all, and a table."""

    def __init__(self, level: str, table: Mapping[str, str]) -> None:
        self.default = self.base(LEVELS[level])
        self.table = table

    def base(self, level: Level) -> TlsPolicy:
        return TlsPolicy(level, ciphers="high" if level is Level.SECURE else "medium")

    def constant_for(self, next_hop: str) -> TlsPolicy | None:
        return self.default if not self.table and self.default.level not in (Level.DANE, Level.DANE_ONLY) else None

    async def policy_for(
        self, next_hop: str, host: Host, *, require_tls: bool = False, tls_optional: bool = False
    ) -> TlsPolicy | NoDelivery:
        word = self.table.get(next_hop)
        policy = self.default if word is None else self.base(LEVELS[word])
        if require_tls and not policy.level.authenticates:
            return replace(self.base(Level.VERIFY), public_authorities=True)
        return policy

    def tell(self, next_hop: str, host: Host, policy: TlsPolicy, outcome: TlsOutcome) -> None: ...


class Told:
    """Counts; keeps what it was told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, object, Problem | None]] = []

    def tlsa(self, domain: str, host: Host, records: ServerRecords, outcome: TlsOutcome) -> None:
        self.all.append(("tlsa", domain, records.records, outcome.problem))

    def sts(self, domain: str, host: Host, policy: Policy | None, outcome: TlsOutcome) -> None:
        self.all.append(("sts", domain, policy, outcome.problem))

    def none(self, domain: str, host: Host, outcome: TlsOutcome) -> None:
        self.all.append(("none", domain, None, outcome.problem))


class World:
    def __init__(
        self,
        directory: Path,
        level: str = "may",
        zone: Mapping[tuple[str, str], object] | None = None,
        *,
        sts: Policy | HttpsTrouble | None = None,
        table: Mapping[str, str] | None = None,
        only_tests: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        parameters = Parameters({"smtp_dns_support_level": "dnssec", **(settings or {})})
        resolver = FakeResolver({**(RECORD if sts is not None else {}), **(zone or {})})
        self.told = Told()
        self.resolver = resolver
        cache = StsCache(directory / f"sts-{next(_COUNT)}", limit=10, warn=pytest.fail)

        async def fetch(host: str, path: str) -> HttpResponse:
            if isinstance(sts, HttpsTrouble):
                raise sts
            assert sts is not None
            return HttpResponse(200, {"content-type": "text/plain"}, "\n".join(sts.lines()).encode())

        self.policies = DomainPolicies(
            FakeConfigured(level, table or {}),
            dane_rules(parameters, "smtp"),
            resolver,
            sts=StsDiscovery(parameters, resolver, cache, fetch, FakeClock()),
            only_tests=only_tests,
            counts=self.told,
        )

    def decide(self, host: Host = PROVEN, next_hop: str = "x.test", **asked: bool) -> TlsPolicy | NoDelivery:
        return asyncio.run(self.policies.policy_for(next_hop, host, **asked))


def short(decided: TlsPolicy | NoDelivery) -> str:
    """``dane``, ``dane encrypt``, ``sts``, ``sts testing``, ``may``, ``4.7.5`` ..."""
    if isinstance(decided, NoDelivery):
        return str(decided.status)
    if decided.tlsa:
        assert decided.level in (Level.DANE, Level.DANE_ONLY)
        return decided.source
    if decided.source == "sts":
        assert decided.level is Level.SECURE
        assert decided.match == ("hostname",)
        assert decided.public_authorities
        return "sts testing" if decided.testing else "sts"
    return decided.level.word if decided.source == "config" else f"{decided.source} {decided.level.word}"


# -- DANE (RFC 7672 §2.2) --

NODATA: Answer[Tlsa] = Answer(Found.NODATA, authentic=True)
INSECURE = Answer(Found.RECORDS, (GOOD,), authentic=False, ttl_s=60)


@pytest.mark.parametrize(
    ("answer", "dane", "only"),
    [
        (secure(GOOD), "dane", "dane"),
        (secure(UNUSABLE, GOOD), "dane", "dane"),
        (secure(UNUSABLE), "dane encrypt", "4.7.5"),
        (secure(Tlsa(3, 1, 1, b"\xaa")), "dane encrypt", "4.7.5"),
        (NODATA, "may", "4.7.5"),
        (None, "may", "4.7.5"),
        (INSECURE, "may", "4.7.5"),
        (SERVFAIL, "4.7.5", "4.7.5"),  # bogus, or nobody answers: no way around
    ],
)
def test_what_tlsa_records_make_of_a_policy(tmp_path: Path, answer: object, dane: str, only: str) -> None:
    zone = {} if answer is None else {(TLSA, NAME): answer}
    for level, expected in (("dane", dane), ("dane-only", only)):
        assert short(World(tmp_path, level, zone).decide()) == expected, level


def test_records_are_only_asked_for_where_they_can_count(tmp_path: Path) -> None:
    world = World(tmp_path, "dane", {(TLSA, NAME): secure(GOOD)})
    assert short(world.decide(replace(PROVEN, authentic=False))) == "may"
    assert all(kind != TLSA for kind, _ in world.resolver.asked)
    for level in ("none", "may", "encrypt", "fingerprint", "verify", "secure"):
        world = World(tmp_path, level, {(TLSA, NAME): secure(GOOD)})
        assert short(world.decide()) == level
        assert all(kind != TLSA for kind, _ in world.resolver.asked)


@honours("smtp_tls_dane_insecure_mx_policy")
@pytest.mark.parametrize(("word", "expected"), [("dane", "dane"), ("encrypt", "dane encrypt"), ("may", "may")])
def test_hosts_that_unproven_mx_records_name(tmp_path: Path, word: str, expected: str) -> None:
    """RFC 7672 §2.2.1."""
    host, zone = replace(PROVEN, insecure_mx=True), {(TLSA, NAME): secure(GOOD)}
    settings = {"smtp_tls_dane_insecure_mx_policy": word}
    assert short(World(tmp_path, "dane", zone, settings=settings).decide(host)) == expected
    assert short(World(tmp_path, "dane-only", zone, settings=settings).decide(host)) == "4.7.5"
    none = World(tmp_path, "dane", {}, settings=settings)
    assert short(none.decide(host)) == "may"


def test_the_default_for_unproven_mx_records_follows_the_level() -> None:
    assert Parameters({"smtp_tls_security_level": "dane"}).smtp_tls_dane_insecure_mx_policy == "dane"
    assert Parameters({"smtp_tls_security_level": "may"}).smtp_tls_dane_insecure_mx_policy == "may"


def test_without_dnssec_dane_is_encryption_at_least(tmp_path: Path) -> None:
    zone = {(TLSA, NAME): secure(GOOD)}
    assert short(World(tmp_path, "dane", zone, settings={"smtp_dns_support_level": "enabled"}).decide()) == "encrypt"
    assert short(World(tmp_path, "dane-only", zone, settings={"smtp_dns_support_level": "enabled"}).decide()) == "4.7.5"


@pytest.mark.parametrize(
    ("host", "zone", "base"),
    [
        # RFC 7672 §2.2.2: what an alias leads to, then the alias itself.
        ({"canonical": "real.test"}, {(TLSA, "_25._tcp.real.test"): secure(GOOD)}, "real.test"),
        ({"canonical": "real.test"}, {(TLSA, NAME): secure(GOOD)}, "mx.x.test"),
        (
            {"canonical": "real.test"},
            {(TLSA, NAME): secure(UNUSABLE), (TLSA, "_25._tcp.real.test"): secure(GOOD)},
            "real.test",
        ),
        # An alias that leads out of the signed zones counts when its own record is proven.
        (
            {"canonical": "real.test", "authentic": False},
            {
                (TLSA, NAME): secure(GOOD),
                (TLSA, "_25._tcp.real.test"): secure(GOOD),
                ("CNAME", "mx.x.test"): Answer(Found.RECORDS, ("real.test",), authentic=True, ttl_s=60),
            },
            "mx.x.test",
        ),
        (
            {"canonical": "real.test", "authentic": False},
            {(TLSA, NAME): secure(GOOD), ("CNAME", "mx.x.test"): ["real.test"]},
            None,
        ),
        ({"port": 2525}, {(TLSA, "_2525._tcp.mx.x.test"): secure(GOOD)}, "mx.x.test"),
    ],
)
def test_where_the_records_are(tmp_path: Path, host: dict[str, Any], zone: Any, base: str | None) -> None:
    decided = World(tmp_path, "dane", zone).decide(replace(PROVEN, **host))
    assert isinstance(decided, TlsPolicy)
    assert (decided.tlsa_base or None) == base


def test_an_alias_that_cannot_be_asked_about_is_no_way_around(tmp_path: Path) -> None:
    host = replace(PROVEN, canonical="real.test", authentic=False)
    assert short(World(tmp_path, "dane", {("CNAME", "mx.x.test"): SERVFAIL}).decide(host)) == "4.7.5"


@honours("tls_dane_digests")
def test_the_digests_in_use(tmp_path: Path) -> None:
    zone = {(TLSA, NAME): secure(GOOD, STRONG)}

    def records(**settings: str) -> tuple[Tlsa, ...]:
        decided = World(tmp_path, "dane", zone, settings=settings).decide()
        assert isinstance(decided, TlsPolicy)
        return decided.tlsa

    assert records() == (STRONG,)
    assert records(tls_dane_digests="sha256 sha512") == (GOOD,)
    assert records(tls_dane_digests="sha256") == (GOOD,)


# -- MTA-STS (RFC 8461) --

ENFORCE = Policy(Mode.ENFORCE, ("mx.x.test",), 86400)
TESTING = Policy(Mode.TESTING, ("mx.x.test",), 86400)
ELSEWHERE = Policy(Mode.ENFORCE, ("other.test",), 86400)


@pytest.mark.parametrize(
    ("sts", "level", "expected"),
    [
        (ENFORCE, "may", "sts"),
        (ENFORCE, "encrypt", "sts"),
        (ENFORCE, "dane", "sts"),  # without records
        (ENFORCE, "none", "none"),
        (ENFORCE, "verify", "verify"),
        (ENFORCE, "secure", "secure"),
        (TESTING, "may", "sts testing"),
        (TESTING, "encrypt", "encrypt"),
        (ELSEWHERE, "may", "4.7.5"),
        (Policy(Mode.TESTING, ("other.test",), 86400), "may", "may"),
        (Policy(Mode.NONE, (), 86400), "may", "may"),
        (HttpsTrouble("expired", by_certificate=True), "may", "may"),
        (HttpsTrouble("no route"), "encrypt", "encrypt"),
        (None, "may", "may"),
    ],
)
def test_what_mta_sts_makes_of_a_policy(
    tmp_path: Path, sts: Policy | HttpsTrouble | None, level: str, expected: str
) -> None:
    assert short(World(tmp_path, level, sts=sts).decide(PLAIN)) == expected


@honours("smtp_mta_sts_policy")
def test_mta_sts_may_be_tested_only(tmp_path: Path) -> None:
    assert short(World(tmp_path, sts=ENFORCE, only_tests=True).decide(PLAIN)) == "sts testing"
    assert short(World(tmp_path, sts=ELSEWHERE, only_tests=True).decide(PLAIN)) == "may"


def test_tls_is_spoken_as_at_level_secure(tmp_path: Path) -> None:
    decided = World(tmp_path, sts=ENFORCE).decide(PLAIN)
    assert isinstance(decided, TlsPolicy)
    assert (decided.ciphers, decided.server_name) == ("high", "hostname")


def test_dane_goes_before_mta_sts(tmp_path: Path) -> None:
    """RFC 8461 §2: whatever the one says, the other does not undo it."""
    for sts in (ENFORCE, TESTING, ELSEWHERE):
        assert short(World(tmp_path, "dane", {(TLSA, NAME): secure(GOOD)}, sts=sts).decide()) == "dane"
        assert short(World(tmp_path, "dane", {(TLSA, NAME): SERVFAIL}, sts=sts).decide()) == "4.7.5"
        assert short(World(tmp_path, "dane", {(TLSA, NAME): secure(UNUSABLE)}, sts=sts).decide()) == "dane encrypt"


def test_mta_sts_has_a_word_on_mx_records_that_nobody_proves(tmp_path: Path) -> None:
    host, zone = replace(PROVEN, insecure_mx=True), {(TLSA, NAME): secure(GOOD)}
    settings = {"smtp_tls_dane_insecure_mx_policy": "dane"}
    assert short(World(tmp_path, "dane", zone, sts=ENFORCE, settings=settings).decide(host)) == "dane"
    assert short(World(tmp_path, "dane", zone, sts=ELSEWHERE, settings=settings).decide(host)) == "4.7.5"


@pytest.mark.parametrize("next_hop", ["[mx.x.test]", "[192.0.2.1]:25", "x.test:2525", "unix:/run/x"])
def test_hosts_that_are_named_outright_have_no_mta_sts(tmp_path: Path, next_hop: str) -> None:
    world = World(tmp_path, sts=ELSEWHERE)
    assert short(world.decide(PLAIN, next_hop)) == "may"
    assert not world.resolver.asked


def test_a_next_hop_that_a_table_knows_has_its_policy_from_there(tmp_path: Path) -> None:
    world = World(tmp_path, sts=ELSEWHERE, table={"x.test": "encrypt", "y.test": "dane"})
    assert short(world.decide(PLAIN)) == "encrypt"
    assert not world.resolver.asked
    world = World(tmp_path, "may", {(TLSA, NAME): secure(GOOD)}, table={"x.test": "dane"})
    assert short(world.decide()) == "dane"


# -- REQUIRETLS and TLS-Required: No (RFC 8689) --


@pytest.mark.parametrize(
    ("host", "level", "zone", "sts", "expected"),
    [
        (PROVEN, "may", {}, None, "verify"),  # DNSSEC proves the name
        (PLAIN, "may", {}, None, "5.7.30"),
        (PLAIN, "none", {}, None, "5.7.30"),
        (PLAIN, "may", {}, ENFORCE, "verify"),  # MTA-STS does
        (PLAIN, "may", {}, TESTING, "verify"),
        (PLAIN, "may", {}, ELSEWHERE, "5.7.30"),
        (PROVEN, "dane", {(TLSA, NAME): secure(GOOD)}, None, "dane"),
        (PROVEN, "dane", {(TLSA, NAME): secure(UNUSABLE)}, None, "verify"),
        (PROVEN, "dane", {(TLSA, NAME): SERVFAIL}, None, "4.7.5"),
        (PLAIN, "secure", {}, None, "secure"),  # the administrator named what the certificate must be
        (PLAIN, "fingerprint", {}, None, "fingerprint"),
    ],
)
def test_requiretls(tmp_path: Path, host: Host, level: str, zone: Any, sts: Policy | None, expected: str) -> None:
    decided = World(tmp_path, level, zone, sts=sts).decide(host, require_tls=True)
    assert short(decided) == expected


def test_requiretls_by_a_host_that_is_named_outright(tmp_path: Path) -> None:
    decided = World(tmp_path).decide(replace(PLAIN, insecure_mx=False), "[mx.x.test]", require_tls=True)
    assert short(decided) == "verify"


def test_requiretls_with_unproven_mx_and_proven_records(tmp_path: Path) -> None:
    host, zone = replace(PROVEN, insecure_mx=True), {(TLSA, NAME): secure(GOOD)}
    settings = {"smtp_tls_dane_insecure_mx_policy": "dane"}
    refused = World(tmp_path, "dane", zone, settings=settings).decide(host, require_tls=True)
    assert isinstance(refused, NoDelivery)
    assert refused.status == Status(5, 7, 30)
    assert short(World(tmp_path, "dane", zone, sts=ENFORCE, settings=settings).decide(host, require_tls=True)) == "dane"


def test_tls_required_no_sets_aside_what_domains_ask_for(tmp_path: Path) -> None:
    """RFC 8689 §3; what the administrator asks for stays, and REQUIRETLS outweighs it."""
    assert short(World(tmp_path, sts=ELSEWHERE).decide(PLAIN, tls_optional=True)) == "may"
    assert short(World(tmp_path, "dane", {(TLSA, NAME): SERVFAIL}).decide(tls_optional=True)) == "may"
    for level in ("encrypt", "secure", "none"):
        assert short(World(tmp_path, level, sts=ELSEWHERE).decide(PLAIN, tls_optional=True)) == level
    assert short(World(tmp_path).decide(PLAIN, tls_optional=True, require_tls=True)) == "5.7.30"


# -- what is told for reports (RFC 8460 §4.3) --


def told(world: World, host: Host = PLAIN, outcome: TlsOutcome | None = None) -> list[Any]:
    decided = world.decide(host)
    if isinstance(decided, TlsPolicy):
        world.policies.tell("x.test", host, decided, outcome or TlsOutcome())
    return world.told.all


def test_outcomes_are_told_under_the_policy_that_held(tmp_path: Path) -> None:
    assert told(World(tmp_path)) == [("none", "x.test", None, None)]
    assert told(World(tmp_path, sts=ENFORCE)) == [("sts", "x.test", ENFORCE, None)]
    assert told(World(tmp_path, "dane", {(TLSA, NAME): secure(GOOD)}), PROVEN) == [("tlsa", "x.test", (GOOD,), None)]
    wrong = TlsOutcome(Problem.WRONG_NAME)
    assert told(World(tmp_path, sts=TESTING), outcome=wrong) == [("sts", "x.test", TESTING, Problem.WRONG_NAME)]


def test_failures_before_any_session_are_told(tmp_path: Path) -> None:
    assert told(World(tmp_path, sts=ELSEWHERE)) == [("sts", "x.test", ELSEWHERE, Problem.FAILED)]
    bogus = World(tmp_path, "dane", {(TLSA, NAME): SERVFAIL})
    assert told(bogus, PROVEN) == [("tlsa", "x.test", (), Problem.DNSSEC_INVALID)]
    required = World(tmp_path, "dane-only", {})
    assert told(required, PROVEN) == [("tlsa", "x.test", (), Problem.DANE_REQUIRED)]
    useless = World(tmp_path, "dane-only", {(TLSA, NAME): secure(UNUSABLE)})
    assert told(useless, PROVEN) == [("tlsa", "x.test", (UNUSABLE,), Problem.TLSA_INVALID)]
    broken = World(tmp_path, sts=HttpsTrouble("expired", by_certificate=True))
    assert told(broken) == [("sts", "x.test", None, Problem.STS_WEBPKI_INVALID), ("none", "x.test", None, None)]


def test_one_policy_for_all_needs_no_question(tmp_path: Path) -> None:
    for level in ("none", "fingerprint", "verify", "secure"):
        world = World(tmp_path, level)
        assert world.policies.constant_for("example.com") is world.decide(PLAIN)
    for level in ("may", "encrypt", "dane", "dane-only"):
        assert World(tmp_path, level).policies.constant_for("example.com") is None
    # A host that is named outright can have no MTA-STS policy.
    assert World(tmp_path, "may").policies.constant_for("[relay.test]:587") is not None
    assert World(tmp_path, "dane").policies.constant_for("[relay.test]:587") is None
    configured, rules = FakeConfigured("may", {}), dane_rules(Parameters(), "smtp")
    assert DomainPolicies(configured, rules, FakeResolver({})).constant_for("example.com") is configured.default

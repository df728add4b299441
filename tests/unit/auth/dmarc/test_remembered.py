"""A verdict of DMARC is remembered for one author and the same authenticated domains, as long as DNS says the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ekiden.auth.dmarc import remembered
from ekiden.auth.dmarc.author import UNREAD
from ekiden.auth.dmarc.remembered import REMEMBERED_SIGNATURES, DmarcEvaluations
from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, SpfVerdict
from ekiden.config.snapshot import Parameters
from ekiden.dns.cache import CachingResolver
from support.fake_resolver import SERVFAIL, FakeResolver, MovedClock, Zone

ZONE: dict[tuple[str, str], object] = {
    ("TXT", "_dmarc.a.test"): [b"v=DMARC1; p=reject"],
    ("TXT", "_dmarc.b.test"): [b"v=DMARC1; p=none"],
}
PASS, FAIL, TEMPERROR = Result.PASS, Result.FAIL, Result.TEMPERROR
SPF = SpfVerdict(PASS, domain="a.test")
DKIM = (DkimVerdict(PASS, domain="a.test"),)


class Service:
    def __init__(self, zone: Zone = ZONE) -> None:
        self.inner, self.clock = FakeResolver(zone, ttl_s=60), MovedClock()
        self.resolver = CachingResolver(self.inner, self.clock, Parameters({}))
        self.dmarc = DmarcEvaluations(self.resolver, "tree-walk")

    def evaluate(
        self, authors: Sequence[str] = ("a.test",), spf: SpfVerdict | None = SPF, dkim: Sequence[DkimVerdict] = DKIM
    ) -> DmarcVerdict:
        return asyncio.run(self.dmarc.evaluate(authors, spf, dkim))


def test_a_verdict_is_known_until_its_answer_dies() -> None:
    service = Service()
    assert service.dmarc.known(["a.test"], SPF, DKIM) is None
    verdict = service.evaluate()
    assert verdict.result is PASS
    service.inner.zone["TXT", "_dmarc.a.test"] = [b"v=DMARC1; p=quarantine"]
    service.clock.now += 59.9
    assert service.dmarc.known(("a.test",), SPF, DKIM) is verdict
    service.clock.now += 0.2
    assert service.dmarc.known(("a.test",), SPF, DKIM) is None
    assert service.evaluate().published is DmarcPolicy.QUARANTINE


def test_it_counts_what_passed_not_what_else_was_found() -> None:
    service = Service()
    verdict = service.evaluate(spf=None)
    for spf in (None, SpfVerdict(FAIL, domain="a.test"), SpfVerdict(PASS, "helo", "a.test")):
        for dkim in (DKIM, (*DKIM, DkimVerdict(FAIL, domain="b.test")), (DkimVerdict(Result.PERMERROR), *DKIM)):
            assert service.dmarc.known(("a.test",), spf, dkim) == verdict
            assert service.evaluate(spf=spf, dkim=dkim) == verdict


@pytest.mark.parametrize(
    ("authors", "spf", "dkim"),
    [
        (("b.test",), SPF, DKIM),
        (("a.test", "b.test"), SPF, DKIM),
        (("a.test", UNREAD), SPF, DKIM),
        ((), SPF, DKIM),
        (("a.test",), SpfVerdict(FAIL, domain="a.test"), DKIM),
        (("a.test",), None, DKIM),
        (("a.test",), SpfVerdict(PASS, domain="b.test"), DKIM),
        (("a.test",), SpfVerdict(PASS, "helo", "a.test"), DKIM),
        (("a.test",), SpfVerdict(TEMPERROR, domain="a.test"), DKIM),
        (("a.test",), SPF, ()),
        (("a.test",), SPF, (DkimVerdict(FAIL, domain="a.test"),)),
        (("a.test",), SPF, (DkimVerdict(Result.POLICY, domain="a.test"),)),
        (("a.test",), SPF, (DkimVerdict(PASS, domain="b.test"),)),
        (("a.test",), SPF, (*DKIM, DkimVerdict(PASS, domain="b.test"))),
        (("a.test",), SPF, (*DKIM, DkimVerdict(TEMPERROR, domain="b.test"))),
        (("a.test",), SPF, DKIM * (REMEMBERED_SIGNATURES + 1)),
    ],
)
def test_nothing_else_is_given_that_verdict(
    authors: Sequence[str], spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]
) -> None:
    service = Service()
    service.evaluate()
    assert service.dmarc.known(authors, spf, dkim) is None
    verdict = service.evaluate(authors, spf, dkim)
    assert service.dmarc.known(authors, spf, dkim) in (verdict, None)


def test_a_domain_that_passed_spf_is_not_one_that_passed_dkim() -> None:
    service = Service()
    by_spf, by_dkim = service.evaluate(dkim=()), service.evaluate(spf=None)
    assert (by_spf.spf_aligned, by_spf.dkim_aligned) == (True, False)
    assert (by_dkim.spf_aligned, by_dkim.dkim_aligned) == (False, True)
    assert service.dmarc.known(("a.test",), SPF, ()) is by_spf
    assert service.dmarc.known(("a.test",), None, DKIM) is by_dkim


@pytest.mark.parametrize(
    ("spf", "dkim"),
    [
        (SpfVerdict(TEMPERROR, domain="a.test"), ()),
        (None, (DkimVerdict(TEMPERROR, domain="a.test"),)),
        # DNS says nothing of whether that is of the same organization.
        (None, (DkimVerdict(PASS, domain="x.a.test"),)),
    ],
)
def test_trouble_is_for_the_moment(spf: SpfVerdict | None, dkim: Sequence[DkimVerdict]) -> None:
    service = Service({**ZONE, ("TXT", "_dmarc.x.a.test"): SERVFAIL})
    assert service.evaluate(("a.test",), spf, dkim).result is TEMPERROR
    assert service.dmarc.known(("a.test",), spf, dkim) is None
    service = Service({("TXT", "_dmarc.a.test"): SERVFAIL})
    assert service.evaluate().result is TEMPERROR
    assert service.dmarc.known(("a.test",), SPF, DKIM) is None


def test_whether_a_domain_exists_is_an_answer_that_dies_too() -> None:
    service = Service({**ZONE, ("TXT", "_dmarc.a.test"): [b"v=DMARC1; p=none; np=reject"]})
    service.inner.zone["MX", "x.a.test"] = []
    service.inner.ttl_s = 10
    asyncio.run(service.resolver.mx("x.a.test"))
    service.inner.ttl_s = 60
    assert service.evaluate(("x.a.test",), None, ()).policy is DmarcPolicy.NONE
    assert service.dmarc.known(("x.a.test",), None, ()) is not None
    del service.inner.zone["MX", "x.a.test"]
    service.clock.now += 10.1
    assert service.dmarc.known(("x.a.test",), None, ()) is None
    assert service.evaluate(("x.a.test",), None, ()).policy is DmarcPolicy.REJECT


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED", 10)
    service = Service()
    for number in range(25):
        service.evaluate((f"a{number}.test",))
    known = [service.dmarc.known((f"a{number}.test",), SPF, DKIM) for number in range(25)]
    assert 0 < len([verdict for verdict in known if verdict is not None]) <= 10

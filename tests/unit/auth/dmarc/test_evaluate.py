"""The verdict of DMARC (RFC 9989 §5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ekiden.auth.dmarc.author import UNREAD
from ekiden.auth.dmarc.discovery import Method
from ekiden.auth.dmarc.evaluate import AUTHOR_DOMAINS_LIMIT, evaluate
from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, SpfVerdict
from ekiden.dns.resolver import Found
from support.fake_resolver import SERVFAIL, FakeResolver

REJECT = (b"v=DMARC1; p=reject",)


def verdict(
    zone: dict[tuple[str, str], object],
    authors: Sequence[str] | str = "example.com",
    *,
    spf: SpfVerdict | None = None,
    dkim: Sequence[DkimVerdict] = (),
    discovery: Method = "tree-walk",
) -> DmarcVerdict:
    domains = [authors] if isinstance(authors, str) else authors
    return asyncio.run(evaluate(FakeResolver(zone), author_domains=domains, spf=spf, dkim=dkim, discovery=discovery))


def signed(domain: str, result: Result = Result.PASS) -> DkimVerdict:
    return DkimVerdict(result, domain=domain)


def test_pass_fail_none() -> None:
    zone: dict[tuple[str, str], object] = {("TXT", "_dmarc.example.com"): REJECT}
    passed = verdict(zone, dkim=[signed("other.test"), signed("mail.example.com")])
    assert (passed.result, passed.dkim_aligned, passed.spf_aligned) == (Result.PASS, True, False)
    assert (passed.from_domain, passed.policy_domain, passed.organizational_domain) == ("example.com",) * 3
    by_spf = verdict(zone, spf=SpfVerdict(Result.PASS, domain="example.com"))
    assert (by_spf.result, by_spf.dkim_aligned, by_spf.spf_aligned) == (Result.PASS, False, True)
    failed = verdict(zone, spf=SpfVerdict(Result.PASS, domain="other.test"), dkim=[signed("example.com", Result.FAIL)])
    assert (failed.result, failed.policy, failed.published) == (Result.FAIL, DmarcPolicy.REJECT, DmarcPolicy.REJECT)
    assert failed.record == "v=DMARC1; p=reject"
    assert verdict({}).result is Result.NONE
    assert verdict({}, "a.example.com").organizational_domain == "a.example.com"
    assert verdict(zone, "a.example.com").organizational_domain == "example.com"
    own = {**zone, ("TXT", "_dmarc.a.example.com"): REJECT}
    assert verdict(own, "a.example.com").organizational_domain == "example.com"
    assert verdict({**own, ("TXT", "_dmarc.com"): SERVFAIL}, "a.example.com").policy is DmarcPolicy.REJECT
    assert verdict(zone, []) == DmarcVerdict(Result.NONE, reason="no From field with a domain")


def test_a_pass_of_the_greeting_does_not_count() -> None:
    """RFC 9989 §4.4.2: MAIL FROM only; for the null sender that is postmaster of the greeting's name."""
    zone: dict[tuple[str, str], object] = {("TXT", "_dmarc.example.com"): REJECT}
    assert verdict(zone, spf=SpfVerdict(Result.PASS, "helo", "example.com")).result is Result.FAIL


@pytest.mark.parametrize("result", [each for each in Result if each is not Result.PASS])
def test_nothing_but_a_pass_counts(result: Result) -> None:
    zone: dict[tuple[str, str], object] = {("TXT", "_dmarc.example.com"): REJECT}
    found = verdict(zone, spf=SpfVerdict(result, domain="example.com"), dkim=[signed("example.com", result)])
    # RFC 9989 §5.3.6: what DNS left open is neither pass nor fail, and no policy is applied.
    assert found.result is (Result.TEMPERROR if result is Result.TEMPERROR else Result.FAIL)
    assert found.policy is (DmarcPolicy.NONE if result is Result.TEMPERROR else DmarcPolicy.REJECT)


def test_trouble_of_a_stranger_changes_nothing() -> None:
    zone: dict[tuple[str, str], object] = {
        ("TXT", "_dmarc.example.com"): REJECT,
        ("TXT", "_dmarc.evil.test"): SERVFAIL,
    }
    evil = [signed("evil.test", Result.TEMPERROR), signed("evil.test")]
    assert verdict(zone, dkim=evil, spf=SpfVerdict(Result.TEMPERROR, domain="evil.test")).result is Result.FAIL
    assert verdict(zone, dkim=[*evil, signed("example.com")]).result is Result.PASS


def test_dns_trouble_is_temperror() -> None:
    assert verdict({("TXT", "_dmarc.example.com"): SERVFAIL}, dkim=[signed("example.com")]).result is Result.TEMPERROR
    zone: dict[tuple[str, str], object] = {
        ("TXT", "_dmarc.a.example.com"): REJECT,
        ("TXT", "_dmarc.example.com"): SERVFAIL,
    }
    assert verdict(zone, "a.example.com", dkim=[signed("a.example.com")]).result is Result.PASS
    trouble = verdict(zone, "a.example.com", dkim=[signed("b.example.com")])
    assert (trouble.result, trouble.policy) == (Result.TEMPERROR, DmarcPolicy.NONE)


@pytest.mark.parametrize(
    ("record", "exists", "policy"),
    [
        (b"v=DMARC1; p=reject", True, DmarcPolicy.REJECT),
        (b"v=DMARC1; p=reject; sp=none", True, DmarcPolicy.NONE),
        (b"v=DMARC1; p=reject; sp=none", False, DmarcPolicy.NONE),
        (b"v=DMARC1; p=none; sp=quarantine; np=reject", True, DmarcPolicy.QUARANTINE),
        (b"v=DMARC1; p=none; sp=quarantine; np=reject", False, DmarcPolicy.REJECT),
        (b"v=DMARC1; p=none; np=reject", False, DmarcPolicy.REJECT),
        (b"v=DMARC1; p=none; np=reject; t=y", False, DmarcPolicy.QUARANTINE),
        (b"v=DMARC1; p=quarantine; t=y", True, DmarcPolicy.NONE),
        (b"v=DMARC1; p=none; t=y", True, DmarcPolicy.NONE),
        (b"v=DMARC1; p=rejct; rua=mailto:a@example.com", True, DmarcPolicy.NONE),
    ],
)
def test_what_is_asked_for_a_subdomain(record: bytes, exists: bool, policy: DmarcPolicy) -> None:
    zone: dict[tuple[str, str], object] = {("TXT", "_dmarc.example.com"): (record,)}
    if exists:
        zone["MX", "a.example.com"] = Found.NODATA
    found = verdict(zone, "a.example.com")
    assert (found.result, found.policy, found.policy_domain) == (Result.FAIL, policy, "example.com")


def test_whether_a_domain_exists_is_asked_only_where_it_matters() -> None:
    async def asked(record: bytes, dkim: Sequence[DkimVerdict] = ()) -> bool:
        resolver = FakeResolver({("TXT", "_dmarc.example.com"): (record,)})
        await evaluate(resolver, author_domains=["a.example.com"], spf=None, dkim=dkim)
        return ("MX", "a.example.com") in resolver.asked

    assert not asyncio.run(asked(b"v=DMARC1; p=reject; np=reject"))
    assert not asyncio.run(asked(b"v=DMARC1; p=none; np=reject", [signed("example.com")]))
    assert asyncio.run(asked(b"v=DMARC1; p=none; np=reject"))


def test_trouble_with_the_question_whether_a_domain_exists_is_temperror() -> None:
    zone: dict[tuple[str, str], object] = {
        ("TXT", "_dmarc.example.com"): (b"v=DMARC1; p=none; np=reject",),
        ("MX", "a.example.com"): SERVFAIL,
    }
    found = verdict(zone, "a.example.com")
    assert (found.result, found.policy) == (Result.TEMPERROR, DmarcPolicy.NONE)


def test_records_that_say_nothing() -> None:
    several: dict[tuple[str, str], object] = {("TXT", "_dmarc.example.com"): (*REJECT, *REJECT)}
    assert verdict(several).result is Result.NONE
    unusable = verdict({("TXT", "_dmarc.example.com"): (b"v=DMARC1; p=rejct",)})
    assert (unusable.result, unusable.policy) == (Result.PERMERROR, DmarcPolicy.NONE)


ZONE: dict[tuple[str, str], object] = {
    ("TXT", "_dmarc.reject.test"): REJECT,
    ("TXT", "_dmarc.quarantine.test"): (b"v=DMARC1; p=quarantine",),
    ("TXT", "_dmarc.none.test"): (b"v=DMARC1; p=none",),
    ("TXT", "_dmarc.trouble.test"): SERVFAIL,
    ("TXT", "_dmarc.mine.test"): REJECT,
}


@pytest.mark.parametrize(
    ("authors", "decisive", "result"),
    [
        (["mine.test", "quarantine.test", "reject.test", "trouble.test"], "reject.test", Result.FAIL),
        (["mine.test", "trouble.test", "quarantine.test"], "quarantine.test", Result.FAIL),
        (["none.test", "trouble.test", "mine.test"], "trouble.test", Result.TEMPERROR),
        (["mine.test", "none.test"], "none.test", Result.FAIL),
        (["mine.test", "unknown.test"], "unknown.test", Result.NONE),
        (["mine.test", "mine.test"], "mine.test", Result.PASS),
    ],
)
def test_of_several_authors_the_strictest_outcome_holds(authors: list[str], decisive: str, result: Result) -> None:
    for order in (authors, authors[::-1]):
        found = verdict(ZONE, order, dkim=[signed("mine.test")])
        assert (found.from_domain, found.result) == (decisive, result)


def test_authors_beyond_the_limit_are_an_error_of_the_message() -> None:
    others = [f"a{number}.test" for number in range(AUTHOR_DOMAINS_LIMIT)]
    assert verdict(ZONE, [*others, "reject.test"]).result is Result.PERMERROR
    assert verdict(ZONE, ["reject.test", *others]).policy is DmarcPolicy.REJECT
    signature = [signed("mine.test")]
    assert verdict(ZONE, ["mine.test", UNREAD], dkim=signature).result is Result.PERMERROR
    assert verdict(ZONE, ["mine.test", *others], dkim=signature).result is Result.PERMERROR
    assert verdict(ZONE, [UNREAD]).result is Result.PERMERROR


def test_the_public_suffix_method() -> None:
    """RFC 7489 §3.1.1: of one organization, whatever records are between."""
    zone: dict[tuple[str, str], object] = {("TXT", "_dmarc.example.co.uk"): REJECT}
    found = verdict(zone, "a.example.co.uk", dkim=[signed("b.example.co.uk")], discovery="public-suffix")
    assert (found.result, found.organizational_domain) == (Result.PASS, "example.co.uk")
    assert verdict(zone, "a.example.co.uk", dkim=[signed("co.uk")], discovery="public-suffix").result is Result.FAIL

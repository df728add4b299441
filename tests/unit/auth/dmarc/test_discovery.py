"""Policies and organizational domains (RFC 9989 §4.10, RFC 7489 §3.2)."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.auth.dmarc.alignment import aligned
from ekiden.auth.dmarc.discovery import Discovery, Method, walk_names
from ekiden.dns.resolver import DnsTrouble, Found
from support.fake_resolver import SERVFAIL, FakeResolver


def zone(**records: object) -> FakeResolver:
    """Names with "_" in the place of dots: their DMARC records."""
    return FakeResolver(
        {
            ("TXT", f"_dmarc.{name.replace('_', '.')}"): (value.encode(),) if isinstance(value, str) else value
            for name, value in records.items()
        }
    )


P = "v=DMARC1; p=none"


def organization(resolver: FakeResolver, domain: str, method: Method = "tree-walk") -> str:
    return asyncio.run(Discovery(resolver, method).organizational_domain(domain))


def policy_domain(resolver: FakeResolver, domain: str, method: Method = "tree-walk") -> str:
    return asyncio.run(Discovery(resolver, method).policy(domain)).domain


def test_a_walk_asks_at_most_eight_times() -> None:
    assert list(walk_names("a.mail.example.com")) == ["a.mail.example.com", "mail.example.com", "example.com", "com"]
    assert list(walk_names("a.b.c.d.e.f.g.h.i.j.mail.example.com")) == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    assert [len(list(walk_names(".".join("abcdefghijklmnopqrstuvwxyz"[:labels])))) for labels in (1, 7, 8, 9, 26)] == [
        *(1, 7, 8, 8, 8)
    ]
    resolver = zone()
    assert organization(resolver, ".".join("abcdefghijklmnop")) == ".".join("abcdefghijklmnop")
    assert len(resolver.asked) == 8


def test_the_examples_of_the_rfc() -> None:
    assert organization(zone(mail_example_com=P, example_com=P), "a.mail.example.com") == "example.com"
    assert organization(zone(mail_example_com=f"{P}; psd=n", example_com=P), "a.mail.example.com") == "mail.example.com"
    assert organization(zone(com=f"{P}; psd=y"), "a.mail.example.com") == "example.com"


@pytest.mark.parametrize(
    ("records", "domain", "organizational"),
    [
        ({}, "a.example.com", "a.example.com"),
        ({"example_com": f"{P}; psd=y"}, "example.com", "example.com"),  # where the walk starts psd=y says nothing
        ({"example_com": f"{P}; psd=y", "com": P}, "a.example.com", "a.example.com"),
        ({"example_com": (P.encode(), P.encode())}, "a.example.com", "a.example.com"),  # several are as none
        ({"example_com": P, "com": (b"v=spf1",)}, "a.example.com", "example.com"),
        ({"example_com": "v=DMARC1; bogus", "com": Found.NODATA}, "a.example.com", "example.com"),
    ],
)
def test_organizational_domains(records: dict[str, object], domain: str, organizational: str) -> None:
    assert organization(zone(**records), domain) == organizational


def test_policies_come_from_the_author_the_organization_or_the_public_suffix() -> None:
    assert policy_domain(zone(a_example_com=P, example_com=P), "a.example.com") == "a.example.com"
    assert policy_domain(zone(b_example_com=P, example_com=P), "a.b.example.com") == "example.com"
    assert policy_domain(zone(com=f"{P}; psd=y"), "a.example.com") == "com"
    assert policy_domain(zone(example_com=P, com=f"{P}; psd=y"), "a.example.com") == "example.com"
    several = asyncio.run(Discovery(zone(example_com=(P.encode(), P.encode()))).policy("example.com"))
    assert several.record is None
    assert "several" in several.reason


def test_a_record_of_the_author_is_found_by_one_question() -> None:
    resolver = zone(a_example_com=P)
    asyncio.run(Discovery(resolver).policy("a.example.com"))
    assert resolver.asked == [("TXT", "_dmarc.a.example.com")]


def test_nobody_is_asked_twice() -> None:
    async def scenario() -> None:
        discovery = Discovery(resolver)
        await discovery.policy("a.example.com")
        await discovery.organizational_domain("a.example.com")
        await discovery.organizational_domain("b.example.com")

    resolver = zone(example_com=P)
    asyncio.run(scenario())
    assert len(resolver.asked) == len(set(resolver.asked)) == 4


def test_the_public_suffix_method_asks_twice_at_most() -> None:
    resolver = zone(example_co_uk=P, co_uk=P)
    assert policy_domain(resolver, "a.b.example.co.uk", "public-suffix") == "example.co.uk"
    assert [name for _, name in resolver.asked] == ["_dmarc.a.b.example.co.uk", "_dmarc.example.co.uk"]
    assert organization(resolver, "co.uk", "public-suffix") == "co.uk"
    assert policy_domain(zone(uk=P), "example.co.uk", "public-suffix") == ""


def test_dns_trouble_is_no_answer() -> None:
    with pytest.raises(DnsTrouble):
        policy_domain(zone(example_com=SERVFAIL), "a.example.com")


def test_a_name_too_long_to_ask_for_has_no_record() -> None:
    domain = ".".join(["a" * 60] * 4 + ["test"])
    assert policy_domain(zone(), domain) == ""


def test_alignment_asks_nothing_of_those_who_cannot_belong() -> None:
    """A signer's broken DNS must not hide that the signature is a stranger's."""

    async def scenario() -> None:
        discovery = Discovery(resolver)
        assert await aligned(discovery, "a.example.com", "a.example.com", strict=True)
        assert not await aligned(discovery, "example.com", "a.example.com", strict=True)
        assert resolver.asked == []
        assert await aligned(discovery, "example.com", "a.example.com", strict=False)
        assert await aligned(discovery, "b.c.example.com", "a.example.com", strict=False)
        assert not await aligned(discovery, "own.example.com", "a.example.com", strict=False)
        assert not await aligned(discovery, "x.broken.test", "a.example.com", strict=False)
        assert not await aligned(discovery, "notexample.com", "a.example.com", strict=False)

    resolver = zone(example_com=P, own_example_com=f"{P}; psd=n", broken_test=SERVFAIL)
    asyncio.run(scenario())
    assert not [name for _, name in resolver.asked if name.endswith(".test")]

"""Where reports may go (RFC 9990 §3.5, §4)."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.auth.dmarc.record import parse_record
from ekiden.dns.resolver import DnsTrouble
from ekiden.reports.destinations import Destination, Destinations, Tag, destinations
from support.fake_resolver import SERVFAIL, FakeResolver, Zone

ORGANIZATION = {("TXT", "_dmarc.example.com"): [b"v=DMARC1; p=none"]}
AGREEMENT = "blue.example.com._report._dmarc.red.example.net"


def wanted(rua: str, zone: Zone, *, tag: Tag = "rua") -> Destinations:
    record = parse_record(f"v=DMARC1; p=none; {tag}={rua}".encode())
    assert record is not None
    places = record.rua if tag == "rua" else record.ruf
    return asyncio.run(destinations(FakeResolver({**ORGANIZATION, **zone}), places, "blue.example.com", tag=tag))


@pytest.mark.parametrize("host", ["blue.example.com", "example.com", "mail.example.com", "Example.COM"])
def test_places_in_the_organization_need_no_agreement(host: str) -> None:
    assert wanted(f"mailto:a@{host}", {}).accepted == (Destination(f"a@{host}"),)


def test_a_size_limit_counts_what_is_sent() -> None:
    (destination,) = wanted("mailto:a@example.com!10m", {}).accepted
    assert destination.takes(10 * 1024 * 1024)
    assert not destination.takes(10 * 1024 * 1024 + 1)
    (destination,) = wanted("mailto:a@example.com", {}).accepted
    assert destination.takes(10**12)


@pytest.mark.parametrize(
    "texts",
    [[b"v=DMARC1"], [b"v=DMARC1;"], [b"v = DMARC1 ; x"], [b"something else", b"v=DMARC1"]],
)
def test_a_place_outside_that_agrees_gets_reports(texts: list[bytes]) -> None:
    assert wanted("mailto:a@red.example.net", {("TXT", AGREEMENT): texts}).accepted == (
        Destination("a@red.example.net"),
    )


@pytest.mark.parametrize("texts", [None, [b"v=DMARC2"], [b"v=DMARC1x"], [b"p=none; v=DMARC1"], [b""], [b"v=dmarc1"]])
def test_a_place_outside_that_does_not_agree_gets_none(texts: list[bytes] | None) -> None:
    zone: Zone = {} if texts is None else {("TXT", AGREEMENT): texts}
    found = wanted("mailto:a@red.example.net,mailto:b@example.com", zone)
    assert found.accepted == (Destination("b@example.com"),)
    assert [each.uri for each in found.refused] == ["mailto:a@red.example.net"]


def test_who_only_ends_alike_is_outside() -> None:
    assert wanted("mailto:a@evilexample.com", {}).accepted == ()


def test_an_organization_of_its_own_below_is_outside() -> None:
    """A record with psd=n begins an organization (RFC 9989 §4.10.2)."""
    own = {("TXT", "_dmarc.own.example.com"): [b"v=DMARC1; p=none; psd=n"]}
    assert wanted("mailto:a@own.example.com", own).accepted == ()
    agrees = {("TXT", "blue.example.com._report._dmarc.own.example.com"): [b"v=DMARC1"]}
    assert wanted("mailto:a@own.example.com", {**own, **agrees}).accepted == (Destination("a@own.example.com"),)


def test_a_public_suffix_does_not_speak_for_those_below_it() -> None:
    zone = {("TXT", "_dmarc.example"): [b"v=DMARC1; p=none; psd=y; rua=mailto:a@victim.example"]}
    record = parse_record(b"v=DMARC1; p=none; psd=y; rua=mailto:a@victim.example")
    assert record is not None
    found = asyncio.run(destinations(FakeResolver(zone), record.rua, "example", tag="rua"))
    assert found.accepted == ()


def test_the_receiver_may_choose_the_mailbox_of_its_host() -> None:
    """RFC 9990 §4 step 9."""
    zone = {("TXT", AGREEMENT): [b"v=DMARC1; rua=mailto:blue@red.example.net!5k"]}
    assert wanted("mailto:a@red.example.net", zone).accepted == (Destination("blue@red.example.net", 5120),)


def test_the_receiver_may_not_send_them_on_to_another_host() -> None:
    zone = {("TXT", AGREEMENT): [b"v=DMARC1; rua=mailto:a@victim.example"]}
    found = wanted("mailto:a@red.example.net", zone)
    assert found.accepted == ()
    assert len(found.refused) == 1


def test_failure_reports_have_a_choice_of_their_own() -> None:
    zone = {("TXT", AGREEMENT): [b"v=DMARC1; rua=mailto:x@victim.example; ruf=mailto:f@red.example.net"]}
    assert wanted("mailto:a@red.example.net", zone, tag="ruf").accepted == (Destination("f@red.example.net"),)


@pytest.mark.parametrize(
    "uri", ["https://example.com/r", "mailto:", "mailto:a@192.0.2.1", "mailto:a%40b@c@example.com", "mailto:x"]
)
def test_only_mail_to_one_address_is_sent(uri: str) -> None:
    found = wanted(uri, {})
    assert found.accepted == ()


def test_dns_trouble_is_no_refusal() -> None:
    with pytest.raises(DnsTrouble):
        wanted("mailto:a@red.example.net", {("TXT", AGREEMENT): SERVFAIL})


def test_many_places_are_bounded_and_none_is_served_twice() -> None:
    places = ",".join(["mailto:a@example.com"] * 3 + [f"mailto:a{number}@example.com" for number in range(9)])
    found = wanted(places, {})
    assert [each.mailbox for each in found.accepted] == ["a@example.com", *(f"a{n}@example.com" for n in range(4))]


def test_a_name_too_long_to_be_asked_for_agrees_to_nothing() -> None:
    domain = ".".join(["x" * 60] * 3)
    record = parse_record(f"v=DMARC1; p=none; rua=mailto:a@{'y' * 60}.example".encode())
    assert record is not None
    found = asyncio.run(destinations(FakeResolver({}), record.rua, domain, tag="rua"))
    assert found.accepted == ()

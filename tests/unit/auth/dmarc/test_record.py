"""DMARC records beyond what the cases of others say (RFC 9989 §4.7, §4.8, §4.10.1)."""

from __future__ import annotations

import pytest

from ekiden.auth.dmarc.record import (
    RECORD_OCTETS_LIMIT,
    DmarcRecord,
    PublicSuffixDomain,
    ReportPlace,
    parse_record,
    records_in,
)
from ekiden.auth.verdict import DmarcPolicy


def parsed(text: str) -> DmarcRecord:
    record = parse_record(text.encode())
    assert record is not None
    return record


def test_all_tags_are_read() -> None:
    record = parsed(
        "v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=s; psd=n; t=y; fo=1:d:s; rua=mailto:a@x.test"
    )
    assert (record.policy, record.subdomain_policy, record.nonexistent_policy) == (
        DmarcPolicy.REJECT,
        DmarcPolicy.QUARANTINE,
        DmarcPolicy.NONE,
    )
    assert record.dkim_strict
    assert record.spf_strict
    assert record.testing
    assert record.psd is PublicSuffixDomain.NO
    assert record.failure_options == ("1", "d", "s")
    assert record.rua == (ReportPlace("mailto:a@x.test"),)
    assert record.faulty == ()


def test_defaults() -> None:
    record = parsed("v=DMARC1;p=none")
    assert record == DmarcRecord(text="v=DMARC1;p=none")
    assert record.usable


@pytest.mark.parametrize(
    "text",
    [" v=DMARC1; p=none", "v=DMARC1.1; p=none", "p=none; v=DMARC1", "v=dmarc1; p=none", "v=spf1 -all", ""],
)
def test_what_does_not_begin_with_the_version_is_no_record(text: str) -> None:
    assert parse_record(text.encode()) is None
    assert records_in([text.encode(), b"v=DMARC1; p=none"]) == [parsed("v=DMARC1; p=none")]


def test_a_record_too_long_is_none() -> None:
    octets = b"v=DMARC1; p=none; x=" + b"y" * RECORD_OCTETS_LIMIT
    assert parse_record(octets) is None
    assert parse_record(octets[:RECORD_OCTETS_LIMIT]) is not None


@pytest.mark.parametrize(
    "tag",
    [
        "adkim=q",
        "aspf=",
        "psd=maybe",
        "t=1",
        "fo=x",
        "fo=0:",
        "rua=nobody",
        "ruf=mailto:a@b!1x",
        "t=y;t=n",
        "psd=n\x07",
    ],
)
def test_a_wrong_tag_is_as_if_it_were_not_there(tag: str) -> None:
    record = parsed(f"v=DMARC1; p=reject; {tag}")
    assert record.usable
    assert record.faulty == (tag.partition("=")[0],)
    assert DmarcRecord(text=record.text, policy=DmarcPolicy.REJECT, faulty=record.faulty) == record


@pytest.mark.parametrize("tags", ["", "p=rejet", "p=reject; sp=x", "p=reject; np=x", "p=reject; p=none", "sp=reject"])
def test_a_wrong_policy_is_none_where_reports_are_wanted_and_else_no_policy(tags: str) -> None:
    record = parsed(f"v=DMARC1; {tags}; rua=mailto:a@x.test,bogus")
    assert record.usable
    assert (record.policy, record.subdomain_policy, record.nonexistent_policy) == (DmarcPolicy.NONE, None, None)
    assert record.rua == (ReportPlace("mailto:a@x.test"),)
    assert not parsed(f"v=DMARC1; {tags}").usable
    assert not parsed(f"v=DMARC1; {tags}; rua=bogus").usable


def test_policies_for_subdomains() -> None:
    record = parsed("v=DMARC1; p=none; sp=quarantine; np=reject")
    assert record.policy_for(subdomain=False) is DmarcPolicy.NONE
    assert record.policy_for(subdomain=False, exists=False) is DmarcPolicy.NONE
    assert record.policy_for(subdomain=True) is DmarcPolicy.QUARANTINE
    assert record.policy_for(subdomain=True, exists=False) is DmarcPolicy.REJECT
    assert parsed("v=DMARC1; p=none; sp=reject").policy_for(subdomain=True, exists=False) is DmarcPolicy.REJECT
    assert parsed("v=DMARC1; p=reject").policy_for(subdomain=True, exists=False) is DmarcPolicy.REJECT


def test_places_have_limits_of_size_and_number() -> None:
    record = parsed("v=DMARC1; p=none; rua=mailto:a@x.test!1,https://x.test/r!2k,mailto:b@x.test!3T,mailto:a@x.test!1")
    assert [place.size_limit_bytes for place in record.rua] == [1, 2048, 3 << 40]
    many = ",".join(f"mailto:a{number}@x.test" for number in range(30))
    assert len(parsed(f"v=DMARC1; p=none; rua={many}").rua) == 10


def test_old_tags_change_nothing() -> None:
    """RFC 7489 §6.3: pct, rf, ri; RFC 9989 has them no more."""
    record = parsed("v=DMARC1; p=reject; pct=0; rf=afrf; ri=86400")
    assert record == DmarcRecord(text=record.text, policy=DmarcPolicy.REJECT)

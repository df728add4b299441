"""Aggregate reports that we write, read by others: parsedmarc, an XML parser with the schema, the mail parser."""

from __future__ import annotations

import email
import gzip
import io
import re
import time
from email.policy import default
from typing import Any

import msgspec
import parsedmarc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from ekiden.reports.aggregate import (
    NAMESPACE,
    AggregateReport,
    DkimResult,
    OverrideReason,
    PolicyPublished,
    Record,
    SpfResult,
)
from ekiden.reports.aggregate_write import AggregateMail, compose_mail, compressed, file_name, xml
from ekiden.reports.recognise import ReportLimits, at_once, in_message
from support.requirements import require_conformance

BEGIN = 1_764_374_400
HOSTILE = "<x>]]>&amp;\"'\x00\x08\x1b\ufffe\ud800\udcff\r\n\u202e\U0001f600--><!DOCTYPE"

RECORDS = (
    Record(
        "192.0.2.1", 12, "pass", "pass", "fail", "example.com",
        envelope_from="bounce.example.net",
        envelope_to="here.example",
        dkim_results=(DkimResult("example.com", "pass", "s1"), DkimResult("example.org", "fail", "s2")),
        spf_results=(SpfResult("bounce.example.net", "pass", "mfrom"),),
    ),
    Record(
        "2001:db8::1", 3, "none", "fail", "fail", "mail.example.com",
        reasons=(OverrideReason("local_policy", "a friend"), OverrideReason("mailing_list")),
        spf_results=(SpfResult("helo.example", "softfail", "mfrom"),),
    ),
    Record(
        "198.51.100.7", 1, "reject", "fail", "fail", "example.com", envelope_from="spoof.example",
        spf_results=(SpfResult("spoof.example", "none", "mfrom"),),
    ),
)  # fmt: skip
REPORT = AggregateReport(
    org_name="Our Example",
    email="postmaster@our.example",
    report_id="2025-11-29.example.com@mx.our.example",
    begin=BEGIN,
    end=BEGIN + 86399,
    policy=PolicyPublished(
        "example.com", p="reject", sp="quarantine", np="reject", adkim="s", aspf="r", fo="1:d", testing="y",
        psd="n", discovery_method="treewalk",
    ),
    records=RECORDS,
    errors=("5 more messages are not listed",),
    generator="Ekiden 1",
)  # fmt: skip


def mail(report: AggregateReport = REPORT, **changes: object) -> bytes:
    values = {
        "report": report,
        "sender": "dmarc@our.example",
        "to": ("r@example.com",),
        "host": "mx.our.example",
        "now": BEGIN + 90e3,
    } | changes
    return compose_mail(AggregateMail(**values), compressed(report))  # type: ignore[arg-type]


def test_parsedmarc_reads_the_same_numbers() -> None:
    parsed = parsedmarc.parse_report_email(mail(), offline=True)
    assert parsed["report_type"] == "aggregate"
    report = parsed["report"]
    assert report["xml_namespace"] == NAMESPACE
    assert report["report_metadata"]["org_email"] == REPORT.email
    assert report["report_metadata"]["report_id"] == "2025-11-29.example.com"
    assert report["report_metadata"]["errors"] == list(REPORT.errors)
    assert report["report_metadata"]["generator"] == REPORT.generator
    assert report["report_metadata"]["original_timespan_seconds"] == 86399
    published = report["policy_published"]
    assert {name: published[name] for name in published if name != "pct"} == {
        "domain": "example.com", "adkim": "s", "aspf": "r", "p": "reject", "sp": "quarantine", "np": "reject",
        "fo": "1:d", "testing": "y", "discovery_method": "treewalk",
    }  # fmt: skip
    assert len(report["records"]) == len(RECORDS)
    for theirs, ours in zip(report["records"], RECORDS, strict=True):
        assert theirs["source"]["ip_address"] == ours.source_ip
        assert theirs["count"] == ours.count
        evaluated = theirs["policy_evaluated"]
        assert (evaluated["disposition"], evaluated["dkim"], evaluated["spf"]) == (
            ours.disposition,
            ours.dkim,
            ours.spf,
        )
        assert [(each["type"], each["comment"] or "") for each in evaluated["policy_override_reasons"]] == [
            (each.type, each.comment) for each in ours.reasons
        ]
        assert theirs["alignment"]["dmarc"] is ours.is_authentic
        assert theirs["identifiers"]["header_from"] == ours.header_from
        # What has no envelope sender has the domain that SPF checked there.
        assert theirs["identifiers"]["envelope_from"] == (ours.envelope_from or ours.spf_results[0].domain)
        assert theirs["identifiers"]["envelope_to"] == (ours.envelope_to or None)
        assert [(each["domain"], each["selector"], each["result"]) for each in theirs["auth_results"]["dkim"]] == [
            (each.domain, each.selector, each.result) for each in ours.dkim_results
        ]
        assert [(each["domain"], each["scope"], each["result"]) for each in theirs["auth_results"]["spf"]] == [
            (each.domain, each.scope, each.result) for each in ours.spf_results
        ]


def test_the_schema_of_the_older_format_finds_only_what_is_new() -> None:
    """What RFC 9990 has and the schema at hand does not, is taken out before; the rest is valid in it."""
    schema_text = require_conformance("dmarc", "rua-schema.xsd").read_text("utf-8")
    # The schema names its target but not itself: its own types cannot be found without this.
    schema_text = schema_text.replace(
        "<xs:schema ", f'<xs:schema xmlns="{NAMESPACE}" elementFormDefault="qualified" ', 1
    )
    schema = etree.XMLSchema(etree.XML(schema_text.encode()))
    text = xml(REPORT).decode()
    for new, old in (
        (r"<version>.*</version>\n", ""),  # RFC 9990 §3.1.1.2
        (r"<generator>.*</generator>\n", ""),  # RFC 9990 §3.1.1.3
        ("<testing>(.)</testing>", r"<t>\1</t>"),  # RFC 9990 §3.1.1.5
        ("<disposition>pass</disposition>", "<disposition>none</disposition>"),  # RFC 9990 Appendix A
        ("2001:db8::1", "2001:db8:0:0:0:0:0:1"),  # RFC 9990 §3.1.1.8: an address as URIs have it
    ):
        assert re.search(new, text)
        text = re.sub(new, old, text)
    schema.assertValid(etree.XML(text.encode()))


def test_what_strangers_wrote_is_text_and_nothing_else() -> None:
    hostile = full_of(HOSTILE)
    root = etree.fromstring(xml(hostile), etree.XMLParser(resolve_entities=False, no_network=True))
    shape = [re.sub(r"\{.*\}", "", element.tag) for element in root.iter()]
    ordinary = etree.fromstring(xml(full_of("x")))
    assert shape == [re.sub(r"\{.*\}", "", element.tag) for element in ordinary.iter()]
    selector = root.find(f".//{{{NAMESPACE}}}selector")
    assert selector is not None
    assert selector.text == "<x>]]>&amp;\"'" + "\ufffd" * 6 + "\n\u202e\U0001f600--><!DOCTYPE"
    content = mail(hostile, host=HOSTILE, sender="a@our.example\r\nBcc: x@y.example", to=(HOSTILE,))
    head = content.partition(b"\r\n\r\n")[0]
    assert re.findall(rb"^([A-Za-z-]+):", head, re.MULTILINE) == [
        b"From", b"To", b"Date", b"Message-ID", b"Subject", b"Auto-Submitted", b"MIME-Version", b"Content-Type",
    ]  # fmt: skip
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert len(list(email.message_from_bytes(content, policy=default).iter_attachments())) == 1


def full_of(text: str) -> AggregateReport:
    return AggregateReport(
        org_name=text,
        email=text,
        report_id=text,
        begin=BEGIN,
        end=BEGIN + 86399,
        policy=PolicyPublished(text, p=text, fo=text),
        records=(
            Record(
                text, 1, text, text, text, text,
                envelope_from=text,
                envelope_to=text,
                reasons=(OverrideReason(text, text),),
                dkim_results=(DkimResult(text, text, text, text),),
                spf_results=(SpfResult(text, text, text, text),),
            ),
        ),
        errors=(text,),
    )  # fmt: skip


def test_the_mail_is_as_its_readers_expect() -> None:
    """RFC 9990 §3.5.1, §3.5.2."""
    message = email.message_from_bytes(mail(), policy=default)
    assert message["Subject"] == (
        "Report Domain: example.com Submitter: mx.our.example Report-ID: <2025-11-29.example.com@mx.our.example>"
    )
    assert message["Message-ID"] == "<2025-11-29.example.com@mx.our.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert (message["From"], message["To"]) == ("dmarc@our.example", "r@example.com")
    (attachment,) = message.iter_attachments()
    assert attachment.get_content_type() == "application/gzip"
    assert attachment.get_filename() == "mx.our.example!example.com!1764374400!1764460799.xml.gz"
    assert gzip.decompress(attachment.get_content()) == xml(REPORT)


def test_a_report_that_is_sent_again_is_the_same() -> None:
    assert compressed(REPORT) == compressed(REPORT)
    assert file_name(REPORT, "mx.our.example") == file_name(REPORT, "mx.our.example")


@pytest.mark.parametrize("domain", ["../../etc/x", "a!b\r\nX: y", '"', "exa\u0301mple"])
def test_a_file_name_holds_no_path_and_no_quote(domain: str) -> None:
    name = file_name(AggregateReport("o", "e", "i", 1, 2, PolicyPublished(domain)), 'h"\\')
    assert re.fullmatch(r"[A-Za-z0-9._!-]+", name)
    assert "/" not in name
    assert name.count("!") == 3


def test_a_large_report_is_written_in_moments() -> None:
    records = tuple(msgspec.structs.replace(RECORDS[0], header_from=f"x{n}.example.com") for n in range(10_000))
    began = time.process_time()
    packed = compressed(msgspec.structs.replace(REPORT, records=records))
    assert time.process_time() - began < 5
    assert len(packed) < 1_000_000
    root = etree.parse(io.BytesIO(gzip.decompress(packed))).getroot()
    assert len(root.findall(f"{{{NAMESPACE}}}record")) == 10_000


def test_we_read_what_we_write() -> None:
    (found,) = at_once(in_message(mail(), ReportLimits()))
    published = msgspec.structs.replace(REPORT.policy, psd="")  # RFC 9990 has no element for it
    assert found.report == msgspec.structs.replace(REPORT, policy=published, version="1.0")
    assert found.problems == ()


_TEXTS = st.text(st.characters(), max_size=20)
_RESULTS = st.sampled_from(("pass", "fail", "none", "temperror"))
_RECORDS = st.builds(
    Record,
    source_ip=st.ip_addresses().map(str),
    count=st.integers(1, 10**9),
    disposition=st.sampled_from(("none", "pass", "quarantine", "reject")),
    dkim=st.sampled_from(("pass", "fail")),
    spf=st.sampled_from(("pass", "fail")),
    header_from=_TEXTS.filter(str.strip),
    envelope_from=_TEXTS,
    dkim_results=st.lists(st.builds(DkimResult, _TEXTS.filter(str.strip), _RESULTS, _TEXTS), max_size=3).map(tuple),
    spf_results=st.lists(st.builds(SpfResult, _TEXTS, _RESULTS, st.just("mfrom")), max_size=1).map(tuple),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(_RECORDS, min_size=1, max_size=5))
def test_any_report_has_the_same_numbers_for_us_and_for_parsedmarc(records: list[Record]) -> None:
    report = msgspec.structs.replace(REPORT, records=tuple(records))
    numbers = [(each.source_ip, each.count, each.disposition, each.dkim, each.spf) for each in records]
    (found,) = at_once(in_message(mail(report), ReportLimits()))
    assert isinstance(found.report, AggregateReport)
    assert found.problems == ()
    ours = found.report.records
    assert [(each.source_ip, each.count, each.disposition, each.dkim, each.spf) for each in ours] == numbers
    assert [[each.result for each in record.dkim_results] for record in ours] == [
        [each.result for each in record.dkim_results] for record in records
    ]
    parsed: Any = parsedmarc.parse_aggregate_report_xml(xml(report), offline=True)
    assert [
        (each["source"]["ip_address"], each["count"], evaluated["disposition"], evaluated["dkim"], evaluated["spf"])
        for each in parsed["records"]
        for evaluated in [each["policy_evaluated"]]
    ] == numbers

"""Aggregate reports as receivers write them, well and badly, and documents that are none (RFC 9990, RFC 7489)."""

from __future__ import annotations

import time

import pytest

from ekiden.reports.aggregate import AggregateReport, DkimResult, OverrideReason, PolicyPublished, Record, SpfResult
from ekiden.reports.aggregate_xml import AggregateReader
from ekiden.tls.tlsrpt import ReportError

RECORD = """
 <record>
  <row><source_ip>192.0.2.1</source_ip><count>7</count>
   <policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>pass</spf>
    <reason><type>mailing_list</type><comment>by &amp; by</comment></reason></policy_evaluated></row>
  <identifiers><envelope_to>b.example</envelope_to><envelope_from>a.example</envelope_from>
   <header_from>Example.com</header_from></identifiers>
  <auth_results>
   <dkim><domain>example.com</domain><selector>S1</selector><result>Fail</result>
    <human_result>no key</human_result></dkim>
   <spf><domain>example.com</domain><scope>mfrom</scope><result>pass</result></spf></auth_results>
 </record>"""
HEAD = """<feedback%s><version>1.0</version>
 <report_metadata><org_name>Receiver</org_name><email>r@receiver.example</email><report_id>42</report_id>
  <date_range><begin>1700000000</begin><end>1700086399.5</end></date_range><error>one</error><error>two</error>
  <generator>G 1</generator></report_metadata>
 <policy_published><domain>example.com</domain><discovery_method>treewalk</discovery_method><p>reject</p><sp>none</sp>
  <np>reject</np><adkim>s</adkim><aspf>r</aspf><fo>1</fo><testing>n</testing><psd>n</psd></policy_published>"""
NAMESPACE = ' xmlns="urn:ietf:params:xml:ns:dmarc-2.0"'
WHOLE = HEAD % NAMESPACE + RECORD + "</feedback>"

REPORT = AggregateReport(
    "Receiver",
    "r@receiver.example",
    "42",
    1700000000,
    1700086399,
    PolicyPublished(
        "example.com",
        p="reject",
        sp="none",
        np="reject",
        adkim="s",
        aspf="r",
        fo="1",
        testing="n",
        psd="n",
        discovery_method="treewalk",
    ),
    (
        Record(
            "192.0.2.1",
            7,
            "none",
            "fail",
            "pass",
            "example.com",
            "a.example",
            "b.example",
            (OverrideReason("mailing_list", "by & by"),),
            (DkimResult("example.com", "fail", "S1", "no key"),),
            (SpfResult("example.com", "pass", "mfrom"),),
        ),
    ),
    errors=("one", "two"),
    generator="G 1",
    version="1.0",
)


def read(text: str | bytes, *, records: int = 10, piece: int = 65536) -> tuple[AggregateReport, list[str]]:
    octets = text.encode() if isinstance(text, str) else text
    reader = AggregateReader(records=records)
    for at in range(0, len(octets), piece):
        reader.feed(octets[at : at + piece])
    return reader.finish(), reader.problems


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_a_report_is_read_whatever_its_pieces(piece: int) -> None:
    assert read(WHOLE, piece=piece) == (REPORT, [])


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace(NAMESPACE, ""),
        WHOLE.replace(NAMESPACE, ' xmlns="http://dmarc.org/dmarc-xml/0.1" lang="en"'),
        WHOLE.replace(NAMESPACE, "").replace("</", "</d:").replace("<", "<d:").replace("<d:/d:", "</d:"),
        '<?xml version="1.0" encoding="UTF-16"?>' + WHOLE,
        '<?xml version="1.0"?><!-- made by hand -->\n' + WHOLE + "\n\n",
        WHOLE.replace("</record>", '<x:record xmlns:x="urn:x"><x:row/></x:record></record>'),
        WHOLE.replace("<version>", '<extension xmlns:e="urn:e"><e:p>none</e:p></extension><version>'),
        WHOLE.replace("<identifiers>", "<identities>").replace("</identifiers>", "</identities>"),
        WHOLE.replace("<comment>", '<comment lang="en">'),
    ],
)
def test_namespaces_extensions_and_character_sets_change_nothing(text: str) -> None:
    octets = text.encode("utf-16") if "UTF-16" in text else text.encode()
    assert read(octets) == (REPORT, [])


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.removesuffix("</feedback>"),
        WHOLE.replace("r@receiver.example", "<r@receiver.example>"),
        WHOLE.replace("&amp;", "&"),
        WHOLE.replace("</row>", ""),
        WHOLE + "<feedback",
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">' + WHOLE,
        WHOLE.replace("<version>", "<!-- <record> -- > --><version>"),
    ],
)
def test_a_report_that_is_no_well_formed_xml_is_read_as_far_as_it_goes(text: str) -> None:
    report, problems = read(text)
    assert report.records == REPORT.records
    assert report.policy == REPORT.policy
    assert report.email.strip("<>") == REPORT.email
    assert all("no well-formed XML" in each for each in problems)


def test_bytes_of_no_character_set_are_seen_as_such() -> None:
    report, problems = read(WHOLE.encode().replace(b"Example.com", b"exam\xffple.com"))
    assert report.records[0].header_from == "exam\ufffdple.com"
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("192.0.2.1", "192.0.2.300"), (">7<", ">-7<"), (">7<", ">seven<"), (">7<", "><"), (">7<", ">9999999999999<")],
)
def test_a_record_that_cannot_be_is_passed_over_and_told_of(wrong: str, right: str) -> None:
    text = HEAD % NAMESPACE + RECORD + RECORD.replace(wrong, right) + "</feedback>"
    report, problems = read(text)
    assert report.records == REPORT.records
    assert "passed over" in problems[0]


def test_an_address_has_one_form() -> None:
    records = read(WHOLE.replace("192.0.2.1", "::FFFF:192.0.2.1"))[0].records
    assert [each.source_ip for each in records] == ["192.0.2.1"]
    records = read(WHOLE.replace("192.0.2.1", "2001:DB8:0::1"))[0].records
    assert [each.source_ip for each in records] == ["2001:db8::1"]


ENTITIES = "".join(f"<!ENTITY a{number + 1} '{f'&a{number};' * 10}'>" for number in range(10))
LAUGHS = f"<!DOCTYPE feedback [<!ENTITY a0 'ha'>{ENTITIES}]>"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS + WHOLE.replace("42", "&a10;"), "document type"),
        ('<!DOCTYPE feedback SYSTEM "file:///etc/passwd">' + WHOLE, "document type"),
        ('<!DOCTYPE f [<!ENTITY % p SYSTEM "http://192.0.2.1/">%p;]>' + WHOLE, "document type"),
        ("<bad&" + LAUGHS + WHOLE, "document type"),
        ("<feedback>" + "<a>" * 100_000, "nested deeper"),
        ("<feedback>" + "<record>" * 100, "more than 10 records"),
        (HEAD % NAMESPACE + RECORD * 11 + "</feedback>", "more than 10 records"),
        (HEAD % NAMESPACE + "<record/>" * 11 + "</feedback>", "more than 10 records"),
        ("<feedback a='" + "x" * 3_000_000, "tag that is too long"),
        ("<feedback><!--" + "x" * 3_000_000, "tag that is too long"),
        ("", "no element found"),
        ("<html></html>", "no aggregate report"),
        ("no XML at all", "no aggregate report"),
        ("<feedback/>", "what time"),
        (WHOLE.replace("<begin>1", "<begin>x"), "what time"),
        (WHOLE.replace("<begin>", "<begin>999999999"), "what time"),
        (WHOLE.replace("<domain>example.com</domain><disc", "<disc"), "what domain"),
        (WHOLE.replace("<org_name>Receiver</org_name><email>r@receiver.example</email>", ""), "who made it"),
        ("<feedback>" + "&" * 3_000_000, "no XML"),
        ("<?xml version='1.0' encoding='rot13'?><feedback/>", "what time"),
    ],
)
def test_what_is_no_report_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(ReportError, match=why):
        read(text)


@pytest.mark.parametrize("text", ["<!--", "<record", "<?", "<record a='", "<feedback", "&#", "<p>", "</p>", "<!-- -->"])
def test_the_lenient_reading_is_linear(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(ReportError):
        read("&" + text * (400_000 // len(text)))
    assert time.process_time() - begin < 2.0


def test_a_text_is_kept_in_bounded_length_and_a_record_has_bounded_results() -> None:
    report, _ = read(WHOLE.replace("42", "4" * 1_000_000).replace("<dkim><domain>", "<dkim><domain>" + "d" * 9_999))
    assert len(report.report_id) == 1000
    assert len(report.records[0].dkim_results[0].domain) == 1000
    again = "<spf><domain>example.com</domain><result>pass</result></spf>"
    report, _ = read(WHOLE.replace("<auth_results>", "<auth_results>" + again * 5000))
    assert len(report.records[0].spf_results) == 100


def test_a_million_records_are_refused_before_they_are_read() -> None:
    reader = AggregateReader(records=1000)
    chunk = RECORD.encode() * 100

    def feed_all() -> None:
        reader.feed((HEAD % NAMESPACE).encode())
        for _ in range(10_000):
            reader.feed(chunk)

    begin = time.process_time()
    with pytest.raises(ReportError, match="more than 1000 records"):
        feed_all()
    assert time.process_time() - begin < 2.0

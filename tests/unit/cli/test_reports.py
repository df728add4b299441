"""`ekiden reports`: what others report, and reports in files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ekiden.cli.main import main
from ekiden.reports.aggregate import AggregateReport, DkimResult, PolicyPublished, Record, SpfResult
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.received import ReceivedReport, ReceivedReports
from ekiden.tls.tlsrpt import decode
from ekiden.tls.tlsrpt_store import Received, TlsrptStore
from support.requirements import require_conformance

NOW = time.time()
DAY = 86400
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "main.cf").write_text(f"queue_directory = {tmp_path}\nmyhostname = mx.test\n")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["reports", "-c", str(tmp_path), *arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return command


def report(domain: str = "example.com", age_days: int = 1, org: str = "google.com") -> AggregateReport:
    records = (
        Record(
            "203.0.113.7", 5, "none", "pass", "fail", domain,
            dkim_results=(DkimResult(domain, "pass", "s1"),), spf_results=(SpfResult(domain, "fail", "mfrom"),),
        ),
    )  # fmt: skip
    end = int(NOW) - age_days * DAY
    return AggregateReport(org, "", "1", end - DAY, end, PolicyPublished(domain, p="none"), records)


def keep(path: Path, *reports: AggregateReport | FeedbackReport, at: float = NOW) -> None:
    (path / "reports").mkdir(exist_ok=True)
    store = ReceivedReports(
        path / "reports" / "received.sqlite", retention_s=1e9, limit_bytes=10**6, time=time.time, warn=pytest.fail
    )
    for each in reports:
        store.receive(ReceivedReport(at, "s@google.com", each))
    store.close()


def test_findings_are_plain_lines_under_headings(tmp_path: Path, run: Run) -> None:
    keep(tmp_path, report(), report("example.org"), report(age_days=-9, org="\x1b[31mEvil"))
    keep(tmp_path, FeedbackReport("abuse", rcpt_to=("u@hotmail.test",), reported_domains=("example.com",)))
    keep(tmp_path, report("old.test", age_days=9), at=NOW - 8 * DAY)
    (tmp_path / "tls").mkdir()
    store = TlsrptStore(tmp_path / "tls" / "tlsrpt.sqlite", limit=100, time=time.time, warn=pytest.fail)
    octets = require_conformance("mta-sts-tlsrpt-dane", "tlsrpt-reports", "parsedmarc", "rfc8460.json").read_bytes()
    day = time.strftime("%Y-%m-%d", time.gmtime(NOW - DAY)).encode()
    store.receive(Received(NOW, "x@y", decode(octets.replace(b"2016-04-01", day))))
    store.close()
    code, out, err = run()
    assert (code, err) == (0, "")
    expected = [
        "Domains",
        "  example.com: 5 messages in 1 report of 1 receiver, 5 authentic (100.0 %); policy none",
        "  example.org: 5 messages in 1 report of 1 receiver, 5 authentic (100.0 %); policy none",
        "",
        "Who sends in your name and fails",
        "  203.0.113.7 sends as example.com and fails SPF: not in your record; its DKIM signature is good; 5 messages "
        "(google.com)",
    ]
    lines = out.splitlines()
    assert lines[:6] == expected
    assert "  1 complaint (abuse) about mail of example.com to hotmail.test" in lines
    assert "  company-y.example: 5326 TLS sessions good, 303 failed" in lines
    assert any(line.startswith("  TLS with mx2.mail.company-y.example for mail to company-y.example") for line in lines)
    assert lines[-1] == "  report 1 by ?[31mEvil is not counted: it is about days to come"
    assert "old.test" not in out
    assert "old.test" in run("--days", "9")[1]
    assert "example.org" not in run("--domain", "example.com")[1]
    assert run("--domain", "nobody.test")[1] == "no report about nobody.test came in the last 7 days\n"
    code, out, err = run("--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert out.isascii()
    assert {each["kind"] for each in found} == {"domain", "source", "complaint", "tls-domain", "tls", "report"}
    assert found[0] == {
        "kind": "domain",
        "domain": "example.com",
        "subject": "example.com",
        "count": 5,
        "text": "example.com: 5 messages in 1 report of 1 receiver, 5 authentic (100.0 %); policy none",
    }


def test_many_findings_are_cut_off_and_json_has_all(tmp_path: Path, run: Run) -> None:
    one = report()
    records = tuple(replace(one.records[0], source_ip=f"192.0.2.{number}") for number in range(60))
    keep(tmp_path, replace(one, records=records))
    lines = run()[1].splitlines()
    assert lines[-1] == "  and 10 more; --json shows all"
    assert len(lines) == 2 + 1 + 1 + 50 + 1
    assert len(run("--json")[1].splitlines()) == 1 + 60


def test_without_reports_it_says_so(run: Run) -> None:
    assert run() == (0, "no report came in the last 7 days\n", "")
    assert run("--days", "9" * 400)[0] == 0
    code, _, err = run("--days", "0")
    assert code == os.EX_USAGE
    assert "--days" in err


def test_files_are_read_wherever_they_come_from(tmp_path: Path, run: Run) -> None:
    samples = require_conformance("dmarc", "aggregate", "parsedmarc")
    zipped = next(path for path in samples.glob("*.zip") if path.name.startswith("nice"))
    code, out, err = run("read", str(zipped))
    assert (code, err) == (0, "")
    assert out.startswith(
        f"{zipped}: aggregate report 11038226378739404135 by google.com on example.com, 2024-06-13 00:00:00 to "
        "2024-06-13 23:59:59, policy none: 3047 messages, 0 failed\n"
    )
    assert "\n  209.85.220.69 2252 from example.com: DKIM pass, SPF pass, none\n" in out
    code, out, _ = run("read", "--json", str(samples / "invalid_xml.xml"))
    (found,) = (json.loads(line) for line in out.splitlines())
    assert (code, found["kind"], found["report"]["policy"]["domain"]) == (0, "aggregate", "example.com")
    assert found["problems"][0].startswith("no well-formed XML")
    failure = require_conformance("dmarc", "failure", "parsedmarc", "dmarc_ruf_report_linkedin.eml")
    on_tls = require_conformance("mta-sts-tlsrpt-dane", "tlsrpt-reports", "mail-auth", "rpt01.eml")
    code, out, _ = run("read", str(failure), str(on_tls))
    assert "report auth-failure on a message of example.com, 2019-04-30 02:09:00\n  from address: 10.10.10.10\n" in out
    assert f"{on_tls}: report 5065427c-23d3-47ca-b6e0-946ea0e8c4be on TLS by Company-X, 2016-04-01\n" in out
    assert "  company-y.example: 5326 TLS sessions good, 303 failed\n" in out


def test_files_that_hold_no_report_are_named(tmp_path: Path, run: Run) -> None:
    good = require_conformance("dmarc", "aggregate", "mail-auth", "002.xml")
    bad, long, future = tmp_path / "bad", tmp_path / "long", tmp_path / "future"
    bad.write_bytes(b"<!DOCTYPE x [<!ENTITY a 'b'>]><feedback>&a;</feedback>")
    long.write_bytes(bytes(10 * 1024 * 1024 + 1))
    code, out, err = run("read", str(bad), str(good), str(long))
    assert code == os.EX_DATAERR
    assert f"{good}: aggregate" in out
    assert f"ekiden: {bad}: the report has a document type\n" in err
    assert f"ekiden: {long}: the file is longer than 10485760 bytes\n" in err
    code, _, err = run("read", str(tmp_path / "gone"), str(bad))
    assert code == os.EX_NOINPUT
    text = good.read_bytes().replace(b">1661558400<", b">9661558400<").replace(b">1661644799<", b">9661644799<")
    future.write_bytes(text.replace(b"google.com</org_name>", "\u202egoogle\u0007</org_name>".encode()))
    code, out, _ = run("read", str(future))
    assert "  note: it is about days to come\n" in out
    assert "by ?google" in out
    assert all(line.isprintable() for line in out.splitlines())

"""Every report of the third-party collections is read: with their parses where they have some, with the numbers of
parsedmarc, and as the mail that it came in (RFC 9990, RFC 7489, RFC 6591, RFC 8460)."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import parsedmarc
import pytest

from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.recognise import Found, ReportLimits, at_once, in_file
from ekiden.tls.tlsrpt import Report as TlsReport
from support.requirements import require_conformance


def files(area: str, folder: str, without: str = "") -> list[Path]:
    found = sorted(path for path in require_conformance(area, folder).rglob("*.*") if path.is_file())
    return [path for path in found if path.suffix != without]


def only(path: Path) -> Found:
    (found,) = at_once(in_file(path.read_bytes(), ReportLimits()))
    return found


# -- aggregate reports, with the parses of mail-auth

# Their words for what a report leaves out, and for what they do not know.
_WORDS = {"": "Unspecified", "r": "Relaxed", "s": "Strict", "mfrom": "MailFrom", "helo": "Helo"}
_NO_REASON = {"forwarded", "sampled_out"}  # gone since RFC 9990 §3.1.6


def _word(text: str) -> str:
    return _WORDS.get(text) or "".join(part.capitalize() for part in text.split("_"))


def _reason(text: str) -> str:
    return "Other" if text in _NO_REASON else _word(text)


def _mail_auth(report: AggregateReport) -> dict[str, Any]:
    """The report in the form of their JSON."""
    policy = report.policy
    return {
        "version": float(report.version or 0),
        "report_metadata": {
            "org_name": report.org_name,
            "email": report.email,
            "extra_contact_info": report.extra_contact_info or None,
            "report_id": report.report_id,
            "date_range": {"begin": report.begin, "end": report.end},
            "error": list(report.errors),
            "generator": report.generator or None,
        },
        "policy_published": {
            "domain": policy.domain,
            "version_published": None,
            "adkim": _word(policy.adkim),
            "aspf": _word(policy.aspf),
            "p": _word(policy.p),
            "sp": _word(policy.sp),
            "np": _word(policy.np),
            "testing": policy.testing == "y",
            "discovery_method": _word(policy.discovery_method),
            "fo": policy.fo or None,
        },
        "record": [
            {
                "row": {
                    "source_ip": record.source_ip,
                    "count": record.count,
                    "policy_evaluated": {
                        "disposition": _word(record.disposition),
                        "dkim": _word(record.dkim),
                        "spf": _word(record.spf),
                        "reason": [
                            {"type_": _reason(reason.type), "comment": reason.comment or None}
                            for reason in record.reasons
                        ],
                    },
                },
                "identifiers": {
                    "envelope_to": record.envelope_to or None,
                    "envelope_from": record.envelope_from,
                    "header_from": record.header_from,
                },
                "auth_results": {
                    "dkim": [
                        {
                            "domain": result.domain,
                            "selector": result.selector,
                            "result": _word(result.result),
                            "human_result": result.human_result or None,
                        }
                        for result in record.dkim_results
                    ],
                    "spf": [
                        {
                            "domain": result.domain,
                            "scope": _word(result.scope),
                            "result": _word(result.result),
                            "human_result": result.human_result or None,
                        }
                        for result in record.spf_results
                    ],
                },
            }
            for record in report.records
        ],
    }


def _shared(ours: Any, theirs: Any) -> Any:
    """Of ours what theirs has: some of their parses are older than some elements."""
    if isinstance(ours, dict):
        return {name: _shared(value, theirs[name]) for name, value in ours.items() if name in theirs}
    if isinstance(ours, list):
        return [_shared(one, two) for one, two in zip(ours, theirs, strict=True)]
    return ours


def _without_extensions(theirs: Any) -> Any:
    """RFC 9990 §5: "If a processor is unable to handle an extension in a report, it SHOULD ignore the data"."""
    if isinstance(theirs, dict):
        return {name: _without_extensions(value) for name, value in theirs.items() if name != "extensions"}
    return [_without_extensions(value) for value in theirs] if isinstance(theirs, list) else theirs


def test_aggregate_reports_are_read_as_mail_auth_reads_them() -> None:
    paths = files("dmarc", "aggregate/mail-auth", without=".json")
    for path in paths:
        report = only(path).report
        assert isinstance(report, AggregateReport)
        theirs = _without_extensions(json.loads(path.with_suffix(".json").read_bytes()))
        assert _shared(_mail_auth(report), theirs) == theirs, path.name
    assert len(paths) == 10


# -- aggregate reports, with the numbers of parsedmarc


def _numbers(report: AggregateReport) -> dict[str, Any]:
    return {
        "report_id": report.report_id.replace("<", "").replace(">", "").partition("@")[0],
        "domain": report.policy.domain,
        "p": report.policy.p,
        "np": report.policy.np or None,
        "testing": report.policy.testing or None,
        "discovery_method": report.policy.discovery_method or None,
        "span": report.end - report.begin,
        "records": [
            {
                "address": record.source_ip,
                "count": record.count,
                "header_from": record.header_from.replace("\ufffd", ""),  # they leave out what is no UTF-8
                "envelope_to": record.envelope_to or None,
                "evaluated": (record.disposition, record.dkim, record.spf),
                "authentic": record.is_authentic,
                "reasons": sorted(reason.type for reason in record.reasons),
                "dkim": [(each.domain, each.selector or "none", each.result) for each in record.dkim_results],
                "spf": [(each.domain, each.scope or "mfrom", each.result) for each in record.spf_results],
            }
            for record in report.records
        ],
    }


# Their repair of XML loses this name; ours keeps it as it came.
_LOST_NAME = {"invalid_xml.xml": "bad<xml.net"}


def _their_numbers(theirs: dict[str, Any], lost_name: str) -> dict[str, Any]:
    policy, metadata = theirs["policy_published"], theirs["report_metadata"]
    return {
        "report_id": metadata["report_id"],
        "domain": policy["domain"],
        "p": policy["p"],
        "np": policy["np"],
        "testing": policy["testing"],
        "discovery_method": policy["discovery_method"],
        "span": metadata["original_timespan_seconds"],
        "records": [
            {
                "address": str(ipaddress.ip_address(record["source"]["ip_address"])),
                "count": record["count"],
                "header_from": record["identifiers"]["header_from"] or lost_name,
                "envelope_to": record["identifiers"]["envelope_to"],
                "evaluated": tuple(record["policy_evaluated"][name] for name in ("disposition", "dkim", "spf")),
                "authentic": record["alignment"]["dmarc"],
                "reasons": sorted(
                    reason["type"] for reason in record["policy_evaluated"]["policy_override_reasons"] if reason["type"]
                ),
                "dkim": [(each["domain"], each["selector"], each["result"]) for each in record["auth_results"]["dkim"]],
                "spf": [(each["domain"], each["scope"], each["result"]) for each in record["auth_results"]["spf"]],
            }
            for record in theirs["records"]
        ],
    }


def _parsedmarc(path: Path) -> dict[str, Any]:
    """Without a question to the network, and without its division of records by days."""
    parsed = parsedmarc.parse_report_file(
        path, offline=True, always_use_local_files=True, normalize_timespan_threshold_hours=1e9
    )
    return dict(parsed)


@pytest.mark.parametrize("folder", ["aggregate/parsedmarc", "aggregate/mail-auth"])
def test_aggregate_reports_have_the_numbers_of_parsedmarc(folder: str) -> None:
    paths = files("dmarc", folder, without=".json")
    for path in paths:
        theirs = _parsedmarc(path)
        assert theirs["report_type"] == "aggregate"
        report = only(path).report
        assert isinstance(report, AggregateReport)
        assert _numbers(report) == _their_numbers(theirs["report"], _LOST_NAME.get(path.name, "")), path.name
    assert len(paths) == {"aggregate/parsedmarc": 18, "aggregate/mail-auth": 10}[folder]


# -- failure reports


def test_failure_reports_say_what_parsedmarc_reads_in_them() -> None:
    paths = files("dmarc", "failure/parsedmarc")
    for path in paths:
        theirs = _parsedmarc(path)["report"]
        report = only(path).report
        assert isinstance(report, FeedbackReport)
        assert report.is_failure
        assert report.source_ip == theirs["source"]["ip_address"]
        assert report.domain == theirs["reported_domain"]
        assert (report.delivery_result or "other") == theirs["delivery_result"]
        assert (report.auth_failure or ("dmarc",)) == tuple(theirs["auth_failure"])
        assert report.mail_from == (theirs["original_mail_from"] or "").strip("<>")
        assert report.arrival is not None
    assert len(paths) == 5


# -- reports on TLS


def test_reports_on_tls_are_recognised_with_their_numbers() -> None:
    paths = files("mta-sts-tlsrpt-dane", "tlsrpt-reports")
    for path in paths:
        report = only(path).report
        assert isinstance(report, TlsReport)
        theirs = json.loads(path.with_suffix(".json").read_bytes())
        assert report.report_id == theirs["report-id"]
        assert [result.summary.total_successful_session_count for result in report.policies] == [
            each["summary"]["total-successful-session-count"] for each in theirs["policies"]
        ]
        assert [result.summary.total_failure_session_count for result in report.policies] == [
            each["summary"].get("total-failure-session-count", 0) for each in theirs["policies"]
        ]
    assert len(paths) == 7

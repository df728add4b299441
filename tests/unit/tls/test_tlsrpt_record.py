"""TLSRPT records, with the cases of another implementation (RFC 8460 §3)."""

from __future__ import annotations

import json

import pytest

from ekiden.tls.tlsrpt_record import https_of, mailbox_of, parse_record, report_places
from ekiden.tls.txt_fields import RecordError
from support.requirements import require_conformance


def test_records_that_others_judge() -> None:
    path = require_conformance("mta-sts-tlsrpt-dane", "tlsrpt-record-parse.mox.json")
    for case in json.loads(path.read_text("utf-8"))["cases"]:
        if case["valid"]:
            expected = [place for places in case["expect"]["RUAs"] for place in places]
            assert list(parse_record(case["input"])) == expected, case
        else:
            with pytest.raises(RecordError):
                print(case, parse_record(case["input"]))


def test_which_record_of_a_name_counts() -> None:
    good = b"v=TLSRPTv1;rua=mailto:r@x.test"
    assert report_places([b"other", good]) == ("mailto:r@x.test",)
    assert report_places([]) == report_places([good, good]) == report_places([b"v=TLSRPTv10;rua=mailto:r@x.test"]) == ()


def test_places_of_schemes_that_nobody_defined_are_left_out() -> None:
    assert parse_record("v=TLSRPTv1; rua=ftp://x.test/,mailto:r@x.test,http://x.test/") == ("mailto:r@x.test",)


@pytest.mark.parametrize(
    ("place", "mailbox", "https"),
    [
        ("mailto:r@x.test", "r@x.test", None),
        ("MAILTO:r%2Bx@x.test?subject=x", "r+x@x.test", None),
        ("mailto:r@x.test%0d%0aBcc:v@y.test", None, None),
        ("mailto:a@x.test%2Cb@y.test", None, None),
        ("mailto:nobody", None, None),
        ("https://r.x.test/in?a=b", None, ("r.x.test", 443, "/in?a=b")),
        ("https://r.x.test:8443", None, ("r.x.test", 8443, "/")),
        ("https://127.0.0.1/in", None, None),
        ("https://user:word@x.test/", None, None),
        ("https://x.test:99999/", None, None),
        ("http://x.test/", None, None),
    ],
)
def test_places(place: str, mailbox: str | None, https: tuple[str, int, str] | None) -> None:
    assert (mailbox_of(place), https_of(place)) == (mailbox, https)

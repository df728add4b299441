"""Counts for aggregate reports: what is counted, and what bounds it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, Verdicts
from ekiden.reports.aggregate import DkimResult, OverrideReason, Record, SpfResult
from ekiden.reports.collect import AggregateCounts, Counted, Evaluated
from support.dmarc import DAY, RECORD, count_some, counts, evaluated

TODAY = "2025-11-29"
LATER = "2025-12-31"


def counted(store: AggregateCounts, domain: str = "example.com") -> Counted:
    found = store.counted(TODAY, domain)
    assert found is not None
    return found


def test_messages_that_came_alike_are_one_record(tmp_path: Path) -> None:
    store = counts(tmp_path)
    for _ in range(3):
        store.add(evaluated())
    store.flush()
    store.add(evaluated())
    store.add(evaluated(passed=False, disposition=DmarcPolicy.REJECT, client="2001:db8::1"))
    store.flush()
    assert store.due(LATER) == [(TODAY, "example.com")]
    assert counted(store).records == (
        Record(
            "192.0.2.1", 4, "pass", "pass", "pass", "example.com",
            envelope_from="example.com",
            envelope_to="here.example",
            dkim_results=(DkimResult("example.com", "pass", "s1"),),
            spf_results=(SpfResult("example.com", "pass", "mfrom"),),
        ),
        Record(
            "2001:db8::1", 1, "reject", "fail", "fail", "example.com",
            envelope_from="example.com",
            envelope_to="here.example",
            dkim_results=(DkimResult("example.com", "fail", "s1"),),
            spf_results=(SpfResult("example.com", "fail", "mfrom"),),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        DmarcVerdict(Result.NONE, "example.com"),
        DmarcVerdict(Result.TEMPERROR, "example.com"),
        DmarcVerdict(Result.PASS, "example.com", "example.com", record="v=DMARC1; p=none"),
        DmarcVerdict(Result.PASS, "example.com", "example.com", record="v=DMARC1; p=none; ruf=mailto:a@example.com"),
        DmarcVerdict(Result.PASS, "example.com", "example.com", record="rua=mailto:a@example.com"),
    ],
)
def test_who_asks_for_no_report_is_not_counted(tmp_path: Path, verdict: DmarcVerdict | None) -> None:
    store = counts(tmp_path)
    store.add(Evaluated(Verdicts(dmarc=verdict), "192.0.2.1", DAY))
    store.flush()
    assert store.due(LATER) == []
    assert not (tmp_path / "dmarc.sqlite").exists() or store.counted(TODAY, "example.com") is None


def test_a_day_is_one_of_utc(tmp_path: Path) -> None:
    store = counts(tmp_path)
    for now in (DAY - 0.5, DAY + 0.5, DAY + 86399.5, DAY + 86400.5):
        store.add(evaluated(now=now))
    store.flush()
    assert store.due(LATER) == [
        ("2025-11-28", "example.com"), (TODAY, "example.com"), ("2025-11-30", "example.com"),
    ]  # fmt: skip
    assert [record.count for record in counted(store).records] == [2]
    assert store.due(TODAY) == [("2025-11-28", "example.com")]


@pytest.mark.parametrize(
    ("message", "disposition", "reasons"),
    [
        (evaluated(passed=False, disposition=DmarcPolicy.REJECT), "reject", ()),
        (evaluated(passed=False), "none", (OverrideReason("local_policy"),)),
        (
            evaluated(passed=False, reasons=(OverrideReason("mailing_list", "a list"),)),
            "none",
            (OverrideReason("mailing_list", "a list"),),
        ),
        (
            evaluated(
                passed=False,
                record=f"{RECORD}; t=y",
                policy=DmarcPolicy.QUARANTINE,
                disposition=DmarcPolicy.QUARANTINE,
            ),
            "quarantine",
            (OverrideReason("policy_test_mode"),),
        ),
        (evaluated(policy=DmarcPolicy.NONE), "none", ()),
    ],
)
def test_what_was_done_and_why_it_is_not_what_was_asked_for(
    tmp_path: Path, message: Evaluated, disposition: str, reasons: tuple[OverrideReason, ...]
) -> None:
    """RFC 9990 §3.1.1.9."""
    store = counts(tmp_path)
    store.add(message)
    store.flush()
    (record,) = counted(store).records
    assert (record.disposition, record.reasons) == (disposition, reasons)


def test_the_most_telling_signatures_come_first_and_not_too_many(tmp_path: Path) -> None:
    """RFC 9990 §3.1.3."""
    store = counts(tmp_path)
    signatures = (
        *(DkimVerdict(Result.FAIL, f"d{number}.example", "s") for number in range(150)),
        DkimVerdict(Result.PASS, "other.example", "s"),
        DkimVerdict(Result.PASS, "mail.example.com", "s"),
        DkimVerdict(Result.PASS, "example.com", "s"),
        DkimVerdict(Result.PERMERROR),
    )
    store.add(evaluated(signatures=signatures))
    store.flush()
    (record,) = counted(store).records
    assert [each.domain for each in record.dkim_results[:4]] == [
        "example.com", "mail.example.com", "other.example", "d0.example",
    ]  # fmt: skip
    assert len(record.dkim_results) == 20


def test_one_message_to_several_domains_counts_once(tmp_path: Path) -> None:
    store = counts(tmp_path)
    store.add(evaluated(envelope_to=("here.example", "there.example")))
    store.flush()
    (record,) = counted(store).records
    assert (record.count, record.envelope_to) == (1, "")


def test_reports_on_reports_come_to_an_end_but_nobody_hides_behind_their_look(tmp_path: Path) -> None:
    store = counts(tmp_path)
    store.add(evaluated(is_report=True))
    store.flush()
    assert store.due(LATER) == []
    store.add(evaluated(passed=False, is_report=True))
    store.flush()
    assert store.due(LATER) == [(TODAY, "example.com")]


def test_a_hundred_thousand_senders_of_one_day_fit(tmp_path: Path) -> None:
    store = counts(tmp_path, limit=500, record_limit=300, domain_limit=5)
    for number in range(100_000):
        store.add(evaluated(passed=False, from_domain=f"x{number}.example.com", client=f"10.0.{number % 256}.1"))
        if number % 50_000 == 49_999:
            assert len(store._waiting) <= 10_000
            store.flush()
    found = counted(store)
    assert len(found.records) == 300
    assert sum(record.count for record in found.records) + found.unlisted == 100_000
    assert (tmp_path / "dmarc.sqlite").stat().st_size < 2_000_000


def test_the_domains_of_one_day_are_bounded(tmp_path: Path) -> None:
    store = counts(tmp_path, limit=500, domain_limit=5)
    for number in range(12_000):
        store.add(evaluated(domain=f"x{number}.example"))
    assert len(store._policies) <= 10_000
    store.flush()
    assert len(store.due(LATER)) == 5


def test_the_record_that_was_seen_last_stands_for_the_day(tmp_path: Path) -> None:
    """RFC 9990 §3.1.1."""
    first, second = counts(tmp_path), counts(tmp_path)
    second.add(evaluated(record="v=DMARC1; p=none; rua=mailto:new@example.com", now=DAY + 500))
    second.flush()
    first.add(evaluated(now=DAY + 400))  # an older one that is written later
    first.flush()
    assert counted(first).record == "v=DMARC1; p=none; rua=mailto:new@example.com"
    assert sum(record.count for record in counted(second).records) == 2


def test_several_processes_count_into_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=count_some, args=(tmp_path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sum(record.count for record in counted(counts(tmp_path)).records) == 600


def test_a_file_that_cannot_be_written_costs_no_mail_and_no_count(tmp_path: Path) -> None:
    said: list[str] = []
    missing = tmp_path / "not there"
    store = counts(missing, said=said)
    store.add(evaluated())
    store.flush()
    store.add(evaluated())
    store.flush()
    assert len(said) == 1
    missing.mkdir()
    store.flush()
    assert [record.count for record in counted(store).records] == [2]


def test_what_strangers_wrote_is_kept_in_bounds(tmp_path: Path) -> None:
    store = counts(tmp_path)
    store.add(
        evaluated(
            passed=False,
            from_domain="<a>&\x00\udcff\u202e" + "x" * 1000,
            selector="s\r\nX: y\x1b[31m",
            envelope_from="\ud800",
        )
    )
    store.flush()
    (record,) = counted(store).records
    assert record.header_from.startswith("<a>&\ufffd\ufffd\ufffdxxx")
    assert len(record.header_from) == 255
    assert record.dkim_results[0].selector == "s\ufffd\ufffdX: y\ufffd[31m"
    assert record.envelope_from == "\ufffd"


def test_a_report_is_sent_by_one_alone_and_once(tmp_path: Path) -> None:
    first, second = counts(tmp_path), counts(tmp_path)
    where = TODAY, "example.com", "a@example.com"
    assert first.claim(*where, now=0.0, lease_s=600.0)
    assert not second.claim(*where, now=10.0, lease_s=600.0)
    assert not second.was_sent(*where)
    assert second.claim(*where, now=700.0, lease_s=600.0), "who claimed it died"
    second.release(*where)
    assert first.claim(*where, now=701.0, lease_s=600.0)
    first.sent(*where)
    assert second.was_sent(*where)
    assert not second.claim(*where, now=1e12, lease_s=600.0)


def test_what_is_counted_after_the_report_makes_no_other(tmp_path: Path) -> None:
    store = counts(tmp_path)
    store.add(evaluated())
    store.flush()
    store.finish(TODAY, "example.com", now=DAY + 90_000.0)
    store.add(evaluated())
    store.flush()
    assert store.due(LATER) == []
    store.finish("2025-12-31", "other.example", now=DAY + 33 * 86400.0)  # days later it is forgotten
    store.add(evaluated())
    store.flush()
    assert store.due(LATER) == [(TODAY, "example.com")]


def test_failure_reports_are_few_for_a_domain_and_in_all(tmp_path: Path) -> None:
    """RFC 9991 §2."""
    one, other = counts(tmp_path), counts(tmp_path)

    def allowed(store: AggregateCounts, domain: str, now: float = DAY) -> bool:
        return store.may_report_failure(domain, now=now, limit=2, total=3)

    assert [allowed(one, "a.example"), allowed(other, "a.example"), allowed(one, "a.example")] == [True, True, False]
    assert [allowed(other, "b.example"), allowed(one, "c.example")] == [True, False]
    assert allowed(one, "c.example", DAY + 86400)


def test_the_key_of_redaction_is_one_for_all(tmp_path: Path) -> None:
    key = counts(tmp_path).secret()
    assert key is not None
    assert len(key) == 32
    assert counts(tmp_path).secret() == key

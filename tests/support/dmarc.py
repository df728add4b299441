"""Verdicts of DMARC on messages that nobody sent, for tests of reports on them."""

from __future__ import annotations

from pathlib import Path

from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, SpfVerdict, Verdicts
from ekiden.reports.aggregate import OverrideReason
from ekiden.reports.collect import AggregateCounts, Evaluated

DAY = 1_764_374_400  # 2025-11-29, midnight UTC
RECORD = "v=DMARC1; p=reject; sp=quarantine; adkim=s; rua=mailto:dmarc@example.com; fo=1"


def evaluated(
    *,
    passed: bool = True,
    domain: str = "example.com",
    from_domain: str = "",
    record: str = RECORD,
    policy: DmarcPolicy = DmarcPolicy.REJECT,
    disposition: DmarcPolicy = DmarcPolicy.NONE,
    selector: str = "s1",
    signatures: tuple[DkimVerdict, ...] | None = None,
    spf: SpfVerdict | None = None,
    client: str = "192.0.2.1",
    now: float = DAY + 60,
    envelope_from: str = "example.com",
    envelope_to: tuple[str, ...] = ("here.example",),
    reasons: tuple[OverrideReason, ...] = (),
    is_report: bool = False,
) -> Evaluated:
    """A message of ``domain``: with ``passed`` its signature and its client are good, else neither is."""
    result = Result.PASS if passed else Result.FAIL
    if signatures is None:
        signatures = (DkimVerdict(result, domain, selector),)
    dmarc = DmarcVerdict(
        result,
        from_domain=from_domain or domain,
        policy_domain=domain,
        organizational_domain=domain,
        policy=policy,
        spf_aligned=passed,
        dkim_aligned=passed,
        record=record,
    )
    return Evaluated(
        Verdicts(spf=spf or SpfVerdict(result, domain=envelope_from), dkim=signatures, dmarc=dmarc),
        client_address=client,
        now=now,
        envelope_from=envelope_from,
        envelope_to=envelope_to,
        disposition=disposition,
        reasons=reasons,
        is_report=is_report,
    )


def counts(
    directory: Path,
    *,
    limit: int = 1000,
    record_limit: int = 100,
    domain_limit: int = 100,
    said: list[str] | None = None,
) -> AggregateCounts:
    warned: list[str] = [] if said is None else said
    return AggregateCounts(
        directory / "dmarc.sqlite",
        limit=limit,
        record_limit=record_limit,
        domain_limit=domain_limit,
        warn=warned.append,
    )


def count_some(directory: Path, worker: int) -> None:
    """What one of several processes does: it counts 200 messages."""
    store = counts(directory)
    for number in range(200):
        store.add(evaluated(client=f"192.0.2.{number % 3}"))
        if number % 20 == worker:
            store.flush()
    while True:
        waiting = store.take()
        if store.write(waiting):
            break
        store.put_back(waiting)
    store.close()

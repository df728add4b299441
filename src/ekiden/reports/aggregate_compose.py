"""The aggregate report of one domain and day, made of what was counted (RFC 9990 §3.1.1)."""

from __future__ import annotations

import calendar
import time

from msgspec import Struct

from ekiden import __version__
from ekiden.auth.dmarc.record import DmarcRecord
from ekiden.reports.aggregate import AggregateReport, PolicyPublished
from ekiden.reports.collect import Counted
from ekiden.reports.request import parsed

_DAY_S = 86400
_GENERATOR = f"Ekiden {__version__}"


class Reporting(Struct, frozen=True):
    """Who we are, in reports. ``host`` is a domain name: it makes the identifiers of reports our own."""

    organization: str
    email: str
    host: str
    extra_contact: str = ""


def compose(counted: Counted, reporting: Reporting) -> AggregateReport:
    begin = calendar.timegm(time.strptime(counted.day, "%Y-%m-%d"))
    record = parsed(counted.record)
    errors: list[str] = []
    if record is not None and record.faulty:
        # RFC 9990 §3.1.5: what its owner may want to repair.
        errors.append(f"tags of the record that were passed over: {', '.join(record.faulty)}")
    if counted.unlisted:
        errors.append(f"{counted.unlisted} more messages are not listed: they were too different from each other")
    return AggregateReport(
        org_name=reporting.organization,
        email=reporting.email,
        extra_contact_info=reporting.extra_contact,
        # The same for the same report, so that one that is sent again is known (RFC 9990 §3.5.1).
        report_id=f"{counted.day}.{counted.domain}@{reporting.host}",
        begin=begin,
        end=begin + _DAY_S - 1,
        policy=_published(counted, record),
        records=counted.records,
        errors=tuple(errors),
        generator=_GENERATOR,
    )


def _published(counted: Counted, record: DmarcRecord | None) -> PolicyPublished:
    """RFC 9990 §3.1.1.5: what the record says, or its default."""
    if record is None:
        return PolicyPublished(counted.domain, p="none", discovery_method=counted.discovery)
    subdomains = record.subdomain_policy or record.policy
    return PolicyPublished(
        domain=counted.domain,
        p=record.policy.value,
        sp=subdomains.value,
        np=(record.nonexistent_policy or subdomains).value,
        adkim="s" if record.dkim_strict else "r",
        aspf="s" if record.spf_strict else "r",
        fo=":".join(record.failure_options),
        testing="y" if record.testing else "n",
        psd=record.psd.value,
        discovery_method=counted.discovery,
    )

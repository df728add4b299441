"""``ekiden tlsrpt ...``: what is counted of TLS with other servers, and reports on it, ours and others' (RFC 8460)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

import msgspec

from ekiden.cli import queue_access
from ekiden.cli.printable import printable
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.report_state import send_due, state_path
from ekiden.config.load import Configuration
from ekiden.tls.tlsrpt import PolicyResult, compose
from ekiden.tls.tlsrpt_store import TlsrptStore

_ALL_DAYS = "9999"


def show(options: argparse.Namespace) -> int:
    """What is not reported yet."""
    found = queue_access.configuration(options.config)
    store = _store(found)
    if store is None:
        return 0
    parameters = found.parameters
    for day, domain in store.domains(_ALL_DAYS):
        report = compose(
            day,
            domain,
            store.counts(day, domain),
            organization=parameters.tlsrpt_organization_name,
            contact=parameters.tlsrpt_contact_info,
            host=parameters.myhostname,
        )
        if options.json:
            print_lines([json.dumps(msgspec.to_builtins(report), ensure_ascii=False)])
        else:
            print_lines(_lines(f"{day} {domain}", report.policies))
    store.close()
    return 0


def received(options: argparse.Namespace) -> int:
    """What others sent."""
    store = _store(queue_access.configuration(options.config))
    if store is None:
        return 0
    for one in store.all_received():
        report = one.report
        if options.json:
            facts = {"received": one.at, "sender": one.sender, "report": msgspec.to_builtins(report)}
            print_lines([json.dumps(facts, ensure_ascii=False)])
            continue
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.at))
        day = report.date_range.start_datetime[:10]
        print_lines(_lines(f"{when} from {report.organization_name or one.sender} on {day}", report.policies))
    store.close()
    return 0


def send(options: argparse.Namespace) -> int:
    """Report now what is due."""
    return send_due(options.config, "tls")


def _store(found: Configuration) -> TlsrptStore | None:
    """None where nothing was ever counted or received. Raises CommandTrouble."""
    path = state_path(found, "tls", "tlsrpt.sqlite")
    if path is None:
        return None
    return TlsrptStore(path, limit=found.parameters.tlsrpt_store_limit, time=time.time, warn=queue_access.complain)


def _lines(head: str, policies: tuple[PolicyResult, ...]) -> Iterator[str]:
    """One line a policy and one a failure; what strangers wrote must not drive the terminal."""
    for result in policies:
        summary = result.summary
        yield printable(
            f"{head}: {result.policy.policy_type} {result.policy.policy_domain}: "
            f"{summary.total_successful_session_count} sessions good, {summary.total_failure_session_count} failed"
        )
        for failure in result.failure_details:
            host = failure.receiving_mx_hostname or failure.receiving_ip or "-"
            why = f"{failure.result_type} {host} {failure.failure_reason_code}".rstrip()
            yield printable(f"    {failure.failed_session_count} {why}")

"""What is counted for reports on TLS, and the reports that others sent: one file that all workers share (RFC 8460 §4).

In:   sessions as they end; times in seconds since the epoch; received reports.
Out:  the counts of a domain and day; what has been reported where; received reports.
Never: writes for every session (counts wait in memory for a flush), grows without bounds, raises when the file is full,
       locked or broken: reports are worth no mail.

A count is lost when a worker is killed within seconds of the session; nothing else is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from ekiden.message.host import Host
from ekiden.tls.dane_records import ServerRecords
from ekiden.tls.mta_sts import Policy
from ekiden.tls.policy import TlsOutcome
from ekiden.tls.state_file import StateFile
from ekiden.tls.tlsrpt import Count, FailureDetails, PolicyDescription, Report, day_of, encode

_WAITING_LIMIT = 5000  # different counts that wait for a flush
_DETAIL_CHARACTERS = 200
_RECEIVED_S = 90 * 86400.0
_RECEIVED_BYTES = 256 * 1024 * 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    day TEXT NOT NULL, domain TEXT NOT NULL, policy BLOB NOT NULL, failure BLOB NOT NULL, sessions INTEGER NOT NULL,
    PRIMARY KEY (day, domain, policy, failure)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reported (
    day TEXT NOT NULL, domain TEXT NOT NULL, place TEXT NOT NULL, PRIMARY KEY (day, domain, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, sender TEXT NOT NULL, organization TEXT NOT NULL,
    report_id TEXT NOT NULL, report BLOB NOT NULL, UNIQUE (organization, report_id)
);
"""

_Key = tuple[str, str, PolicyDescription, FailureDetails | None]


class Received(Struct, frozen=True):
    """A report that somebody sent us."""

    at: float
    sender: str
    report: Report


class TlsrptStore:
    """Counts of deliver.tls_policies, and the rest. ``limit``: the most rows of each kind. ``time``: the wall clock.

    ``received_s``: how long reports of others are kept; ``received_bytes``: how long they may be together.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit: int,
        time: Callable[[], float],
        warn: Callable[[str], None],
        received_s: float = _RECEIVED_S,
        received_bytes: int = _RECEIVED_BYTES,
    ) -> None:
        self._limit = limit
        self._received_s = received_s
        self._received_bytes = received_bytes
        self._time = time
        self._waiting: dict[_Key, int] = {}
        self._file = StateFile(
            path, _SCHEMA, consequence="what is counted for reports on TLS waits or is lost", warn=warn
        )

    # -- Counts --

    def tlsa(self, domain: str, host: Host, records: ServerRecords, outcome: TlsOutcome) -> None:
        lines = tuple(f"{each.usage} {each.selector} {each.matching} {each.data.hex()}" for each in records.records)
        policy = PolicyDescription("tlsa", domain, lines, (records.base or host.name,))
        self._count(domain, policy, host, outcome)

    def sts(self, domain: str, host: Host, policy: Policy | None, outcome: TlsOutcome) -> None:
        known = PolicyDescription("sts", domain) if policy is None else _sts(domain, policy)
        self._count(domain, known, host, outcome)

    def none(self, domain: str, host: Host, outcome: TlsOutcome) -> None:
        self._count(domain, PolicyDescription("no-policy-found", domain), host, outcome)

    def _count(self, domain: str, policy: PolicyDescription, host: Host, outcome: TlsOutcome) -> None:
        failure: FailureDetails | None = None
        if outcome.problem is not None:
            failure = FailureDetails(
                outcome.problem.value,
                sending_mta_ip=outcome.local_address,
                receiving_mx_hostname=host.name,
                receiving_mx_helo=outcome.helo[:_DETAIL_CHARACTERS],
                receiving_ip=host.address,
                failure_reason_code=outcome.detail[:_DETAIL_CHARACTERS],
            )
        key = day_of(self._time()), domain, policy, failure
        waiting = self._waiting
        if key not in waiting and len(waiting) >= _WAITING_LIMIT:
            return
        waiting[key] = waiting.get(key, 0) + 1

    def flush(self) -> None:
        """Write what was counted since the last time."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}

        def write(database: sqlite3.Connection) -> bool:
            (rows,) = database.execute("SELECT count(*) FROM session").fetchone()
            for (day, domain, policy, failure), sessions in waiting.items():
                values = day, domain, _packed(policy), b"" if failure is None else _packed(failure)
                changed = database.execute(
                    "UPDATE session SET sessions = sessions + ? "
                    "WHERE day = ? AND domain = ? AND policy = ? AND failure = ?",
                    (sessions, *values),
                ).rowcount
                if not changed and rows < self._limit:
                    database.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?)", (*values, sessions))
                    rows += 1
            return True

        if not self._file.use(write):  # they wait for the next time, as far as there is room
            for key, sessions in waiting.items():
                if key in self._waiting or len(self._waiting) < _WAITING_LIMIT:
                    self._waiting[key] = self._waiting.get(key, 0) + sessions

    # -- reports of ours --

    def domains(self, before: str) -> list[tuple[str, str]]:
        """Days before that one, and the domains counted on each."""
        return (
            self._file.use(
                lambda database: list(
                    database.execute(
                        "SELECT DISTINCT day, domain FROM session WHERE day < ? ORDER BY day, domain", (before,)
                    )
                )
            )
            or []
        )

    def counts(self, day: str, domain: str) -> list[Count]:
        def read(database: sqlite3.Connection) -> list[Count]:
            rows = database.execute(
                "SELECT policy, failure, sessions FROM session WHERE day = ? AND domain = ? ORDER BY policy, failure",
                (day, domain),
            )
            return [
                Count(_unpack_policy.decode(policy), _unpack_failure.decode(failure) if failure else None, sessions)
                for policy, failure, sessions in rows
            ]

        return self._file.use(read) or []

    def was_reported(self, day: str, domain: str, place: str) -> bool:
        return bool(
            self._file.use(
                lambda database: database.execute(
                    "SELECT 1 FROM reported WHERE day = ? AND domain = ? AND place = ?", (day, domain, place)
                ).fetchone()
            )
        )

    def reported(self, day: str, domain: str, place: str) -> None:
        self._file.use(
            lambda database: database.execute("INSERT OR IGNORE INTO reported VALUES (?, ?, ?)", (day, domain, place))
        )

    def forget(self, day: str, domain: str) -> None:
        """The report was sent, or is not wanted."""

        def write(database: sqlite3.Connection) -> None:
            for table in ("session", "reported"):
                database.execute(f"DELETE FROM {table} WHERE day = ? AND domain = ?", (day, domain))  # noqa: S608

        self._file.use(write)

    # -- reports of others --

    def receive(self, received: Received) -> bool:
        """Keep a report; False where that cannot be done now. One that came before is kept once."""
        report = received.report

        def write(database: sqlite3.Connection) -> bool:
            database.execute("DELETE FROM received WHERE at < ?", (self._time() - self._received_s,))
            row = received.at, received.sender, report.organization_name, report.report_id, encode(report)
            database.execute(
                "INSERT OR IGNORE INTO received (at, sender, organization, report_id, report) VALUES (?, ?, ?, ?, ?)",
                row,
            )
            (count,) = database.execute("SELECT count(*) FROM received").fetchone()
            if count > self._limit:
                database.execute(
                    "DELETE FROM received WHERE number IN (SELECT number FROM received ORDER BY number LIMIT ?)",
                    (count - self._limit,),
                )
            (size,) = database.execute("SELECT sum(length(report)) FROM received").fetchone()
            while size is not None and size > self._received_bytes:
                number, length = database.execute(
                    "SELECT number, length(report) FROM received ORDER BY number LIMIT 1"
                ).fetchone()
                database.execute("DELETE FROM received WHERE number = ?", (number,))
                size -= length
            return True

        return bool(self._file.use(write))

    def all_received(self) -> Sequence[Received]:
        rows = self._file.use(
            lambda database: database.execute("SELECT at, sender, report FROM received ORDER BY number").fetchall()
        )
        return [Received(at, sender, _unpack_report.decode(report)) for at, sender, report in rows or ()]

    def close(self) -> None:
        self.flush()
        self._file.close()


def _sts(domain: str, policy: Policy) -> PolicyDescription:
    return PolicyDescription("sts", domain, policy.lines(), policy.mx)


_packed = msgspec.json.Encoder().encode
_unpack_policy = msgspec.json.Decoder(PolicyDescription)
_unpack_failure = msgspec.json.Decoder(FailureDetails)
_unpack_report = msgspec.json.Decoder(Report)

"""The reports that others sent on mail of ours: one file that all workers share.

In:   reports as they come; the time in seconds since the epoch.
Out:  each once, from oldest to newest.
Never: keeps a report twice (RFC 9990 §3.5.4), longer than it should, or more than there is room for; goes by the times
       that a report claims; raises when the file is full, locked or broken.
"""

from __future__ import annotations

import enum
import hashlib
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.feedback import FeedbackReport
from ekiden.tls.state_file import StateFile

_ROW_BYTES = 200  # what a row takes beside its report
_KEY_CHARACTERS = 300
_SCHEMA = """
CREATE TABLE IF NOT EXISTS report (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, maker TEXT NOT NULL, domain TEXT NOT NULL,
    report_id TEXT NOT NULL, sender TEXT NOT NULL, proven INTEGER, problems BLOB NOT NULL, size INTEGER NOT NULL,
    report BLOB NOT NULL,
    UNIQUE (kind, maker, domain, report_id)
);
CREATE INDEX IF NOT EXISTS report_size ON report (at, size);
"""


class Kept(enum.Enum):
    KEPT = "kept"
    KNOWN = "kept before"
    TROUBLE = "cannot be kept now"


class ReceivedReport(Struct, frozen=True):
    at: float  # when it came
    sender: str  # the envelope's
    report: AggregateReport | FeedbackReport
    problems: tuple[str, ...] = ()
    proven: bool | None = None  # whether DMARC proved the mail's author; None: nobody looked


class ReceivedReports:
    def __init__(
        self,
        path: Path,
        *,
        retention_s: float,
        limit_bytes: int,
        time: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        """``retention_s``: how long a report is kept; ``limit_bytes``: how long all may be together, unpacked."""
        self._retention_s = retention_s
        self._limit_bytes = limit_bytes
        self._time = time
        self._file = StateFile(path, _SCHEMA, consequence="reports of others wait or are left out", warn=warn)

    def receive(self, received: ReceivedReport) -> Kept:
        octets = _encoder.encode(received.report)
        packed = zlib.compress(octets, 3)
        kind, maker, domain, report_id = _key(received.report, octets)
        problems = msgspec.msgpack.encode(received.problems)
        size = len(octets) + len(problems) + _ROW_BYTES  # unpacked: what it costs to read them all is bounded, too

        def write(database: sqlite3.Connection) -> Kept:
            database.execute("DELETE FROM report WHERE at < ?", (self._time() - self._retention_s,))
            added = database.execute(
                "INSERT OR IGNORE INTO report "
                "(at, kind, maker, domain, report_id, sender, proven, problems, size, report) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (received.at, kind, maker, domain, report_id, received.sender, received.proven, problems, size, packed),
            ).rowcount
            if not added:
                return Kept.KNOWN
            self._make_room(database)
            return Kept.KEPT

        return self._file.use(write) or Kept.TROUBLE

    def _make_room(self, database: sqlite3.Connection) -> None:
        (total,) = database.execute("SELECT sum(size) FROM report").fetchone()
        while total > self._limit_bytes:
            number, size = database.execute("SELECT number, size FROM report ORDER BY at, number LIMIT 1").fetchone()
            database.execute("DELETE FROM report WHERE number = ?", (number,))
            total -= size

    def each(self, since: float, consume: Callable[[ReceivedReport], None]) -> bool:
        """Give those that came since then, one at a time; False when not all could be read."""

        def read(database: sqlite3.Connection) -> bool:
            rows = database.execute(
                "SELECT at, kind, sender, proven, problems, report FROM report WHERE at >= ? ORDER BY at, number",
                (since,),
            )
            for at, kind, sender, proven, problems, packed in rows:
                report = _unpack(kind, packed)
                is_proven = None if proven is None else bool(proven)
                consume(ReceivedReport(at, sender, report, _problems.decode(problems), is_proven))
            return True

        return bool(self._file.use(read))

    def close(self) -> None:
        self._file.close()


def maker(report: AggregateReport) -> str:
    """Who made it, as a name that stays the same."""
    return (report.org_name or report.email.rpartition("@")[2]).lower()


def _key(report: AggregateReport | FeedbackReport, octets: bytes) -> tuple[str, str, str, str]:
    """What tells a report from others: its number, by whom and about whom; or all that it says, where it has none."""
    digest = hashlib.sha256(octets).hexdigest()
    if isinstance(report, FeedbackReport):
        return "feedback", "", "", digest
    number = report.report_id if len(report.report_id) <= _KEY_CHARACTERS else ""
    return "aggregate", maker(report)[:_KEY_CHARACTERS], report.policy.domain[:_KEY_CHARACTERS], number or digest


_encoder = msgspec.msgpack.Encoder()
_aggregate = msgspec.msgpack.Decoder(AggregateReport)
_feedback = msgspec.msgpack.Decoder(FeedbackReport)
_problems = msgspec.msgpack.Decoder(tuple[str, ...])


def _unpack(kind: str, packed: bytes) -> AggregateReport | FeedbackReport:
    """Raises msgspec.MsgspecError."""
    try:
        octets = zlib.decompress(packed)
    except zlib.error as error:
        raise msgspec.DecodeError(f"a report that is kept is broken: {error}") from None
    return _feedback.decode(octets) if kind == "feedback" else _aggregate.decode(octets)

"""What DMARC found of each message, counted by domain and day for aggregate reports: one file that all workers share.

In:   one Evaluated a message; from time to time a flush.
Out:  the counts of a domain and day as the records of an aggregate report (RFC 9990 §3.1.1); what went where.
Never: writes or waits for a message (counts wait in memory for a flush), counts for who asks for no report, grows
       without bounds, raises when the file is full, locked or broken: reports are worth no mail.

A count is lost when a worker is killed before the flush; nothing else is. What goes beyond a limit is not listed by
itself, but its messages are counted.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, DmarcVerdict, Result, SpfVerdict, Verdicts
from ekiden.reports.aggregate import DkimResult, OverrideReason, Record, SpfResult
from ekiden.reports.request import parsed
from ekiden.tls.state_file import StateFile
from ekiden.tls.tlsrpt import day_of

R = TypeVar("R")

_WAITING_LIMIT = 10_000  # different records that wait for a flush, and as many domains
_NAME_LIMIT_CHARACTERS = 255
_COMMENT_LIMIT_CHARACTERS = 200
# RFC 9990 §3.1.3 allows 100; who signs that often hides among them.
_SIGNATURES_LIMIT = 20
_DAY_S = 86400
_DAYS_REMEMBERED = 7  # what was reported, so that a late count does not make a second report
_SECRET_BYTES = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS policy (
    day TEXT NOT NULL, domain TEXT NOT NULL, record TEXT NOT NULL, organization TEXT NOT NULL, discovery TEXT NOT NULL,
    seen REAL NOT NULL, records INTEGER NOT NULL, unlisted INTEGER NOT NULL, PRIMARY KEY (day, domain)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    day TEXT NOT NULL, domain TEXT NOT NULL, record BLOB NOT NULL, messages INTEGER NOT NULL,
    PRIMARY KEY (day, domain, record)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS place (
    day TEXT NOT NULL, domain TEXT NOT NULL, place TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (day, domain, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS finished (
    day TEXT NOT NULL, domain TEXT NOT NULL, PRIMARY KEY (day, domain)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failure (
    day TEXT NOT NULL, domain TEXT NOT NULL, reports INTEGER NOT NULL, PRIMARY KEY (day, domain)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, octets BLOB NOT NULL) WITHOUT ROWID;
"""


class Evaluated(Struct, frozen=True):
    """What the policy point knows of one message. Domains are A-labels; they may hold what strangers wrote."""

    verdicts: Verdicts
    client_address: str
    now: float  # seconds since the epoch
    envelope_from: str = ""  # the domain of MAIL FROM; "" for the null sender
    envelope_to: tuple[str, ...] = ()  # the domains of the recipients
    disposition: DmarcPolicy = DmarcPolicy.NONE  # what was done with it
    reasons: tuple[OverrideReason, ...] = ()  # why that is not what the policy asks for
    discovery: str = "tree-walk"  # or "public-suffix"
    is_report: bool = False  # it looks like a report itself (reports.request.looks_like_report)


class Counted(Struct, frozen=True):
    """What is known of one domain and day. ``record``: the one of DNS that was seen last."""

    day: str
    domain: str
    record: str
    organization: str
    discovery: str  # as RFC 9990 §3.1.1.5 has it: treewalk, psl
    records: tuple[Record, ...]
    unlisted: int  # messages beyond the limits


class _Policy(Struct, frozen=True):
    record: str
    organization: str
    discovery: str
    seen: float


_Key = tuple[str, str, Record]


class AggregateCounts:
    """``limit`` and ``record_limit``: the most records of all domains, and of one domain and day; ``domain_limit``: the
    most domains of one day. ``add``, ``take`` and the rest may be called from different threads, but for ``add`` and
    ``take`` among themselves.
    """

    def __init__(
        self, path: Path, *, limit: int, record_limit: int, domain_limit: int, warn: Callable[[str], None]
    ) -> None:
        self._limit, self._record_limit, self._domain_limit = limit, record_limit, domain_limit
        self._waiting: dict[_Key, int] = {}
        self._unlisted: dict[tuple[str, str], int] = {}
        self._policies: dict[tuple[str, str], _Policy] = {}
        self._lock = threading.Lock()  # the connection is one
        self._file = StateFile(
            path, _SCHEMA, consequence="what is counted for reports of DMARC waits or is lost", warn=warn
        )

    # -- counting

    def add(self, evaluated: Evaluated) -> None:
        dmarc = evaluated.verdicts.dmarc
        if dmarc is None or not dmarc.record or not dmarc.policy_domain:
            return
        record = parsed(dmarc.record)
        if record is None or not record.rua:
            return
        if evaluated.is_report and dmarc.result is Result.PASS:
            # Two hosts that report to each other about their reports would never end. One that fails is counted: its
            # look must not hide it.
            return
        where = _day(int(evaluated.now) // _DAY_S), _clean(dmarc.policy_domain)
        policies = self._policies
        if where not in policies and len(policies) >= _WAITING_LIMIT:
            return
        policies[where] = _Policy(
            dmarc.record,
            dmarc.organizational_domain,
            "psl" if evaluated.discovery in ("public-suffix", "psl") else "treewalk",
            evaluated.now,
        )
        key = *where, _record(evaluated, dmarc, is_testing=record.testing)
        waiting = self._waiting
        if key in waiting:
            waiting[key] += 1
        elif len(waiting) < _WAITING_LIMIT:
            waiting[key] = 1
        else:
            self._unlisted[where] = self._unlisted.get(where, 0) + 1

    def take(self) -> Waiting:
        """What waits, for ``write``; it does not wait any more."""
        taken = Waiting(self._waiting, self._unlisted, self._policies)
        self._waiting, self._unlisted, self._policies = {}, {}, {}
        return taken

    def write(self, waiting: Waiting) -> bool:
        """False: it could not be written now; give it to ``put_back``."""
        if not waiting.policies:
            return True

        def work(database: sqlite3.Connection) -> bool:
            _Writing(database, self._limit, self._record_limit, self._domain_limit).write(waiting)
            return True

        return bool(self._use(work))

    def put_back(self, waiting: Waiting) -> None:
        """It waits for the next time, as far as there is room."""
        for where, policy in waiting.policies.items():
            if len(self._policies) < _WAITING_LIMIT:
                self._policies.setdefault(where, policy)
        for where, messages in waiting.unlisted.items():
            if where in self._policies:
                self._unlisted[where] = self._unlisted.get(where, 0) + messages
        for key, messages in waiting.counts.items():
            where = key[:2]
            if where not in self._policies:
                continue
            if key in self._waiting or len(self._waiting) < _WAITING_LIMIT:
                self._waiting[key] = self._waiting.get(key, 0) + messages
            else:
                self._unlisted[where] = self._unlisted.get(where, 0) + messages

    def flush(self) -> None:
        waiting = self.take()
        if not self.write(waiting):
            self.put_back(waiting)

    # -- reporting

    def due(self, before: str) -> list[tuple[str, str]]:
        """Days before that one, and the domains counted on each, that are not reported yet."""
        return (
            self._use(
                lambda database: list(
                    database.execute("SELECT day, domain FROM policy WHERE day < ? ORDER BY day, domain", (before,))
                )
            )
            or []
        )

    def counted(self, day: str, domain: str) -> Counted | None:
        def read(database: sqlite3.Connection) -> Counted | None:
            row = database.execute(
                "SELECT record, organization, discovery, unlisted FROM policy WHERE day = ? AND domain = ?",
                (day, domain),
            ).fetchone()
            if row is None:
                return None
            record, organization, discovery, unlisted = row
            rows = database.execute(
                "SELECT record, messages FROM message WHERE day = ? AND domain = ? ORDER BY messages DESC, record",
                (day, domain),
            )
            records = tuple(
                msgspec.structs.replace(_unpack.decode(packed), count=messages) for packed, messages in rows
            )
            return Counted(day, domain, record, organization, discovery, records, unlisted)

        return self._use(read)

    def claim(self, day: str, domain: str, place: str, *, now: float, lease_s: float) -> bool:
        """Whether the report may be sent there now by the caller alone; ``sent`` or ``release`` says how it ended.

        A claim that nobody ended, because the process did, is free again after ``lease_s``.
        """

        def write(database: sqlite3.Connection) -> bool:
            return bool(
                database.execute(
                    "INSERT INTO place VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET until = excluded.until WHERE until < ?",
                    (day, domain, place, now + lease_s, now),
                ).rowcount
            )

        return bool(self._use(write))

    def sent(self, day: str, domain: str, place: str) -> None:
        self._until(day, domain, place, float("inf"))

    def release(self, day: str, domain: str, place: str) -> None:
        self._until(day, domain, place, 0.0)

    def was_sent(self, day: str, domain: str, place: str) -> bool:
        row = self._use(
            lambda database: database.execute(
                "SELECT until FROM place WHERE day = ? AND domain = ? AND place = ?", (day, domain, place)
            ).fetchone()
        )
        return row is not None and row[0] == float("inf")

    def finish(self, day: str, domain: str, *, now: float) -> None:
        """The report was sent, or is not wanted: what is counted of that day later makes no other."""
        oldest = day_of(now - _DAYS_REMEMBERED * _DAY_S)

        def write(database: sqlite3.Connection) -> None:
            for table in ("policy", "message"):
                database.execute(f"DELETE FROM {table} WHERE day = ? AND domain = ?", (day, domain))  # noqa: S608
            database.execute("INSERT OR IGNORE INTO finished VALUES (?, ?)", (day, domain))
            for table in ("finished", "place", "failure"):
                database.execute(f"DELETE FROM {table} WHERE day < ?", (oldest,))  # noqa: S608

        self._use(write)

    # -- failure reports

    def may_report_failure(self, domain: str, *, now: float, limit: int, total: int) -> bool:
        """Whether one more failure report may go to that domain today; it is counted then (RFC 9991 §2)."""
        day = day_of(now)

        def write(database: sqlite3.Connection) -> bool:
            (reports,) = database.execute("SELECT total(reports) FROM failure WHERE day = ?", (day,)).fetchone()
            if reports >= total or not limit:
                return False
            return bool(
                database.execute(
                    "INSERT INTO failure VALUES (?, ?, 1) "
                    "ON CONFLICT DO UPDATE SET reports = reports + 1 WHERE reports < ?",
                    (day, domain, limit),
                ).rowcount
            )

        return bool(self._use(write))

    def secret(self) -> bytes | None:
        """The key of redaction, the same in all workers and over restarts (RFC 6590 §3). None: not to be had now."""

        def write(database: sqlite3.Connection) -> bytes:
            database.execute(
                "INSERT OR IGNORE INTO secret VALUES ('redaction', ?)", (secrets.token_bytes(_SECRET_BYTES),)
            )
            (octets,) = database.execute("SELECT octets FROM secret WHERE name = 'redaction'").fetchone()
            return bytes(octets)

        return self._use(write)

    def close(self) -> None:
        self.flush()
        with self._lock:
            self._file.close()

    def _until(self, day: str, domain: str, place: str, until: float) -> None:
        self._use(
            lambda database: database.execute(
                "UPDATE place SET until = ? WHERE day = ? AND domain = ? AND place = ?", (until, day, domain, place)
            )
        )

    def _use(self, work: Callable[[sqlite3.Connection], R]) -> R | None:
        with self._lock:
            return self._file.use(work)


class Waiting(Struct, frozen=True):
    counts: dict[_Key, int]
    unlisted: dict[tuple[str, str], int]
    policies: dict[tuple[str, str], _Policy]


class _Writing:
    """One flush, in one transaction."""

    def __init__(self, database: sqlite3.Connection, limit: int, record_limit: int, domain_limit: int) -> None:
        self._database = database
        self._record_limit, self._domain_limit = record_limit, domain_limit
        (rows,) = database.execute("SELECT count(*) FROM message").fetchone()
        self._room = limit - rows

    def write(self, waiting: Waiting) -> None:
        database = self._database
        known = {where: self._policy(*where, policy) for where, policy in waiting.policies.items()}
        unlisted = dict(waiting.unlisted)
        added: dict[tuple[str, str], int] = {}
        for (day, domain, record), messages in waiting.counts.items():
            where = day, domain
            records = known.get(where)
            if records is None:
                continue
            packed = _pack(record)
            changed = database.execute(
                "UPDATE message SET messages = messages + ? WHERE day = ? AND domain = ? AND record = ?",
                (messages, day, domain, packed),
            ).rowcount
            if changed:
                continue
            if self._room > 0 and records + added.get(where, 0) < self._record_limit:
                database.execute("INSERT INTO message VALUES (?, ?, ?, ?)", (day, domain, packed, messages))
                added[where] = added.get(where, 0) + 1
                self._room -= 1
            else:
                unlisted[where] = unlisted.get(where, 0) + messages
        for where in {*added, *unlisted}:
            if known.get(where) is not None:
                database.execute(
                    "UPDATE policy SET records = records + ?, unlisted = unlisted + ? WHERE day = ? AND domain = ?",
                    (added.get(where, 0), unlisted.get(where, 0), *where),
                )

    def _policy(self, day: str, domain: str, policy: _Policy) -> int | None:
        """How many records the domain has on that day; None where none are kept of it."""
        database, where = self._database, (day, domain)
        if database.execute("SELECT 1 FROM finished WHERE day = ? AND domain = ?", where).fetchone():
            return None
        row = database.execute("SELECT records, seen FROM policy WHERE day = ? AND domain = ?", where).fetchone()
        if row is None:
            (domains,) = database.execute("SELECT count(*) FROM policy WHERE day = ?", (day,)).fetchone()
            if domains >= self._domain_limit:
                return None
            database.execute(
                "INSERT INTO policy VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
                (*where, _text(policy.record), _clean(policy.organization), policy.discovery, policy.seen),
            )
            return 0
        records, seen = row
        if policy.seen >= seen:
            # RFC 9990 §3.1.1: of several configurations of one day the last may stand for all.
            database.execute(
                "UPDATE policy SET record = ?, organization = ?, discovery = ?, seen = ? WHERE day = ? AND domain = ?",
                (_text(policy.record), _clean(policy.organization), policy.discovery, policy.seen, *where),
            )
        return int(records)


def _record(evaluated: Evaluated, dmarc: DmarcVerdict, *, is_testing: bool) -> Record:
    passed = dmarc.result is Result.PASS
    disposition = evaluated.disposition
    reasons = evaluated.reasons
    if reasons:
        reasons = tuple(
            OverrideReason(_clean(reason.type), _clean(reason.comment, _COMMENT_LIMIT_CHARACTERS)) for reason in reasons
        )
    elif not passed and disposition is not dmarc.policy:
        # RFC 9990 §3.1.1.9: who does something else says why.
        reasons = (OverrideReason("local_policy"),)
    elif not passed and is_testing:
        reasons = (OverrideReason("policy_test_mode"),)
    to = evaluated.envelope_to
    return Record(
        source_ip=_clean(evaluated.client_address),
        count=0,
        # RFC 9990 Appendix A: "pass" is no action on authentic mail of a domain that enforces a policy.
        disposition="pass"
        if passed and disposition is DmarcPolicy.NONE and dmarc.policy is not DmarcPolicy.NONE
        else disposition.value,
        dkim="pass" if dmarc.dkim_aligned else "fail",
        spf="pass" if dmarc.spf_aligned else "fail",
        header_from=_clean(dmarc.from_domain),
        envelope_from=_clean(evaluated.envelope_from),
        envelope_to=_clean(to[0]) if len(to) == 1 else "",
        reasons=reasons,
        dkim_results=_signatures(evaluated.verdicts.dkim, dmarc),
        spf_results=_spf(evaluated.verdicts.spf),
    )


def _signatures(verdicts: Sequence[DkimVerdict], dmarc: DmarcVerdict) -> tuple[DkimResult, ...]:
    """RFC 9990 §3.1.3: the most telling first."""
    if len(verdicts) > 1:
        below = f".{dmarc.organizational_domain or dmarc.from_domain}"

        def rank(verdict: DkimVerdict) -> int:
            if verdict.result is not Result.PASS:
                return 3
            if verdict.domain == dmarc.from_domain:
                return 0
            return 1 if f".{verdict.domain}".endswith(below) else 2

        verdicts = sorted(verdicts, key=rank)[:_SIGNATURES_LIMIT]
    return tuple(
        DkimResult(_clean(each.domain), each.result.value, _clean(each.selector)) for each in verdicts if each.domain
    )


def _spf(verdict: SpfVerdict | None) -> tuple[SpfResult, ...]:
    if verdict is None:
        return ()
    return (SpfResult(_clean(verdict.domain), verdict.result.value, "mfrom"),)


def _clean(text: str, limit: int = _NAME_LIMIT_CHARACTERS) -> str:
    """What strangers wrote, so that it can be packed and compared, in bounds."""
    if len(text) > limit:
        text = text[:limit]
    return text if text.isascii() and text.isprintable() else _text(text)


def _text(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


@lru_cache(maxsize=4)
def _day(number: int) -> str:
    return day_of(number * _DAY_S)


_pack = msgspec.json.Encoder().encode
_unpack = msgspec.json.Decoder(Record)

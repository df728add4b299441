"""The MTA-STS policies that were fetched, in a file that survives restarts and that all workers share (RFC 8461 §5.1).

In:   a path, the most rows; policies with their id and times (seconds since the epoch).
Out:  the policy of a domain while its max_age lasts; which domains are due for a refresh.
Never: waits for another process for longer than a moment, raises when the file is full, locked or broken: a policy that
       cannot be kept is fetched again, and one that was read stays in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from ekiden.tls.mta_sts import Policy, PolicyError, parse_policy
from ekiden.tls.state_file import StateFile

V = TypeVar("V")

_ABSENCE_S = 60.0  # how long another worker's new policy may go unnoticed
_SCHEMA = """
CREATE TABLE IF NOT EXISTS policy (
    domain TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    fetched REAL NOT NULL,
    expires REAL NOT NULL,
    text BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS policy_expires ON policy (expires);
CREATE INDEX IF NOT EXISTS policy_fetched ON policy (fetched);
"""


class Kept(Struct, frozen=True):
    """A policy as it was fetched. ``id`` is that of the record that led to it."""

    id: str
    policy: Policy
    fetched: float
    expires: float


class StsCache:
    """``warn`` hears what is wrong with the file, once each time that it begins to be."""

    def __init__(self, path: Path, *, limit: int, warn: Callable[[str], None]) -> None:
        self._limit = limit
        self._memory: dict[str, Kept] = {}
        self._absent: dict[str, float] = {}  # until when the file need not be asked again
        self._file = StateFile(path, _SCHEMA, consequence="MTA-STS policies are kept in memory", warn=warn)

    def get(self, domain: str, now: float) -> Kept | None:
        """The policy, if it has not expired."""
        kept = self._memory.get(domain)
        if kept is None or kept.expires <= now:
            # Most domains have none, and mail to them must not cost a look into the file each time.
            if now < self._absent.get(domain, 0.0) <= now + _ABSENCE_S:
                return None
            kept = self._read(domain)
            if kept is None or kept.expires <= now:
                self._memory.pop(domain, None)
                _put(self._absent, domain, now + _ABSENCE_S, self._limit)
                return None
            self._remember(domain, kept)
        return kept

    def renewed(self, domain: str, now: float) -> Kept | None:
        """As get(), but another process's newer policy counts."""
        kept = self._read(domain)
        if kept is not None and kept.expires > now:
            self._remember(domain, kept)
        return self.get(domain, now)

    def put(self, domain: str, kept: Kept) -> None:
        self._remember(domain, kept)
        text = "\n".join(kept.policy.lines()).encode()

        def write(database: sqlite3.Connection) -> None:
            row = domain, kept.id, kept.fetched, kept.expires, text
            database.execute("INSERT OR REPLACE INTO policy VALUES (?, ?, ?, ?, ?)", row)
            database.execute("DELETE FROM policy WHERE expires <= ?", (kept.fetched,))
            (count,) = database.execute("SELECT count(*) FROM policy").fetchone()
            if count > self._limit:
                database.execute(
                    "DELETE FROM policy WHERE domain IN (SELECT domain FROM policy ORDER BY expires LIMIT ?)",
                    (count - self._limit,),
                )

        self._file.use(write)

    def due(self, fetched_before: float, now: float, count: int) -> list[str]:
        """Up to ``count`` domains whose policies live and are older than that, the oldest first."""

        def read(database: sqlite3.Connection) -> list[str]:
            rows = database.execute(
                "SELECT domain FROM policy WHERE fetched < ? AND expires > ? ORDER BY fetched LIMIT ?",
                (fetched_before, now, count),
            )
            return [domain for (domain,) in rows]

        found: list[str] | None = self._file.use(read)
        return found or []

    def close(self) -> None:
        self._file.close()

    def _remember(self, domain: str, kept: Kept) -> None:
        self._absent.pop(domain, None)
        _put(self._memory, domain, kept, self._limit)

    def _read(self, domain: str) -> Kept | None:
        row = self._file.use(
            lambda database: database.execute(
                "SELECT id, fetched, expires, text FROM policy WHERE domain = ?", (domain,)
            ).fetchone()
        )
        if row is None:
            return None
        policy_id, fetched, expires, text = row
        try:
            return Kept(str(policy_id), parse_policy(bytes(text)), float(fetched), float(expires))
        except (PolicyError, TypeError, ValueError):
            return None


def _put(kept: dict[str, V], domain: str, value: V, limit: int) -> None:
    """What came first leaves first."""
    kept.pop(domain, None)
    while len(kept) >= limit:
        del kept[next(iter(kept))]
    kept[domain] = value

"""Accounts in the tables of a real MariaDB and a real PostgreSQL: stored passwords, hostile names, changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from ekiden.sasl.account_list import AccountList
from ekiden.sasl.accounts import Outcome, Verdict
from support.accounts import account_list, cheap_hashing
from support.databases import DatabaseServer, running_mariadb, running_postgres
from support.table_lookups import HOSTILE_KEYS

_BCRYPT = "{BLF-CRYPT}$2y$05$RvujgqXDFxZ7I2VmG2oW7.TaQDU1FX/lts54sDv2nOLT7R./jvz8u"
_SSHA = "{SSHA512}LDx3ZlhrQUN4E8JU0omKtxaFzV7ZZypAjzzVqgrYIKFWo3H+PtvJducbkIRugzVFg6lNZinIASaga4yflsRIs+sF5BI="
_QUERY = "SELECT password FROM users WHERE address = '%s' AND active = 1"
_TABLE = "CREATE TABLE users (address VARCHAR(200), password VARCHAR(200), active INT)"
_ROWS = [
    ("anna@example.com", _BCRYPT, 1), ("bert@example.com", _SSHA, 1), ("gone@example.com", _BCRYPT, 0),
    ("plain@example.com", "secret", 1), ("empty@example.com", "", 1), ("null@example.com", None, 1),
    ("twice@example.com", _SSHA, 1), ("twice@example.com", _BCRYPT, 1),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[DatabaseServer]:
    with running_mariadb() as running:
        with pymysql.connect(unix_socket=running.socket, user="root", autocommit=True) as root, root.cursor() as cursor:
            for statement in ("CREATE DATABASE mail CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "USE mail", _TABLE):
                cursor.execute(statement)
            cursor.executemany("INSERT INTO users VALUES (%s, %s, %s)", _ROWS)
        yield running


@pytest.fixture(scope="module")
def postgres() -> Iterator[DatabaseServer]:
    with running_postgres() as running:
        with _postgres(running) as connection:
            connection.execute(_TABLE)
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO users VALUES (%s, %s, %s)", _ROWS)
        yield running


def _postgres(server: DatabaseServer) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(f"host=127.0.0.1 port={server.port} user=mail dbname=postgres", autocommit=True)


async def look_around(accounts: AccountList) -> None:
    async def outcome(name: str, password: str) -> Outcome:
        return (await accounts.verify(name, password)).outcome

    assert await accounts.verify("Anna@example.com", "secret") == Verdict(Outcome.OK, "anna@example.com", known=True)
    assert await outcome("bert@example.com", "secret") is Outcome.OK
    for name in ("anna", "gone", "plain", "empty", "null", "twice", "nobody"):
        assert await outcome(f"{name}@example.com", "wrong") is Outcome.WRONG
        assert name == "anna" or await outcome(f"{name}@example.com", "secret") is Outcome.WRONG
    for name in HOSTILE_KEYS:
        assert await outcome(name, "secret") is Outcome.WRONG, name
        assert await outcome(f"{name}@example.com", name) is Outcome.WRONG, name


def test_mariadb(mariadb: DatabaseServer, tmp_path: Path) -> None:
    (tmp_path / "users.cf").write_text(
        f"hosts = unix:{mariadb.socket}\nuser = root\npassword =\ndbname = mail\nquery = {_QUERY}\n"
    )

    async def scene() -> None:
        accounts = account_list(tmp_path, sasl_accounts=f"table:mysql:{tmp_path}/users.cf")
        await look_around(accounts)
        await accounts.aclose()

    asyncio.run(scene())


def test_postgres_and_a_change_that_counts_at_once(postgres: DatabaseServer, tmp_path: Path) -> None:
    (tmp_path / "users.cf").write_text(
        f"hosts = 127.0.0.1:{postgres.port}\nuser = mail\npassword =\ndbname = postgres\nquery = {_QUERY}\n"
    )

    async def scene() -> None:
        accounts = account_list(tmp_path, sasl_accounts=f"table:pgsql:{tmp_path}/users.cf")
        await look_around(accounts)
        for _ in range(3):
            assert (await accounts.verify("anna@example.com", "secret")).accepted
        with _postgres(postgres) as connection:
            connection.execute("UPDATE users SET active = 0 WHERE address = 'anna@example.com'")
        assert (await accounts.verify("anna@example.com", "secret")).outcome is Outcome.WRONG
        postgres.stop()
        assert (await accounts.verify("anna@example.com", "secret")).outcome is Outcome.UNAVAILABLE
        await accounts.aclose()

    asyncio.run(scene())

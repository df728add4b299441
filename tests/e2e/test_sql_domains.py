"""Domains, mailboxes and aliases from a database: mail is delivered, and waits when the database is away."""

from __future__ import annotations

import contextlib
import os
import smtplib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from support.databases import DatabaseServer, running_mariadb, running_postgres
from support.deliverer_process import mails
from support.honours import honours
from support.requirements import require_root
from support.running import RunningServer, open_directory, wait_for

_UID = 5000 if os.geteuid() == 0 else os.geteuid()

_SQL = [
    "CREATE TABLE domains (name VARCHAR(100))",
    "CREATE TABLE mailboxes (address VARCHAR(100), path VARCHAR(100), uid INT)",
    "CREATE TABLE aliases (address VARCHAR(100), goto VARCHAR(100))",
    "INSERT INTO domains VALUES ('shop.example')",
    f"INSERT INTO mailboxes VALUES ('ann@shop.example', 'shop/ann/', {_UID})",
    f"INSERT INTO mailboxes VALUES ('bob@shop.example', 'shop/bob/', {_UID})",
    "INSERT INTO mailboxes VALUES ('root@shop.example', 'shop/root/', 0), ('out@shop.example', '../out/', 5000)",
    "INSERT INTO aliases VALUES ('all@shop.example', 'ann@shop.example'), ('all@shop.example', 'bob@shop.example')",
]
_QUERIES = {
    "virtual_mailbox_domains": "SELECT 1 FROM domains WHERE name = '%s'",
    "virtual_mailbox_maps": "SELECT path FROM mailboxes WHERE address = '%s'",
    "virtual_uid_maps": "SELECT uid FROM mailboxes WHERE address = '%s'",
    "virtual_gid_maps": "SELECT 5000 FROM mailboxes WHERE address = '%s'",
    "virtual_alias_maps": "SELECT goto FROM aliases WHERE address = '%s' ORDER BY goto",
}
_MYSQL_USER = "CREATE USER asks@'%' IDENTIFIED BY 's3cret'"
_MYSQL_RIGHTS = "GRANT SELECT ON mail.* TO asks@'%'"
_PGSQL_USER = "CREATE ROLE asks LOGIN PASSWORD 's3cret'"
_PGSQL_RIGHTS = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO asks"


class Database:
    """``settings``: how a table's file names it. ``pause`` takes it away and brings it back."""

    def __init__(self, kind: str, settings: str, pause: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self.kind, self.settings, self.pause = kind, settings, pause


@pytest.fixture(scope="module", params=["sqlite", "mysql", "pgsql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with {"sqlite": _sqlite, "mysql": _mysql, "pgsql": _pgsql}[request.param]() as made:
        yield made


@contextlib.contextmanager
def _sqlite() -> Iterator[Database]:
    with open_directory() as folder:
        path = folder / "mail.db"
        connection = sqlite3.connect(path)
        for statement in _SQL:
            connection.execute(statement)
        connection.commit()
        connection.close()
        path.chmod(0o644)

        @contextlib.contextmanager
        def pause() -> Iterator[None]:
            path.rename(folder / "elsewhere")
            yield
            (folder / "elsewhere").rename(path)

        yield Database("sqlite", f"dbpath = {path}", pause)


@contextlib.contextmanager
def _mysql() -> Iterator[Database]:
    with running_mariadb() as server:
        with pymysql.connect(unix_socket=server.socket, user="root", autocommit=True) as root, root.cursor() as cursor:
            for statement in ("CREATE DATABASE mail", "USE mail", *_SQL, _MYSQL_USER, _MYSQL_RIGHTS):
                cursor.execute(statement)
        yield Database("mysql", _network_settings(server, "mail"), lambda: _stopped(server))


@contextlib.contextmanager
def _pgsql() -> Iterator[Database]:
    with running_postgres() as server:
        with psycopg.connect(f"host={server.folder} port={server.port} user=mail dbname=postgres") as root:
            for statement in (_PGSQL_USER, *_SQL, _PGSQL_RIGHTS):
                root.execute(statement)
        root.close()
        yield Database("pgsql", _network_settings(server, "postgres"), lambda: _stopped(server))


def _network_settings(server: DatabaseServer, name: str) -> str:
    lines = [f"hosts = 127.0.0.1:{server.port}", "user = asks", "password = s3cret", f"dbname = {name}"]
    return "\n".join([*lines, "retry_interval = 0"])


@contextlib.contextmanager
def _stopped(server: DatabaseServer) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@pytest.fixture
def server(database: Database) -> Iterator[RunningServer]:
    with open_directory() as folder:
        tables = {}
        for name, query in _QUERIES.items():
            file = folder / f"{name}.cf"
            file.write_text(f"{database.settings}\nquery = {query}\n")
            tables[name] = f"{database.kind}:{file}"
        if os.geteuid() != 0:
            del tables["virtual_uid_maps"], tables["virtual_gid_maps"]
        mailboxes = folder / "mailboxes"
        (mailboxes / "shop").mkdir(parents=True)
        (mailboxes / "shop").chmod(0o777)
        running = RunningServer(folder, main_cf={**tables, "virtual_mailbox_base": str(mailboxes)})
        try:
            yield running.start()
        finally:
            running.close()


def send(server: RunningServer, *recipients: str) -> dict[str, tuple[int, bytes]]:
    """The recipients that were refused."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        try:
            return client.sendmail("sender@elsewhere.example", recipients, "Subject: x\r\n\r\nhello\r\n")
        except smtplib.SMTPRecipientsRefused as refused:
            return refused.recipients


def inbox(server: RunningServer, name: str) -> list[Path]:
    return mails(server.directory / "mailboxes" / "shop" / name)


@honours(
    "virtual_mailbox_domains", "virtual_mailbox_maps", "virtual_uid_maps", "virtual_gid_maps", "virtual_alias_maps",
    "virtual_mailbox_base",
)  # fmt: skip
def test_mail_is_delivered_as_the_database_says(server: RunningServer) -> None:
    assert send(server, "Ann@Shop.example", "all@shop.example") == {}
    wait_for(lambda: len(inbox(server, "ann")) == 2 and len(inbox(server, "bob")) == 1, "three messages")
    assert {path.stat().st_uid for name in ("ann", "bob") for path in inbox(server, name)} == {_UID}
    refused = send(server, "nobody@shop.example", "'or'1'='1@shop.example", '"\\\\--"@shop.example')
    assert [code for code, _ in refused.values()] == [550] * 3


def test_what_the_database_may_not_say(server: RunningServer) -> None:
    require_root()
    assert send(server, "root@shop.example", "out@shop.example") == {}
    wait_for(lambda: server.log.count("status=deferred") >= 2, "two deferred recipients")
    assert "gives no user number of at least 100 for root@shop.example" in server.log
    assert "a mailbox outside of virtual_mailbox_base" in server.log
    assert not (server.directory / "mailboxes" / "shop" / "root").exists()


def test_mail_waits_while_the_database_is_away(server: RunningServer, database: Database) -> None:
    assert send(server, "ann@shop.example") == {}
    wait_for(lambda: len(inbox(server, "ann")) == 1, "the first message")
    with database.pause():
        refused = send(server, "ann@shop.example", "nobody@shop.example")
        assert {code // 100 for code, _ in refused.values()} == {4}
        assert len(refused) == 2
    assert send(server, "ann@shop.example") == {}
    wait_for(lambda: len(inbox(server, "ann")) == 2, "the second message")

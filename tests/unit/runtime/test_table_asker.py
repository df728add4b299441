"""The process that asks servers' tables for the deliverer."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.runtime.table_asker import TableAsker
from ekiden.tables.open import open_table
from ekiden.tables.questions import AskedTable, Question, Reply, drive, open_trusted, waits
from ekiden.tables.table import TableTrouble

_DEADLINE_S = 20.0


class Poll:
    """A poll loop like the deliverer's, and an asker in it."""

    def __init__(self, *words: str, timeout_s: float = 60, **settings: str) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self.now = time.monotonic
        self.asker = TableAsker(
            Parameters({"mail_owner": "nobody", **settings}),
            [(word, False) for word in words],
            timeout_s=timeout_s,
            watch=self._watch,
            unwatch=self._unwatch,
            wait_for_room=lambda fd, wanted: self._poll.modify(fd, 1 | (4 if wanted else 0)),
            monotonic=lambda: self.now(),
        )

    def _watch(self, fd: int, readable: Callable[[], None]) -> None:
        self._handlers[fd] = readable
        self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline
            for fd, _ in self._poll.poll(0.05):
                if (handle := self._handlers.get(fd)) is not None:
                    handle()

    def ask(self, *questions: tuple[str, str]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        for number, (table, key) in enumerate(questions):
            self.asker.ask(Question(table, key), lambda reply, number=number: replies.__setitem__(number, reply))  # type: ignore[misc]
        self.until(lambda: len(replies) == len(questions))
        return [replies[number] for number in range(len(questions))]

    def close(self) -> None:
        self.asker.close()
        self.until(lambda: not self._handlers)
        self._poll.close()


@pytest.fixture
def word(reachable_path: Path) -> str:
    """A sqlite: table that the mail_owner can read."""
    database = sqlite3.connect(reachable_path / "mail.db")
    database.execute("CREATE TABLE t (k TEXT, v TEXT)")
    database.executemany("INSERT INTO t VALUES (?, ?)", [("a", "1"), ("b", "2"), ("long", "x" * 200_000)])
    database.commit()
    database.close()
    file = reachable_path / "t.cf"
    file.write_text(f"dbpath = {reachable_path}/mail.db\nquery = SELECT v FROM t WHERE k = '%s'\n")
    return f"sqlite:{file}"


@pytest.fixture
def poll(word: str) -> Iterator[Poll]:
    made = Poll(word, "sqlite:/nonexistent.cf")
    yield made
    made.close()


def test_questions_are_answered_by_one_process_without_rights(poll: Poll, word: str) -> None:
    assert poll.asker.pid == 0  # nothing starts before the first question
    assert poll.ask((word, "a"), (word, "none"), (word, "b"), (word, "\udcff")) == ["1", None, "2", None]
    pid = poll.asker.pid
    assert poll.ask((word, "a")) == ["1"]
    assert poll.asker.pid == pid
    if os.geteuid() == 0:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert "NoNewPrivs:\t1" in status


def test_many_questions_at_once(poll: Poll, word: str) -> None:
    assert poll.ask(*((word, "a" if number % 2 else "b") for number in range(3000))) == ["2", "1"] * 1500


def test_trouble_is_told(poll: Poll, word: str) -> None:
    [unknown, broken, long] = poll.ask(("sqlite:/other.cf", "a"), ("sqlite:/nonexistent.cf", "a"), (word, "long"))
    assert isinstance(unknown, TableTrouble)
    assert "not one of the tables" in str(unknown)
    assert isinstance(broken, TableTrouble)
    assert "cannot be read: No such file" in str(broken)
    assert isinstance(long, TableTrouble)
    assert "longer than" in str(long)
    assert poll.ask((word, "k" * 200_000)) == [None]


def test_a_process_that_dies_is_replaced(poll: Poll, word: str) -> None:
    assert poll.ask((word, "a")) == ["1"]
    pid = poll.asker.pid
    os.kill(pid, signal.SIGSTOP)
    replies: list[Reply] = []
    poll.asker.ask(Question(word, "a"), replies.append)
    os.kill(pid, signal.SIGKILL)
    poll.until(lambda: bool(replies))
    assert "ended before it answered" in str(replies[0])
    [early] = poll.ask((word, "a"))
    assert early == "1" or "ended a moment ago" in str(early)
    later = time.monotonic() + 2
    poll.now = lambda: later
    assert poll.ask((word, "a")) == ["1"]
    assert poll.asker.pid not in (0, pid)


def test_a_process_that_hangs_is_killed(word: str) -> None:
    poll = Poll(word, timeout_s=5)
    try:
        assert poll.ask((word, "a")) == ["1"]
        os.kill(poll.asker.pid, signal.SIGSTOP)
        replies: list[Reply] = []
        poll.asker.ask(Question(word, "a"), replies.append)
        assert poll.asker.next_tick_s is not None
        poll.asker.tick()
        assert poll.asker.pid
        later = time.monotonic() + 6
        poll.now = lambda: later
        poll.asker.tick()
        poll.until(lambda: bool(replies))
        assert isinstance(replies[0], TableTrouble)
    finally:
        poll.close()


def test_a_retired_asker_answers_what_it_was_asked_and_ends(word: str) -> None:
    poll = Poll(word)
    replies: list[Reply] = []
    poll.asker.ask(Question(word, "a"), replies.append)
    poll.asker.retire()
    poll.until(lambda: bool(replies))
    assert replies == ["1"]
    assert poll.asker.pid == 0
    poll.close()


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("mysql:/x", True),
        ("hash:/x", False),
        ("proxy:mysql:/x", True),
        ("proxy:hash:/x", False),
        ("unionmap:{hash:/x, ldap:/y}", True),
        ("pipemap:{hash:/x, inline:{ a=b }}", False),
        ("unionmap:{ pipemap:{hash:/x, tcp:h:1}, static:x }", True),
    ],
)
def test_which_tables_wait(word: str, answer: bool) -> None:
    assert waits(word) is answer


@pytest.mark.parametrize("word", ["tcp:h:1", "socketmap:unix:/x:y", "proxy:memcache:/x", "unionmap:{hash:/x, tcp:h:1}"])
def test_what_anybody_may_answer_gives_no_rights(word: str) -> None:
    with pytest.raises(ConfigError, match="anybody may answer"):
        open_trusted(word, open_table)


def test_a_table_that_waits_is_not_opened_here() -> None:
    assert isinstance(open_trusted("mysql:/nonexistent", open_table), AskedTable)
    assert not isinstance(open_trusted("inline:{a=b}", open_table), AskedTable)


def test_a_coroutine_is_driven_from_question_to_question() -> None:
    async def both() -> str:
        table = AskedTable("mysql:/x")
        first = await table.lookup("a")
        try:
            await table.lookup("b")
        except TableTrouble as error:
            return f"{first}, {error}"
        return "no trouble"

    asked: list[Question] = []
    done: list[str] = []
    asking = both()
    drive(asking, None, asked.append, done.append)
    drive(asking, "found", asked.append, done.append)
    assert done == []
    drive(asking, TableTrouble("down"), asked.append, done.append)
    assert [question.key for question in asked] == ["a", "b"]
    assert done == ["found, down"]

"""mbox delivery: quoting, locks that others hold, files that are not the recipient's, and cutting back."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ekiden.deliver.mailbox_jobs import Answer, Form, Outcome, WriteJob
from ekiden.deliver.mailbox_text import Task, quoted_from
from ekiden.deliver.mbox import MboxQueue
from ekiden.deliver.mbox_lock import LockRules
from ekiden.queue.durable import sync_each
from support.mailbox_tasks import task
from support.requirements import require_root

RULES = LockRules(attempts=3, delay_s=1.0, stale_s=500.0, strict_ownership=True, host="mx.example")
NOW = 1_700_000_000.0


def mbox_queue(rules: LockRules = RULES, wall: float = NOW) -> MboxQueue:
    return MboxQueue(rules, frozenset(), sync_each, lambda: wall)


def deliver(tasks: Sequence[Task[WriteJob]], **options: float) -> list[Answer]:
    waiting = mbox_queue(**options)  # type: ignore[arg-type]
    for one in tasks:
        waiting.add(one)
    answers: list[Answer] = []
    now = 0.0
    while (next_try := waiting.next_try()) is not None:
        now = max(now, next_try)
        answers += waiting.attempt(now)
    return answers


def mbox(tmp_path: Path, number: int = 1, **facts: object) -> Task[WriteJob]:
    return task(tmp_path, "user", number=number, form=Form.MBOX, **facts)  # type: ignore[arg-type]


def test_message_is_appended_in_mbox_form(tmp_path: Path) -> None:
    answers = deliver([mbox(tmp_path, 1), mbox(tmp_path, 2, sender=b"", content=b"A: b\r\n\r\nno newline at the end")])
    assert [answer.text for answer in answers] == ["delivered to mailbox"] * 2
    date = time.asctime(time.localtime(NOW))
    assert (tmp_path / "user").read_text() == (
        f"From s@y.example  {date}\nDelivered-To: a@x.example\nFrom: a@b.example\nSubject: hi\n\nHello\n>From here\n\n"
        f"From MAILER-DAEMON  {date}\nDelivered-To: a@x.example\nA: b\n\nno newline at the end\n\n"
    )
    assert (tmp_path / "user").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["user"]


@pytest.mark.parametrize("size", range(1, 14))
def test_from_is_quoted_at_line_starts_in_any_chunking(size: int) -> None:
    text = b"From a\nx From b\nFrom c\n\nFrom\nFro\nFrom \n>From d\nFrom"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    quoted = b">From a\nx From b\n>From c\n\nFrom\nFro\n>From \n>From d\nFrom"
    assert b"".join(quoted_from(iter(pieces))) == quoted


def test_sender_cannot_forge_a_line(tmp_path: Path) -> None:
    deliver([mbox(tmp_path, sender=b"a b\nFrom evil")])
    assert (tmp_path / "user").read_bytes().count(b"\nFrom ") == 0
    assert (tmp_path / "user").read_bytes().startswith(b"From abFromevil  ")


def test_a_torn_message_does_not_swallow_the_next(tmp_path: Path) -> None:
    (tmp_path / "user").write_bytes(b"From x\n\ntorn")
    deliver([mbox(tmp_path)])
    assert (tmp_path / "user").read_bytes().startswith(b"From x\n\ntorn\n\nFrom s@y.example  ")


def test_mailbox_limit(tmp_path: Path) -> None:
    (tmp_path / "user").write_bytes(b"From x\n\n\n" * 10)
    before = (tmp_path / "user").read_bytes()
    big = b"A: b\r\n\r\n" + b"x" * 300_000
    answers = deliver(
        [mbox(tmp_path, 1, limit=290_000, content=big, as_file=tmp_path / "c"), mbox(tmp_path, 2, limit=290_000)]
    )
    by_id = {answer.id: answer for answer in answers}
    assert (by_id[1].outcome, by_id[1].subject, by_id[1].detail) == (Outcome.FAILED, 2, 2)
    assert by_id[2].outcome is Outcome.DELIVERED
    after = (tmp_path / "user").read_bytes()
    assert after.startswith(before + b"From s@y.example")
    assert b"xxx" not in after


def test_disk_full_midway_cuts_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user").write_bytes(b"From x\n\n\n")
    write, calls = os.write, 0

    def filling(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(fd, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    one = mbox(tmp_path, locks=("fcntl",))
    with monkeypatch.context() as patched:
        patched.setattr("ekiden.deliver.mailbox_text.os.write", filling)
        [answer] = deliver([one])
    assert calls == 2
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 1)
    assert (tmp_path / "user").read_bytes() == b"From x\n\n\n"


def test_failed_sync_cuts_back_and_defers(tmp_path: Path) -> None:
    (tmp_path / "user").write_bytes(b"From x\n\n\n")
    waiting = MboxQueue(RULES, frozenset(), lambda fds: [OSError(errno.EIO, "I/O error")] * len(fds), lambda: NOW)
    waiting.add(mbox(tmp_path))
    [answer] = waiting.attempt(0.0)
    assert answer.outcome is Outcome.DEFERRED
    assert (tmp_path / "user").read_bytes() == b"From x\n\n\n"
    assert os.listdir(tmp_path) == ["user"]


def test_a_held_dotlock_is_tried_again_and_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "user.lock").write_text("")
    os.utime(tmp_path / "user.lock", (NOW - 10, NOW - 10))
    waiting = mbox_queue()
    waiting.add(mbox(tmp_path, 1))
    waiting.add(task(tmp_path, "other", number=2, form=Form.MBOX))
    assert [answer.id for answer in waiting.attempt(0.0)] == [2]
    assert waiting.next_try() == 1.0
    assert waiting.attempt(0.5) == []
    assert waiting.attempt(1.0) == []
    waiting.add(mbox(tmp_path, 3))
    answers = waiting.attempt(2.0)
    assert [answer.id for answer in answers] == [1, 3]
    assert all(answer.outcome is Outcome.DEFERRED and "unable to lock" in answer.text for answer in answers)
    assert not (tmp_path / "user").exists()
    assert (tmp_path / "user.lock").exists()


def test_a_stale_dotlock_is_removed(tmp_path: Path) -> None:
    (tmp_path / "user.lock").write_text("")
    os.utime(tmp_path / "user.lock", (NOW - 501, NOW - 501))
    assert deliver([mbox(tmp_path)])[0].outcome is Outcome.DELIVERED
    assert os.listdir(tmp_path) == ["user"]


def test_a_dotlock_of_a_dead_writer_of_this_host_is_removed(tmp_path: Path) -> None:
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    (tmp_path / "user.lock").write_text(f"{dead} mx.example\n")
    os.utime(tmp_path / "user.lock", (NOW, NOW))
    assert deliver([mbox(tmp_path)])[0].outcome is Outcome.DELIVERED
    for text in (f"{dead} other.example\n", f"{dead}", f"{os.getpid()} mx.example\n"):
        (tmp_path / "user.lock").write_text(text)
        os.utime(tmp_path / "user.lock", (NOW, NOW))
        assert deliver([mbox(tmp_path)])[0].outcome is Outcome.DEFERRED


@pytest.mark.parametrize("kind", ["fcntl", "flock"])
def test_a_kernel_lock_of_another_process_is_respected(tmp_path: Path, kind: str) -> None:
    (tmp_path / "user").write_bytes(b"")
    ready, tell = socket.socketpair()
    child = os.fork()
    if child == 0:
        fd = os.open(tmp_path / "user", os.O_RDWR)
        (fcntl.lockf if kind == "fcntl" else fcntl.flock)(fd, fcntl.LOCK_EX)
        tell.send(b"locked")
        tell.recv(1)
        os._exit(0)
    assert ready.recv(6) == b"locked"
    [answer] = deliver([mbox(tmp_path, locks=(kind,))])
    assert (answer.outcome, kind in answer.text) == (Outcome.DEFERRED, True)
    ready.send(b"x")
    os.waitpid(child, 0)
    assert deliver([mbox(tmp_path, locks=(kind,))])[0].outcome is Outcome.DELIVERED
    ready.close()
    tell.close()


def test_what_is_not_a_plain_file_of_the_recipient_is_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "user").symlink_to(victim)
    [answer] = deliver([mbox(tmp_path)])
    assert (answer.outcome, answer.subject, "symbolic link" in answer.text) == (Outcome.DEFERRED, 2, True)
    (tmp_path / "user").unlink()
    os.link(victim, tmp_path / "user")
    [answer] = deliver([mbox(tmp_path)])
    assert (answer.outcome, "2 links" in answer.text) == (Outcome.DEFERRED, True)
    (tmp_path / "user").unlink()
    os.mkfifo(tmp_path / "user")
    [answer] = deliver([mbox(tmp_path)])
    assert (answer.outcome, "not a regular file" in answer.text) == (Outcome.DEFERRED, True)
    (tmp_path / "user").unlink()
    (tmp_path / "user").mkdir()
    [answer] = deliver([mbox(tmp_path)])
    assert (answer.outcome, "directory" in answer.text) == (Outcome.DEFERRED, True)
    assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["user", "victim"]


def test_a_file_of_another_user_is_left_alone(tmp_path: Path) -> None:
    require_root()
    (tmp_path / "user").write_bytes(b"")
    os.chown(tmp_path / "user", 65534, 65534)
    [answer] = deliver([mbox(tmp_path)])
    assert (answer.outcome, "not owned by the recipient" in answer.text) == (Outcome.DEFERRED, True)
    assert (tmp_path / "user").read_bytes() == b""


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "user.lock").write_text(f"{os.getpid()} mx.example\n")
    os.utime(tmp_path / "user.lock", (NOW, NOW))
    deliver([mbox(tmp_path, as_file=tmp_path / "c"), task(tmp_path, "d/e/mbox", form=Form.MBOX)])
    deliver([task(tmp_path, "other", form=Form.MBOX, limit=1), task(tmp_path / "missing", "x", form=Form.MBOX)])
    assert len(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / "d" / "e" / "mbox").exists()

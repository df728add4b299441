"""Maildir delivery: batches, hostile directories, full disks, failed syncs; never a partial file in new/."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ekiden.deliver.mailbox_jobs import Answer, Outcome, WriteJob
from ekiden.deliver.mailbox_text import Task
from ekiden.deliver.maildir import MaildirBatch, SyncEach, UniqueNames
from ekiden.queue.durable import sync_each
from support.mailbox_tasks import task


def deliver(
    tasks: Sequence[Task[WriteJob]], *, sync: SyncEach = sync_each, trusted: frozenset[int] = frozenset()
) -> list[Answer]:
    names = UniqueNames("mx/1:a.example", 7, lambda: 1_700_000_000.25)
    try:
        return MaildirBatch(names, trusted, sync).deliver(tasks)
    finally:
        for one in tasks:
            one.close()


def files(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_message_arrives_with_lf_lines_and_private_modes(tmp_path: Path) -> None:
    [answer] = deliver([task(tmp_path, "x.example/a")])
    assert (answer.outcome, answer.text) == (Outcome.DELIVERED, "delivered to maildir")
    maildir = tmp_path / "x.example" / "a"
    assert files(maildir) == ["cur", "new", "tmp"]
    [name] = files(maildir / "new")
    text = (maildir / "new" / name).read_bytes()
    assert text == b"Delivered-To: a@x.example\nFrom: a@b.example\nSubject: hi\n\nHello\nFrom here\n"
    assert name == f"1700000000.M250000P7Q1.mx\\0571\\072a.example,S={len(text)}"
    assert (maildir / "new" / name).stat().st_mode & 0o777 == 0o600
    for directory in (maildir, maildir.parent, maildir / "new", maildir / "tmp", maildir / "cur"):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert files(maildir / "tmp") == []


def test_a_batch_is_synced_together_and_every_message_is_answered(tmp_path: Path) -> None:
    calls: list[int] = []

    def sync(fds: Sequence[int]) -> list[OSError | None]:
        calls.append(len(fds))
        assert files(tmp_path / "a" / "new") == []  # nothing is visible before it is durable
        return sync_each(fds)

    tasks = [task(tmp_path, "ab"[number % 2], number=number) for number in range(20)]
    answers = deliver(tasks, sync=sync)
    assert calls == [20]
    assert sorted(answer.id for answer in answers) == list(range(20))
    assert all(answer.outcome is Outcome.DELIVERED for answer in answers)
    assert len(files(tmp_path / "a" / "new")) == len(files(tmp_path / "b" / "new")) == 10


@pytest.mark.parametrize("cut", [1, 262_143, 262_144, 262_145, 400_000])
def test_content_in_a_file_is_converted_across_pieces(tmp_path: Path, cut: int) -> None:
    content = b"A: b\r\n\r\n" + b"x" * (cut - 9) + b"\r\nend\r\r\n\r"
    [answer] = deliver([task(tmp_path, "a", content=content, as_file=tmp_path / "content")])
    assert answer.outcome is Outcome.DELIVERED
    [name] = files(tmp_path / "a" / "new")
    text = (tmp_path / "a" / "new" / name).read_bytes()
    assert text == b"Delivered-To: a@x.example\n" + content.replace(b"\r\n", b"\n")
    assert name.endswith(f",S={len(text)}")


def test_content_that_is_shorter_than_told_waits(tmp_path: Path) -> None:
    [answer] = deliver([task(tmp_path, "a", as_file=tmp_path / "content", size=1_000_000)])
    assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 3)
    assert files(tmp_path / "a" / "new") == files(tmp_path / "a" / "tmp") == []


def test_message_above_the_limit_fails_and_its_neighbours_do_not(tmp_path: Path) -> None:
    answers = deliver(
        [task(tmp_path, "a", number=1, limit=30), task(tmp_path, "a", number=2, limit=1000)],
    )
    by_id = {answer.id: answer for answer in answers}
    assert (by_id[1].outcome, by_id[1].subject, by_id[1].detail) == (Outcome.FAILED, 2, 2)
    assert by_id[2].outcome is Outcome.DELIVERED
    assert len(files(tmp_path / "a" / "new")) == 1
    assert files(tmp_path / "a" / "tmp") == []


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, (Outcome.DEFERRED, 3, 1)),
        (errno.EDQUOT, (Outcome.DEFERRED, 2, 2)),
        (errno.ESTALE, (Outcome.DEFERRED, 2, 0)),
        (errno.EFBIG, (Outcome.FAILED, 2, 2)),
    ],
)
def test_disk_trouble_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: tuple[Outcome, int, int]
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    batch = [task(tmp_path, "a")]
    with monkeypatch.context() as patched:
        patched.setattr("ekiden.deliver.mailbox_text.os.write", full)
        [answer] = deliver(batch)
    assert (answer.outcome, answer.subject, answer.detail) == status
    assert files(tmp_path / "a" / "new") == files(tmp_path / "a" / "tmp") == []


def test_failed_sync_of_one_file_defers_that_one_and_is_not_retried(tmp_path: Path) -> None:
    synced: list[int] = []

    def sync(fds: Sequence[int]) -> list[OSError | None]:
        synced.extend(fds)
        return [OSError(errno.EIO, "I/O error") if at == 1 else None for at in range(len(fds))]

    answers = deliver([task(tmp_path, "a", number=number) for number in range(3)], sync=sync)
    by_id = {answer.id: answer.outcome for answer in answers}
    assert by_id == {0: Outcome.DELIVERED, 1: Outcome.DEFERRED, 2: Outcome.DELIVERED}
    assert len(synced) == len(set(synced)) == 3
    assert len(files(tmp_path / "a" / "new")) == 2
    assert files(tmp_path / "a" / "tmp") == []


def test_failed_sync_of_the_directory_takes_the_message_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver([task(tmp_path, "a")])
    before = files(tmp_path / "a" / "new")

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    batch = [task(tmp_path, "a")]
    with monkeypatch.context() as patched:
        patched.setattr("ekiden.deliver.maildir.os.fsync", broken)
        names = UniqueNames("mx", 8, lambda: 1_700_000_001.0)
        [answer] = MaildirBatch(names, frozenset(), lambda fds: [None] * len(fds)).deliver(batch)
    assert answer.outcome is Outcome.DEFERRED
    assert files(tmp_path / "a" / "new") == before


@pytest.mark.parametrize("where", ["", "a", "a/tmp", "a/new"])
def test_links_of_strangers_are_not_followed(tmp_path: Path, where: str) -> None:
    base, elsewhere = tmp_path / "base", tmp_path / "elsewhere"
    for directory in (base, elsewhere):
        directory.mkdir()
    for name in ("tmp", "new", "cur"):
        (elsewhere / name).mkdir()
    path = "link/a" if not where else "a"
    if not where:
        (base / "link").symlink_to(elsewhere)
    else:
        link = base / where
        link.parent.mkdir(exist_ok=True)
        if where == "a/new":
            (base / "a" / "tmp").mkdir()
        link.symlink_to(elsewhere)
    [answer] = deliver([task(base, path)])
    assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 2)
    assert "symbolic link" in answer.text
    assert files(elsewhere / "new") == []
    # The same link is followed when its maker is trusted, and in a user's own home.
    answers = deliver([task(base, path)], trusted=frozenset((os.geteuid(),))) + deliver(
        [task(base, path, guarded=False)]
    )
    assert [answer.outcome for answer in answers] == [Outcome.DELIVERED] * 2


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "file").write_text("")
    deliver([task(tmp_path, "a"), task(tmp_path, "file/a"), task(tmp_path, "b", limit=1)])
    deliver([task(tmp_path / "missing", "a")])
    assert len(os.listdir("/proc/self/fd")) == before

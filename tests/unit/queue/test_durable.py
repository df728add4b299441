"""Batched durability: everything is synced, each error reaches its own file, directories once."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from ekiden.queue.durable import SyncBatcher, sync_files


def open_file(path: Path) -> int:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(handle, b"x")
    return handle


def test_every_file_and_each_directory_once(tmp_path: Path) -> None:
    synced: list[str] = []

    def fsync(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        os.fsync(handle)

    handles = [open_file(tmp_path / name) for name in "ab"]
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        sync_files(handles, [tmp_path, folder, tmp_path], fsync=fsync)
        sync_files([], [], fsync=fsync)
    finally:
        for handle in (*handles, folder):
            os.close(handle)
    here = str(tmp_path)
    assert synced == [f"{here}/a", f"{here}/b", here, here]


def test_the_first_error_is_raised_after_all_were_tried(tmp_path: Path) -> None:
    tried: list[int] = []

    def fsync(handle: int) -> None:
        tried.append(handle)
        raise OSError(errno.EIO + len(tried) - 1, "fault")

    handles = [open_file(tmp_path / name) for name in "ab"]
    try:
        with pytest.raises(OSError) as caught:
            sync_files(handles, [tmp_path], fsync=fsync)
    finally:
        for handle in handles:
            os.close(handle)
    assert caught.value.errno == errno.EIO
    assert len(tried) == 3


def test_files_that_wait_are_synced_together_and_fail_alone(tmp_path: Path) -> None:
    directories = 0
    gate = threading.Event()

    def fsync(handle: int) -> None:
        nonlocal directories
        name = os.readlink(f"/proc/self/fd/{handle}")
        directories += name == str(tmp_path)
        if name.endswith("/bad"):
            raise OSError(errno.EIO, "fault")

    async def run() -> None:
        batcher = SyncBatcher("test", fsync=fsync)

        def first() -> int:
            gate.wait(10)
            return open_file(tmp_path / "first")

        def refused() -> int:
            raise OSError(errno.ENOSPC, "full")

        try:
            waiting = [asyncio.ensure_future(batcher.make_durable(first, tmp_path))]
            for name in ("one", "bad", "two"):
                write = lambda name=name: open_file(tmp_path / name)  # noqa: E731
                waiting.append(asyncio.ensure_future(batcher.make_durable(write, tmp_path)))
            waiting.append(asyncio.ensure_future(batcher.make_durable(refused, tmp_path)))
            await asyncio.sleep(0)
            gate.set()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            gate.set()
            batcher.close()
        assert [outcome.errno if isinstance(outcome, OSError) else outcome for outcome in outcomes] == [
            None, None, errno.EIO, None, errno.ENOSPC,
        ]  # fmt: skip
        assert directories <= 2  # one for the first, one for all that waited meanwhile

    asyncio.run(run())


def test_a_directory_that_cannot_be_synced_fails_the_files_in_it(tmp_path: Path) -> None:
    def fsync(handle: int) -> None:
        if os.readlink(f"/proc/self/fd/{handle}") == str(tmp_path):
            raise OSError(errno.EIO, "fault")

    async def run() -> None:
        batcher = SyncBatcher("test", fsync=fsync)
        try:
            with pytest.raises(OSError):
                await batcher.make_durable(lambda: open_file(tmp_path / "a"), tmp_path)
        finally:
            batcher.close()

    asyncio.run(run())

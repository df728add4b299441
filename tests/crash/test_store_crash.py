"""The store under SIGKILL, a full disk and a disk that fails: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.message.content import FileContent
from ekiden.queue.on_disk import read_shards
from ekiden.queue.store import Settlement, StoreTrouble
from support.honours import honours
from support.requirements import ROOT, require_root, require_that
from support.stored_messages import HandClock, message, opened

CYCLES = int(os.environ.get("EKIDEN_STORE_CRASH_CYCLES", "6"))
SETTINGS = {"queue_inline_limit": "6000", "queue_file_buffer_size": "4096", "queue_log_limit": "1048576"}

# Puts and settles with 20 tasks; reports "+id" for each acknowledged put, "?id" before and "-id" after each removal.
CHILD = """
import asyncio, os, sys
from pathlib import Path
from support.stored_messages import message, opened
from ekiden.queue.store import Settlement

def tell(text):
    os.write(1, text.encode() + b"\\n")

async def main(directory, cycle):
    settings = dict(pair.split("=") for pair in sys.argv[3:])
    async with opened(directory, settings=settings) as store:
        async def one(task):
            number = 0
            while True:
                number += 1
                name = f"C{cycle:02}T{task:02}N{number:05}"
                size = (1000, 5000, 9000)[number % 3]
                writer = store.content_writer(name)
                if writer.write((name.encode() * 1000)[:size]):
                    await writer.drain()
                await store.put(message(name, content=await writer.finish()), lease_s=60 * (number % 2))
                tell("+" + name)
                if number % 5 in (1, 2, 3):
                    tell("?" + name)
                    if number % 5 == 3:
                        born = message("B" + name, name.encode())
                        await store.settle(Settlement(name, born=(born,)))
                        tell("+B" + name)
                    else:
                        await store.settle(Settlement(name))
                    tell("-" + name)
        await asyncio.gather(*(one(task) for task in range(20)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def run_and_kill(directory: Path, cycle: int, moment: float) -> list[str]:
    """One child, killed ``moment`` seconds after its first acknowledgement; what it said in whole lines."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory), str(cycle), *(f"{k}={v}" for k, v in SETTINGS.items())],
        stdout=subprocess.PIPE, env=environment,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        said = b""
        end = time.monotonic() + 30
        started = False
        while (left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], min(left, 0.005))[0]:
                data = os.read(pipe, 1 << 20)
                assert data, "the child ended by itself"
                said += data
                if not started:
                    started, end = True, time.monotonic() + moment
        child.send_signal(signal.SIGKILL)
        while data := os.read(pipe, 1 << 20):
            said += data
    assert started
    return said.decode().split("\n")[:-1]


def test_every_acknowledged_message_survives_sigkill(tmp_path: Path) -> None:
    chance = random.Random(20_260)
    there: set[str] = set()
    maybe_gone: set[str] = set()
    gone: set[str] = set()
    for cycle in range(CYCLES):
        for line in run_and_kill(tmp_path, cycle, chance.uniform(0.01, 0.4)):
            mark, name = line[0], line[1:]
            {"+": there, "?": maybe_gone, "-": gone}[mark].add(name)

        async def check() -> None:
            async with opened(tmp_path, settings=SETTINGS) as store:
                found = {entry.message.queue_id for entry in await store.entries()}
                assert there - maybe_gone - gone <= found, "an acknowledged message is lost"
                assert not gone & found, "a removed message is back"
                for name in maybe_gone - gone - found:  # its removal was under way at the kill
                    if name.split("N")[1][-1] in "38":
                        assert "B" + name in found, "neither the message nor what replaces it is there"
                # What can be claimed is whole, file or row.
                claimed = await store.claim(1e12, 100_000, 60)
                assert {x.queue_id for x in claimed} == found
                for x in claimed:
                    data = await store.read_content(x.content)
                    assert data == (x.queue_id.lstrip("B").encode() * 1000)[: len(data)]
                files = {x.queue_id for x in claimed if isinstance(x.content, FileContent)}
                assert set(os.listdir(store.directory / "content")) == files

        asyncio.run(check())
    assert len(there) > CYCLES * 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    require_root()
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    require_that(mounted.returncode == 0, f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@honours("queue_minfree")
@pytest.mark.parametrize("size", [4000, 20_000])
def test_a_full_disk_says_so_and_service_returns_with_space(small_disk: Path, size: int) -> None:
    async def run() -> None:
        clock = HandClock()
        async with opened(small_disk, settings={**SETTINGS, "queue_minfree": "200000"}, clock=clock) as store:
            kept: list[str] = []

            async def receive(name: str) -> None:
                writer = store.content_writer(name)
                try:
                    if writer.write(os.urandom(size)):
                        await writer.drain()
                    await store.put(message(name, content=await writer.finish()), lease_s=60)
                except StoreTrouble:
                    await writer.discard()
                    raise
                kept.append(name)

            assert await store.has_space()
            trouble: BaseException | None = None
            for number in range(0, 2000, 4):
                outcomes = await asyncio.gather(
                    *(receive(f"Q{number + more:04}") for more in range(4)), return_exceptions=True
                )
                trouble = next((outcome for outcome in outcomes if outcome is not None), None)
                if trouble is not None:
                    break
            assert isinstance(trouble, StoreTrouble)
            assert trouble.full
            clock.steady += 1
            assert not await store.has_space()
            assert len(kept) > 20
            assert {x.message.queue_id for x in await store.entries()} == set(kept)
            # Mail that leaves while the disk is full makes room; what still cannot be removed stays as it was.
            left = list(kept)
            while left:
                try:
                    await store.settle(Settlement(left[0]))
                except StoreTrouble:
                    break
                left.pop(0)
                if len(left) == len(kept) // 2:
                    break
            if len(left) > len(kept) // 2:
                # Not even the log could grow. An administrator makes room.
                subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
            kept[:] = left
            for number in range(5):
                await receive(f"R{number}")
        assert {x.message.queue_id for x in read_shards(small_disk)} == set(kept)

    asyncio.run(run())

"""A FakePeer for tests that are no coroutines: it lives on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from support.fake_peer import FakePeer, Script


@contextlib.contextmanager
def peer_in_thread(script: Script | None = None) -> Iterator[FakePeer]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake peer")
    thread.start()
    peer = FakePeer(script)
    try:
        asyncio.run_coroutine_threadsafe(peer.__aenter__(), loop).result(20)
        try:
            yield peer
        finally:
            asyncio.run_coroutine_threadsafe(peer.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()

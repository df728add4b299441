"""The clock of production: the system's own."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Its readings are the system's functions themselves: they are asked a dozen times a message."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

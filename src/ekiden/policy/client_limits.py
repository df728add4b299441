"""How many connections one client may have at a time, within this worker or across all of them."""

from __future__ import annotations

from typing import Protocol


class ClientCounts(Protocol):
    async def connect(self, address: str) -> int:
        """Count a connection of ``address`` in; the number that it has now, this one included."""

    def disconnect(self, address: str) -> None: ...


class LocalCounts:
    """Counts of one process: enough where there is one worker, the fallback where the common counter is away."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    async def connect(self, address: str) -> int:
        count = self._counts[address] = self._counts.get(address, 0) + 1
        return count

    def disconnect(self, address: str) -> None:
        count = self._counts.get(address, 0) - 1
        if count > 0:
            self._counts[address] = count
        else:
            self._counts.pop(address, None)

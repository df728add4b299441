"""The jobs that wait at one destination, in an order in which nobody starves.

Small jobs and bulky ones (many recipients, many bytes) wait in two lanes; a bulky one goes after ``cost`` small
ones, or when there is no small one. Within a lane the senders take turns, and the jobs of a sender go in order.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar

from ekiden.message.address import Address


class Queueable(Protocol):
    @property
    def sender(self) -> Address: ...
    @property
    def is_bulky(self) -> bool: ...


J = TypeVar("J", bound=Queueable)


class _Lane(Generic[J]):
    __slots__ = ("_senders", "size")

    def __init__(self) -> None:
        self._senders: OrderedDict[Address, deque[J]] = OrderedDict()
        self.size = 0

    def put(self, job: J) -> None:
        self.size += 1
        waiting = self._senders.get(job.sender)
        if waiting is None:
            self._senders[job.sender] = deque((job,))
        else:
            waiting.append(job)

    def take(self) -> J:
        self.size -= 1
        sender = next(iter(self._senders))
        waiting = self._senders[sender]
        job = waiting.popleft()
        if not waiting:
            del self._senders[sender]
        elif len(self._senders) > 1:
            self._senders.move_to_end(sender)
        return job


class FairQueue(Generic[J]):
    __slots__ = ("_bulky", "_cost", "_small", "_taken")

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._small: _Lane[J] = _Lane()
        self._bulky: _Lane[J] = _Lane()
        self._taken = 0  # small jobs since the last bulky one, while one waited

    def __len__(self) -> int:
        return self._small.size + self._bulky.size

    @property
    def small(self) -> int:
        return self._small.size

    @property
    def bulky(self) -> int:
        return self._bulky.size

    def put(self, job: J) -> None:
        (self._bulky if job.is_bulky else self._small).put(job)

    def take(self, *, bulky: bool = True) -> J | None:
        """The next job, or None. ``bulky=False``: there is no place for a bulky one now."""
        small = self._small.size
        if bulky and self._bulky.size and (not small or self._taken >= self._cost):
            self._taken = 0
            return self._bulky.take()
        if not small:
            return None
        if self._bulky.size:
            self._taken += 1
        return self._small.take()

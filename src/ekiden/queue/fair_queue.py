"""The jobs that wait at one destination, in an order in which nobody starves.

Small jobs and bulky ones (many recipients, many bytes) wait in two lanes; a bulky one goes after ``cost`` small
ones, or when there is no small one. Within a lane the senders take turns, and the jobs of a sender go in order.

Jobs of a higher priority (RFC 6710) go first; after ``priority_cost`` of them that overtook others, one of the others
goes, which take turns from the highest priority down.
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
    @property
    def priority(self) -> int: ...


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
        senders = self._senders
        sender = next(iter(senders))
        waiting = senders[sender]
        job = waiting.popleft()
        if not waiting:
            del senders[sender]
        else:
            senders.move_to_end(sender)
        return job


class _Level(Generic[J]):
    """The jobs of one priority."""

    __slots__ = ("bulky", "small", "taken")

    def __init__(self) -> None:
        self.small: _Lane[J] = _Lane()
        self.bulky: _Lane[J] = _Lane()
        self.taken = 0  # small jobs since the last bulky one, while one waited

    def take(self, cost: int, *, bulky: bool) -> J | None:
        small = self.small.size
        if bulky and self.bulky.size and (not small or self.taken >= cost):
            self.taken = 0
            return self.bulky.take()
        if not small:
            return None
        if self.bulky.size:
            self.taken += 1
        return self.small.take()


class FairQueue(Generic[J]):
    __slots__ = ("_cost", "_levels", "_overtook", "_plain", "_priority_cost", "_sole", "_turn", "size")

    def __init__(self, cost: int, priority_cost: int = 5) -> None:
        self._cost = cost
        self._priority_cost = priority_cost
        self._plain: _Level[J] = _Level()  # priority 0
        self._sole: J | None = None  # a small job of priority 0 that waits alone, as most do: it is in no lane
        self._levels: dict[int, _Level[J]] = {}  # all, highest first, while there are jobs of another priority
        self._overtook = 0  # jobs in a row that went before others of a lower priority
        self._turn = 0  # whose turn it was among those overtaken
        self.size = 0  # all jobs

    def __len__(self) -> int:
        return self.size

    @property
    def small(self) -> int:
        if self._sole is not None:
            return 1
        if not self._levels:
            return self._plain.small.size
        return sum(level.small.size for level in self._levels.values())

    @property
    def bulky(self) -> int:
        if not self._levels:
            return self._plain.bulky.size
        return sum(level.bulky.size for level in self._levels.values())

    def put(self, job: J) -> None:
        self.size += 1
        if self.size == 1 and not (job.priority or job.is_bulky):
            self._sole = job
            return
        if self._sole is not None:
            self._plain.small.put(self._sole)
            self._sole = None
        level = self._plain if not job.priority else self._level(job.priority)
        (level.bulky if job.is_bulky else level.small).put(job)

    def take(self, *, bulky: bool = True) -> J | None:
        """The next job, or None. ``bulky=False``: there is no place for a bulky one now."""
        sole = self._sole
        if sole is not None:
            self._sole, self.size = None, 0
            return sole
        plain = self._plain
        if self._levels:
            job = self._by_priority(bulky=bulky)
        elif plain.small.size and not plain.bulky.size:  # nothing to choose between
            job = plain.small.take()
        else:
            job = plain.take(self._cost, bulky=bulky)
        if job is not None:
            self.size -= 1
        return job

    def _level(self, priority: int) -> _Level[J]:
        if not self._levels:
            self._levels[0] = self._plain
        if priority not in self._levels:
            self._levels[priority] = _Level()
            self._levels = dict(sorted(self._levels.items(), reverse=True))
        return self._levels[priority]

    def _by_priority(self, *, bulky: bool) -> J | None:
        ready = [level for level in self._levels.values() if level.small.size or (bulky and level.bulky.size)]
        if not ready:
            return None
        if len(ready) == 1:
            self._overtook = 0
            level = ready[0]
        elif self._overtook < self._priority_cost:
            self._overtook += 1
            level = ready[0]
        else:
            self._overtook = 0
            level = ready[1 + self._turn % (len(ready) - 1)]
            self._turn += 1
        job = level.take(self._cost, bulky=bulky)
        if not any(each.small.size or each.bulky.size for each in self._levels.values() if each is not self._plain):
            self._levels = {}
        return job

"""The queue, its scheduler and bounces (qmgr(8), bounce(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class QueueParameters(Group):
    pass

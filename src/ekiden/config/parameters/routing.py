"""Which way mail takes beside the usual one (trivial-rewrite(8), qmgr(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class RoutingParameters(Group):
    pass

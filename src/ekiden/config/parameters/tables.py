"""Lookup tables (postmap(1), proxymap(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class TableParameters(Group):
    pass

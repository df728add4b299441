"""Aliases, .forward files, commands and other ways of local delivery (local(8), pipe(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class LocalParameters(Group):
    pass

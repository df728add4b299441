"""The mail log."""

from __future__ import annotations

from ekiden.config.registry import Group


class LogParameters(Group):
    pass

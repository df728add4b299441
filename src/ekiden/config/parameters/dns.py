"""Looking up names."""

from __future__ import annotations

from ekiden.config.registry import Group


class DnsParameters(Group):
    pass

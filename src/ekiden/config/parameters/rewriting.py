"""What happens to the addresses and header of every message that is taken in (cleanup(8), trivial-rewrite(8))."""

from __future__ import annotations

from ekiden.config.registry import Group


class RewritingParameters(Group):
    pass

"""The administrator's and the users' commands (postfix(1), sendmail(1), postqueue(1))."""

from __future__ import annotations

from ekiden.config.registry import Group


class CommandParameters(Group):
    pass

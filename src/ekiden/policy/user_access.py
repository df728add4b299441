"""Which users of this host may use a command (postconf(5), authorized_*_users).

In:   the words of the parameter and the number of a user.
Out:  the name to refuse, or None; a user without a name in the password file is called ``unknown``.
Errors: ConfigError for a list that cannot be used, TableTrouble for a table that cannot be asked.
"""

from __future__ import annotations

import pwd
from collections.abc import Sequence

EVERYBODY = ("static:anyone",)
UNKNOWN_USER = "unknown"


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return UNKNOWN_USER


async def refused_user(words: Sequence[str], uid: int) -> str | None:
    """The name of the user when the list does not have it."""
    if tuple(words) == EVERYBODY:
        return None
    # Most lists are the default, which needs no tables.
    from ekiden.tables.match import DomainList

    name = user_name(uid)
    return None if await DomainList(words).matches(name) else name

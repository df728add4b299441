"""``unix:passwd.byname``, ``unix:group.byname``: the users and groups of the system, as lines of passwd(5), group(5).

The password field is what the system shows to anybody, never more.
"""

from __future__ import annotations

import grp
import pwd

from ekiden.config.errors import ConfigError
from ekiden.tables.table import Opening, Table, TableTrouble

_TABLES = ("passwd.byname", "group.byname")


class UnixTable(Table):
    """Directories (LDAP, NIS) behind the system may make it block."""

    def __init__(self, text: str, *, fold: bool) -> None:
        if text not in _TABLES:
            raise ConfigError(f"unix:{text}: there is no such table; write unix:passwd.byname or unix:group.byname")
        self.name = f"unix:{text}"
        self._users, self._fold = text == "passwd.byname", fold

    async def lookup(self, key: str) -> str | None:
        name = key.lower() if self._fold else key
        if not name or "\0" in name:
            return None
        try:
            if self._users:
                user = pwd.getpwnam(name)
                return ":".join(map(str, (*user[:4], user.pw_gecos, user.pw_dir, user.pw_shell)))
            group = grp.getgrnam(name)
            return f"{group.gr_name}:{group.gr_passwd}:{group.gr_gid}:{','.join(group.gr_mem)}"
        except (KeyError, UnicodeError):
            return None
        except OSError as error:
            raise TableTrouble(f"{self.name}: {error.strerror or error}") from error


def open_type(text: str, opening: Opening) -> UnixTable:
    return UnixTable(text, fold=opening.fold)

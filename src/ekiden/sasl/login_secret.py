"""The secret that the salts of accounts which do not exist are made from: a file that all workers share.

It lives as long as the accounts do: a salt that changes with a restart would tell that its account does not exist.
"""

from __future__ import annotations

import os
import secrets
from functools import cached_property
from pathlib import Path

NAME = "login-secret"
_BYTES = 32


class LoginSecret:
    """``path`` of the file, which is made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def value(self) -> bytes:
        """Where the file can be neither read nor made, a secret of this process: then a restart may tell."""
        try:
            return self._read() or self._make()
        except OSError:
            return secrets.token_bytes(_BYTES)

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                found = file.read(_BYTES)
        except FileNotFoundError:
            return b""
        return found if len(found) == _BYTES else b""

    def _make(self) -> bytes:
        """Workers start at the same time: the first one's secret is everybody's."""
        made = self._path.with_name(f"{NAME}.{os.getpid()}")
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_bytes(_BYTES))
        finally:
            os.close(fd)
        try:
            os.link(made, self._path)
        except FileExistsError:
            if not self._read():  # cut short when it was made: nobody can have used it
                os.replace(made, self._path)
        finally:
            made.unlink(missing_ok=True)
        return self._read()

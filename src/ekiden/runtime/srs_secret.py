"""The secret that signs the senders of forwarded mail: made at the first start, so that nobody has to think of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from ekiden.config.snapshot import Parameters

_SECRET_OCTETS = 24


def provide_srs_secret(parameters: Parameters) -> None:
    """Make srs_secret_file, for who starts the server alone, if it is to lie in queue_directory and is not there.

    A file elsewhere is an administrator's: a new secret in place of one that is missing would not help other servers.
    What cannot be made is missing then, which is told where the file is read.
    """
    path = Path(parameters.srs_secret_file)
    if not parameters.srs_domain or path.parent != Path(parameters.queue_directory) or path.exists():
        return
    # Whole or not at all, and never another's: the name comes last.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_urlsafe(_SECRET_OCTETS)}\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

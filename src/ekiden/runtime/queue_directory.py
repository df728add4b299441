"""The directory tree of the queue, with the owners and modes that keep others out.

queue_directory     0755  who starts the server    ekiden.pid
  shards/           0700  mail_owner               one directory a worker
  maildrop/        01733  mail_owner               where sendmail leaves messages: anybody may add, nobody list
  tls/              0700  mail_owner               what domains said of TLS, and what came of it
  reports/          0700  mail_owner               what others report of our mail, and we of theirs
  run/              0700  mail_owner               control sockets
  public/           0755  mail_owner               what programs of other users may knock at
  private/          0700  mail_owner               sockets of services of type unix that only mail_owner may use
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ekiden.runtime.privileges import Owner

SUBDIRECTORIES = {
    "shards": 0o700,
    "maildrop": 0o1733,
    "tls": 0o700,
    "reports": 0o700,
    "run": 0o700,
    "public": 0o755,
    "private": 0o700,
}


class DirectoryTrouble(Exception):
    """The tree cannot be made or is not safe; the text is one line for the administrator."""


def prepare(queue_directory: Path, owner: Owner) -> None:
    """Make what is missing and correct owners and modes of the subdirectories. Raises DirectoryTrouble."""
    try:
        queue_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(queue_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DirectoryTrouble(f"queue_directory = {queue_directory}: {error.strerror}") from error
    try:
        _check(queue_directory, os.fstat(fd))
        for name, mode in SUBDIRECTORIES.items():
            try:
                _prepare_subdirectory(fd, name, mode, owner)
            except OSError as error:
                raise DirectoryTrouble(f"{queue_directory / name}: {error.strerror}") from error
    finally:
        os.close(fd)


def _check(path: Path, status: os.stat_result) -> None:
    """Who can rename our subdirectories can make a root process write elsewhere."""
    if status.st_uid != os.geteuid():
        raise DirectoryTrouble(
            f"queue_directory = {path}: belongs to user {status.st_uid} and not to who starts the server; "
            f"correct it with: chown {os.geteuid()} {path}"
        )
    # An ordinary user's own group may write: many systems make all directories so.
    if stat.S_IMODE(status.st_mode) & (0o022 if os.geteuid() == 0 else 0o002):
        raise DirectoryTrouble(f"queue_directory = {path}: others may write to it; correct it with: chmod go-w {path}")


def _prepare_subdirectory(parent: int, name: str, mode: int, owner: Owner) -> None:
    try:
        os.mkdir(name, mode=0o700, dir_fd=parent)
    except FileExistsError:
        pass
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(fd)
        if (status.st_uid, status.st_gid) != (owner.uid, owner.gid) and os.geteuid() == 0:
            os.fchown(fd, owner.uid, owner.gid)
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)

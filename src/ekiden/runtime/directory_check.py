"""Looks over the directories and files that a server needs, for ``ekiden check`` and ``postfix check``.

Out:  problems: who owns what, who else may write to it, what is missing, and whether the disk has room.
Never: changes anything; what a start makes or corrects by itself is no problem.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ekiden.config.load import Configuration
from ekiden.config.problem import Level, Problem
from ekiden.runtime.privileges import PrivilegeTrouble, find_owner

_OTHERS_WRITE = 0o022


def check_directories(found: Configuration) -> list[Problem]:
    return [
        *_configuration_files(found),
        *_owner(found),
        *_queue(found),
        *_log(found),
        *_mailboxes(found),
        *_space(found),
    ]


def _at(found: Configuration, name: str, level: Level, text: str) -> Problem:
    """A problem at the line that sets the parameter ``name``, or at main.cf as a whole."""
    file, line = found.place(name)
    return Problem(file or found.main_cf, line, level, f"{name} = {text}")


def _configuration_files(found: Configuration) -> Iterator[Problem]:
    for path in (found.directory, Path(found.main_cf), Path(found.master_cf)):
        try:
            status = path.stat()
        except OSError:
            continue
        if os.geteuid() == 0 and status.st_uid != 0:
            yield Problem(str(path), 0, Level.WARNING, f"not owned by root; correct it with: chown root {path}")
        if stat.S_IMODE(status.st_mode) & (_OTHERS_WRITE if os.geteuid() == 0 else 0o002):
            yield Problem(str(path), 0, Level.WARNING, f"others may write to it; correct it with: chmod go-w {path}")


def _owner(found: Configuration) -> Iterator[Problem]:
    try:
        find_owner(found.parameters)
    except PrivilegeTrouble as error:
        file, line = found.place("mail_owner")
        yield Problem(file or found.main_cf, line, Level.ERROR, str(error))


def _queue(found: Configuration) -> Iterator[Problem]:
    path = Path(found.parameters.queue_directory)
    try:
        status = path.stat()
    except FileNotFoundError:
        return  # made at start
    except OSError as error:
        yield _at(found, "queue_directory", Level.ERROR, f"{path}: {error.strerror}")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield _at(found, "queue_directory", Level.ERROR, f"{path}: not a directory")
        return
    if status.st_uid != os.geteuid():
        text = f"{path}: belongs to user {status.st_uid}; correct it with: chown {os.geteuid()} {path}"
        yield _at(found, "queue_directory", Level.ERROR, text)
    if stat.S_IMODE(status.st_mode) & (_OTHERS_WRITE if os.geteuid() == 0 else 0o002):
        text = f"{path}: others may write to it; correct it with: chmod go-w {path}"
        yield _at(found, "queue_directory", Level.ERROR, text)


def _log(found: Configuration) -> Iterator[Problem]:
    path = found.parameters.maillog_file
    if path and not path.startswith("/dev/") and not Path(path).parent.is_dir():
        yield _at(found, "maillog_file", Level.ERROR, f"{path}: there is no directory {Path(path).parent}")


def _mailbox_directories(found: Configuration) -> Iterator[tuple[str, str]]:
    """Parameters that name a directory of mailboxes in use, with its path."""
    parameters = found.parameters
    if parameters.virtual_mailbox_maps and parameters.virtual_mailbox_base:
        yield "virtual_mailbox_base", parameters.virtual_mailbox_base
    if parameters.mydestination and not parameters.home_mailbox and parameters.mail_spool_directory:
        yield "mail_spool_directory", parameters.mail_spool_directory


def _mailboxes(found: Configuration) -> Iterator[Problem]:
    for name, text in _mailbox_directories(found):
        path = Path(text)
        try:
            status = path.stat()
        except FileNotFoundError:
            yield _at(found, name, Level.WARNING, f"{path}: there is no such directory; mail for it will wait")
            continue
        except OSError as error:
            yield _at(found, name, Level.WARNING, f"{path}: {error.strerror}")
            continue
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISDIR(status.st_mode):
            yield _at(found, name, Level.ERROR, f"{path}: not a directory")
        elif mode & 0o002 and not mode & stat.S_ISVTX:
            text = f"{path}: everybody may remove and replace mailboxes; correct it with: chmod +t {path}"
            yield _at(found, name, Level.WARNING, text)


def _space(found: Configuration) -> Iterator[Problem]:
    parameters = found.parameters
    wanted = max(parameters.queue_minfree, parameters.message_size_limit * 3 // 2)
    for name, text in (("queue_directory", parameters.queue_directory), *_mailbox_directories(found)):
        try:
            disk = os.statvfs(text)
        except OSError:
            continue
        free = disk.f_bavail * disk.f_frsize
        if free < wanted:
            about = f"{text}: only {free // 1024} Kbytes are free on its disk; {wanted // 1024} are wanted"
            yield _at(found, name, Level.WARNING, about)
        elif disk.f_files and not disk.f_favail:
            yield _at(found, name, Level.WARNING, f"{text}: its disk can hold no more files (inodes)")

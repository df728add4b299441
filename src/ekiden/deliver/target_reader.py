"""Reading .forward and :include: files, in the process that runs as their reader.

In:   paths, and how large a file may be.
Out:  what the file says, or that it is not there, or that it must not be believed.
Never: waits for a FIFO or a device, reads more than the limit, follows a link at the end of a .forward's path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from ekiden.deliver.mailbox_directory import DirectoryWalk
from ekiden.deliver.targets import FoundTargets, pack_targets, parse_target_file

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# A name that is too long is that of no file: .forward+extension is as long as the sender wants.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
# What a person made of the file or the way to it, not a disk or a network that does not answer.
_REFUSED = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENODEV)
_WARNINGS = 10


class Unusable(Exception):
    """The file must not be obeyed; the text says why."""


def read_forward(paths: Sequence[str], limit_bytes: int) -> FoundTargets | None:
    """What the first of ``paths`` that is there says; None when none is.

    A file that must not be obeyed counts as none, with a warning and an empty path. Raises OSError for trouble that
    may pass.
    """
    for path in paths:
        try:
            fd = os.open(path, _OPEN | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _ABSENT:
                continue
            if error.errno == errno.ELOOP:
                return _ignored(path, "it is a symbolic link")
            if error.errno in _REFUSED:
                return _ignored(path, error.strerror or str(error))
            raise
        try:
            text = _read(fd, limit_bytes, _must_be_the_users)
        except Unusable as why:
            return _ignored(path, str(why))
        finally:
            os.close(fd)
        return _found(path, text)
    return None


def read_include(path: str, limit_bytes: int, walk: DirectoryWalk) -> FoundTargets:
    """What an :include: file says. Raises Unusable, OSError.

    On the way to it ``walk`` follows only links that it trusts.
    """
    *parents, name = [part for part in path.split("/") if part]
    directory = walk.open("/", parents, create=False)
    try:
        try:
            fd = os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            if not walk.trusts(os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid):
                raise Unusable("it is a symbolic link that may not be followed") from None
            fd = os.open(name, _OPEN, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        return _found(path, _read(fd, limit_bytes, _must_not_be_anybodys))
    finally:
        os.close(fd)


def _read(fd: int, limit_bytes: int, check: Callable[[os.stat_result], None]) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("it is not a regular file")
    check(status)
    if status.st_size > limit_bytes:
        raise Unusable(f"it is larger than {limit_bytes} bytes")
    data = bytearray()
    while len(data) <= limit_bytes and (piece := os.read(fd, limit_bytes + 1 - len(data))):
        data += piece
    if len(data) > limit_bytes:  # it has grown meanwhile, or does not tell its size
        raise Unusable(f"it is larger than {limit_bytes} bytes")
    return bytes(data)


def _must_be_the_users(status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise Unusable("it belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
        raise Unusable(f"{who} may write it (mode {stat.S_IMODE(status.st_mode):o}, write chmod 600)")


def _must_not_be_anybodys(status: os.stat_result) -> None:
    if status.st_mode & stat.S_IWOTH:
        raise Unusable(f"everybody may write it (mode {stat.S_IMODE(status.st_mode):o})")
    if status.st_nlink > 1 and status.st_uid == 0:
        raise Unusable("it has several names")  # one of which may be that of a secret


def _found(path: str, data: bytes) -> FoundTargets:
    found = parse_target_file(data.decode("utf-8", "surrogateescape"))
    warnings = [f"{path}, line {line}: {text}" for line, text in found.problems]
    return FoundTargets(path, pack_targets(found.targets), [_shown(text) for text in warnings[:_WARNINGS]])


def _ignored(path: str, why: str) -> FoundTargets:
    return FoundTargets("", [], [_shown(f"{path} is not obeyed: {why}")])


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:500])

"""Opening and locking an mbox file that others write too, without being led elsewhere.

The way of Postfix: the lock file first, then the file, opened so that a link, a hard link, a device or another
user's file is noticed after the open and not before it (no race), then the kernel's locks. Nothing here waits:
a lock that another holds is Busy, and the caller comes again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable

from msgspec import Struct

_OPEN = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OUR_LOCK = re.compile(rb"([0-9]{1,10}) ([^\s]{1,255})\n")


class Busy(Exception):
    """Another process holds the lock; trying again may help."""


class NotOurs(Exception):
    """The file is not one to deliver to: a link, not a file, not the recipient's."""


class LockRules(Struct, frozen=True):
    attempts: int
    delay_s: float
    stale_s: float
    strict_ownership: bool
    host: str


class LockedMbox:
    """An mbox that is open and locked. release() gives the locks back and closes it."""

    def __init__(
        self, directory: int, name: str, locks: tuple[str, ...], rules: LockRules, now: float, *, any_file: bool = False
    ) -> None:
        """Open ``name`` in ``directory``, creating it (mode 0600) when missing.

        ``any_file``: it may belong to anybody and may be a device or a pipe, and its directory need not take a lock
        file. Raises Busy, NotOurs, OSError; then nothing is locked. ``directory`` stays the caller's.
        """
        self._directory = directory
        self._lock_name: str | None = None
        self.fd = -1
        self.size = 0
        self.created = False
        self.is_regular = True
        self._any_file = any_file
        try:
            if any_file and not self._names_regular(name):
                self._open_device(name)
                return
            if "dotlock" in locks:
                self._dotlock(name + ".lock", rules, now)
            self._open(name, rules)
            self._kernel_locks(locks)
            self._still_there(name)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)  # this gives back fcntl and flock locks
            self.fd = -1
        if self._lock_name is not None:
            try:
                os.unlink(self._lock_name, dir_fd=self._directory)
            except OSError:  # removed as stale by another, or the directory became read-only: nothing is to be done
                pass
            self._lock_name = None

    def _names_regular(self, name: str) -> bool:
        try:
            status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return True  # it will be made
        return stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode)

    def _open_device(self, name: str) -> None:
        """A device, or a pipe that somebody reads: it is written to and that is all."""
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        self.fd = os.open(name, flags, dir_fd=self._directory)
        self.is_regular = stat.S_ISREG(os.fstat(self.fd).st_mode)
        if self.is_regular:
            raise Busy("the file was replaced meanwhile")

    def _dotlock(self, name: str, rules: LockRules, now: float) -> None:
        for _ in range(2):
            try:
                fd = os.open(
                    name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                    dir_fd=self._directory,
                )  # fmt: skip
            except FileExistsError:
                if not self._remove_if(name, rules, now):
                    raise Busy(f"lock file {name} exists") from None
                continue
            except OSError as error:
                if self._any_file and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                    return  # other programs, too, can only do without
                raise OSError(error.errno, f"cannot create lock file {name}: {error.strerror}") from error
            self._lock_name = name
            try:
                os.write(fd, b"%d %s\n" % (os.getpid(), rules.host.encode("ascii", "replace")))
            finally:
                os.close(fd)
            return
        raise Busy(f"lock file {name} exists")

    def _remove_if(self, name: str, rules: LockRules, now: float) -> bool:
        """Remove a lock file that nobody holds: too old, or of a mailbox writer of this host that has died."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return True
        except OSError:  # another user's: only its age tells
            status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
            left_by_dead = False
        else:
            try:
                status = os.fstat(fd)
                left_by_dead = stat.S_ISREG(status.st_mode) and _names_dead_writer(os.read(fd, 300), rules.host)
            finally:
                os.close(fd)
        if not left_by_dead and now - status.st_mtime <= rules.stale_s:
            return False
        try:
            os.unlink(name, dir_fd=self._directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True

    def _open(self, name: str, rules: LockRules) -> None:
        try:
            self.fd = os.open(name, _OPEN, dir_fd=self._directory)
        except FileNotFoundError:
            try:
                self.fd = os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._directory)
            except FileExistsError:
                raise Busy("the mailbox was made by another process at the same time") from None
            self.created = True
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotOurs("it is a symbolic link") from None
            if error.errno == errno.EISDIR:
                raise NotOurs("it is a directory") from None
            raise
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotOurs("it is not a regular file")
        if status.st_nlink != 1:
            raise NotOurs(f"it has {status.st_nlink} links")
        if rules.strict_ownership and not self._any_file and status.st_uid != os.geteuid():
            raise NotOurs("it is not owned by the recipient")

    def _kernel_locks(self, locks: tuple[str, ...]) -> None:
        take: tuple[tuple[str, Callable[[int, int], object]], ...] = (("fcntl", fcntl.lockf), ("flock", fcntl.flock))
        for kind, lock in take:
            if kind in locks:
                try:
                    lock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno in (errno.EAGAIN, errno.EACCES):
                        raise Busy(f"another process holds the {kind} lock") from None
                    raise

    def _still_there(self, name: str) -> None:
        """A mail reader may have put another file in place before we had the lock."""
        ours = os.fstat(self.fd)
        self.size = ours.st_size
        try:
            named = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            raise Busy("the mailbox was removed meanwhile") from None
        if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino):
            raise Busy("the mailbox was replaced meanwhile")


def _names_dead_writer(text: bytes, host: str) -> bool:
    found = _OUR_LOCK.fullmatch(text)
    if found is None or found[2] != host.encode("ascii", "replace"):
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False

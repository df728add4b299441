"""What each process may be: the owner of the mail system, and how a process becomes it for good.

process      user                         root needed for
supervisor   root, or who started it      ports below 1024, starting the others
deliverer    root, or who started it      becoming the recipient's user
worker       mail_owner, or who started   nothing
state        mail_owner, or who started   nothing
lookups      mail_owner, or who started   reading the files of tables, once (runtime.table_asker)
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal

from msgspec import Struct

from ekiden.config.snapshot import Parameters

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38


class PrivilegeTrouble(Exception):
    """The server cannot be who it should be; the text is one line for the administrator."""


class Owner(Struct, frozen=True):
    """The user that unprivileged processes run as, and that owns the queue."""

    name: str
    uid: int
    gid: int


def find_owner(parameters: Parameters) -> Owner:
    """``mail_owner`` when root starts the server, else who starts it. Raises PrivilegeTrouble."""
    if os.geteuid() != 0:
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:  # a container that runs as a bare number
            name = str(uid)
        return Owner(name, uid, os.getegid())
    name = parameters.mail_owner
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise PrivilegeTrouble(
            f"mail_owner = {name}: there is no such user; create it with: "
            f"useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {name}"
        ) from None
    if entry.pw_uid == 0:
        raise PrivilegeTrouble(f"mail_owner = {name}: must not be the superuser")
    return Owner(name, entry.pw_uid, entry.pw_gid)


def become(owner: Owner) -> None:
    """Give up root for good; for an ordinary user nothing changes. Raises OSError or PrivilegeTrouble.

    The groups that the administrator has put the user in count: that of saslauthd's socket, of a certificate's key.
    """
    if os.geteuid() == 0:
        os.setgroups([gid for gid in os.getgrouplist(owner.name, owner.gid) if gid != owner.gid])
        os.setresgid(owner.gid, owner.gid, owner.gid)
        os.setresuid(owner.uid, owner.uid, owner.uid)
    # What cannot be undone is looked at, not believed: a container may lie about setresuid.
    if os.getresuid() != (owner.uid,) * 3 or os.geteuid() == 0:
        raise PrivilegeTrouble(f"could not become user {owner.name}")


def forbid_new_privileges() -> None:
    """No set-user-ID program that this process may start gets its user's rights (PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process as soon as ``parent`` dies. To be called after become(), which clears it (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(os.EX_OSERR)


def raise_descriptor_limit() -> int:
    """RLIMIT_NOFILE up to its hard limit, for ten thousand sessions; root raises that too. Returns the limit."""
    wanted = 262_144
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() == 0 and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (OSError, ValueError):  # a container without CAP_SYS_RESOURCE, or fs.nr_open
            pass
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def set_process_title(title: str, area: tuple[int, int] | None) -> None:
    """Show ``title`` in ps and top. ``area`` is where the kernel reads the arguments: see argument_area()."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(title.replace("ekiden: ", "ekiden-").encode()[:15]))
    if area is not None:
        start, size = area
        ctypes.memmove(start, title.encode()[: size - 1].ljust(size, b"\0"), size)


def argument_area() -> tuple[int, int] | None:
    """Address and size of this process's argument strings (proc(5), stat: arg_start, arg_end); None if not told."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The second field, the name in parentheses, may hold blanks.
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[48 - 3]), int(fields[49 - 3])
    except (OSError, IndexError, ValueError):
        return None
    return (start, end - start) if 1 < end - start < 1 << 20 else None


def _prctl(option: int, argument: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    value = ctypes.c_ulong(argument) if isinstance(argument, int) else argument
    if libc.prctl(option, value, zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")

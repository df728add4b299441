"""Accounts of this host, with "no such user" and "could not be found out" told apart.

pwd.getpwnam() says KeyError for both; when a directory server behind nsswitch.conf(5) is away, that would turn
every user's mail into a bounce.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd

from msgspec import Struct


class AccountTrouble(Exception):
    """The account database could not be asked. Always temporary."""


class Account(Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str
    shell: str = ""


# getpwnam(3): "0 or ENOENT or ESRCH or EBADF or EPERM or ...  The given name or uid was not found."
_NOT_FOUND = frozenset((0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM))
_PASSWD_STRUCT_BYTES = 256  # sizeof(struct passwd) is 48 on 64-bit Linux
_PASSWD_TEXT_BYTES = 65_536


def find_account(name: str) -> Account | None:
    """The account ``name``, or None when there is none. Raises AccountTrouble."""
    try:
        return _account(pwd.getpwnam(name))
    except (KeyError, ValueError, UnicodeEncodeError):
        pass
    if "\0" not in name:
        _raise_trouble(os.fsencode(name))
    return None


def account_of(uid: int) -> Account | None:
    """The account of a user number, or None."""
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:
        return None


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def _raise_trouble(name: bytes) -> None:
    libc = ctypes.CDLL(None)
    entry = ctypes.create_string_buffer(_PASSWD_STRUCT_BYTES)
    text = ctypes.create_string_buffer(_PASSWD_TEXT_BYTES)
    found = ctypes.c_void_p()
    code = libc.getpwnam_r(name, entry, text, ctypes.c_size_t(_PASSWD_TEXT_BYTES), ctypes.byref(found))
    if code not in _NOT_FOUND:
        raise AccountTrouble(f"user lookup: {os.strerror(code)}")

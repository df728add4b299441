"""The file of our own accounts: a line of JSON for each, sorted by name; ``ekiden user`` changes it.

    # Ekiden accounts, version 1; change it with: ekiden user
    {"name":"anna@example.com","password":"$argon2id$...","app_passwords":[{"name":"phone",...}]}

It is only ever put in place whole (a rename), by one command at a time (a lock), with mode 0600, and it is durable
before a command says so. Servers see the new one at the next login.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from ekiden.sasl.app_password import AppPassword, is_stored_digest
from ekiden.sasl.saslprep import saslprep
from ekiden.sasl.scram_secret import parse_secret

NAME_LIMIT = 255  # octets
_HEAD = "# Ekiden accounts, version 1; change it with: ekiden user\n"
_VERSION = re.compile(r"# Ekiden accounts, version (\d+)")


class AccountFileTrouble(Exception):
    """The file cannot be read, understood or written; the text is one line and holds no secret."""


class Account(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    name: str  # canonical: as folded_name() has it
    password: str = ""  # argon2id; "" for an account that has app passwords only
    changed: str = ""  # the day of its last change, as 2026-11-29
    scram: tuple[str, ...] = ()
    app_passwords: tuple[AppPassword, ...] = ()
    totp: str = ""  # base32; with it the protocols take app passwords only
    disabled: bool = False

    def __repr__(self) -> str:
        return f"Account({self.name!r}, ***)"

    def app_password(self, name: str) -> AppPassword | None:
        return next((each for each in self.app_passwords if each.name == name), None)


@lru_cache(maxsize=4096)  # each login asks several times, and the same accounts come again
def folded_name(name: str, *, stored: bool = False) -> str:
    """The canonical form of a name: SASLprep (RFC 4013), without regard to case. Raises ValueError."""
    prepared = saslprep(name, stored=stored).casefold()
    if not prepared:
        raise ValueError("it is empty")
    if len(prepared.encode("utf-8", "surrogateescape")) > NAME_LIMIT:
        raise ValueError(f"it is longer than {NAME_LIMIT} octets")
    if any(char.isspace() for char in prepared):
        raise ValueError("it holds white space")
    return prepared


def parse_accounts(text: str, shown: str) -> dict[str, Account]:
    """The accounts of a text, by name. ``shown`` is the file's name for errors. Raises AccountFileTrouble."""
    found: dict[str, Account] = {}
    decoder = msgspec.json.Decoder(Account)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if line.startswith("#"):
            version = _VERSION.match(line)
            if version is not None and version[1] != "1":
                raise AccountFileTrouble(f"{shown}, line {number}: written by a newer Ekiden (version {version[1]})")
            continue
        try:
            account = decoder.decode(line.encode("utf-8"))
            _check(account)
        except (ValueError, RecursionError) as error:
            raise AccountFileTrouble(f"{shown}, line {number}: {_safe(error)}") from None
        if account.name in found:
            raise AccountFileTrouble(f"{shown}, line {number}: a second account {account.name}")
        found[account.name] = account
    return found


def render_accounts(accounts: Mapping[str, Account]) -> str:
    lines = (msgspec.json.encode(accounts[name]).decode("utf-8") for name in sorted(accounts))
    return _HEAD + "".join(f"{line}\n" for line in lines)


def _check(account: Account) -> None:
    """Raises ValueError."""
    if folded_name(account.name) != account.name:
        raise ValueError("a name that is not in its canonical form")
    if account.password and not account.password.startswith("$argon2id$"):
        raise ValueError("a password that is no argon2id hash")
    names = [each.name for each in account.app_passwords]
    if len(set(names)) != len(names):
        raise ValueError("two app passwords of one name")
    if not all(is_stored_digest(each.digest) for each in account.app_passwords):
        raise ValueError("an app password that cannot be read")
    for text in (*account.scram, *(text for each in account.app_passwords for text in each.scram)):
        parse_secret(text)


def _safe(error: Exception) -> str:
    """The error without what the line holds: a hash is nothing for a log."""
    if isinstance(error, msgspec.ValidationError | msgspec.DecodeError):
        return "not an account: " + re.sub(r"`[^`]{40,}`|'[^']{40,}'", "...", str(error))[:150]
    return "bytes that are not UTF-8" if isinstance(error, UnicodeError) else str(error)


class AccountFile:
    """The file at ``path``. One that is not there has no accounts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Account]:
        """Raises AccountFileTrouble."""
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise AccountFileTrouble(f"{self.path}: {error.strerror}") from error
        except ValueError:
            raise AccountFileTrouble(f"{self.path}: holds bytes that are not UTF-8") from None
        return parse_accounts(text, str(self.path))

    def change(self, edit: Callable[[dict[str, Account]], None], *, owner: tuple[int, int] | None = None) -> None:
        """Let ``edit`` change the accounts and write them; what it raises leaves the file as it is.

        A new file belongs to ``owner`` (user and group), an old one to whom it belongs. Raises AccountFileTrouble.
        """
        try:
            with self._locked():
                accounts = self.read()
                edit(accounts)
                self._write(render_accounts(accounts), owner)
        except OSError as error:
            raise AccountFileTrouble(f"{error.filename or self.path}: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile: its directory is locked, which stays where the file is replaced."""
        descriptor = os.open(self._real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @property
    def _real(self) -> Path:
        """A symbolic link stays one; what it leads to is replaced."""
        return Path(os.path.realpath(self.path))

    def _write(self, text: str, owner: tuple[int, int] | None) -> None:
        target = self._real
        try:
            status = target.stat()
            owner = (status.st_uid, status.st_gid)
        except FileNotFoundError:
            pass
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if owner is not None and os.geteuid() == 0:
                    os.fchown(file.fileno(), *owner)
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

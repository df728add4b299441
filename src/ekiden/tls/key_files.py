"""The files that hold keys and certificates, and what is in them: read by whoever may, used by whoever needs them.

Keys are readable by root alone. So the supervisor reads them (and looks at nothing of what is in them), and hands
KeyFiles to the workers, which have given up root: at their start, and again when a file has changed.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters
from ekiden.tables.index import IndexTable
from ekiden.tables.inline import InlineTable
from ekiden.tables.open import FILE_TYPES, open_table
from ekiden.tables.table import TableTrouble
from ekiden.tables.texthash import TexthashTable

# A bundle of all the world's authorities has a quarter of this.
_FILE_BYTES = 1 << 20
_NO_FILE = ("", "none")
# In a directory of keys: what is read of it, how far down (example.com/selector.pem is one down), and how much.
_KEY_SUFFIXES = (".pem", ".key", ".private")
_KEY_DEPTH = 2
DIRECTORY_FILES_LIMIT = 20_000

_State = tuple[int, int, int, int] | None


class KeyFiles(Struct, frozen=True):
    """What the files hold now; what could not be read has its reason in ``troubles``, under the same name.

    ``names``: for each table of tls_server_sni_maps, the PEM text of each server name.
    """

    contents: dict[str, bytes] = {}
    names: dict[str, dict[str, bytes]] = {}
    troubles: dict[str, str] = {}


def offers_tls(parameters: Parameters) -> bool:
    """Whether a service of smtpd with these parameters has TLS at all."""
    level = parameters.smtpd_tls_security_level
    if level:
        return level != "none" or parameters.smtpd_tls_wrappermode
    return parameters.smtpd_tls_wrappermode or parameters.smtpd_enforce_tls or parameters.smtpd_use_tls


def key_pairs(parameters: Parameters) -> Iterator[tuple[str, str, str]]:
    """Parameter, certificate file and key file of each certificate; one file has both for smtpd_tls_chain_files."""
    if parameters.smtpd_tls_chain_files:
        for path in parameters.smtpd_tls_chain_files:
            yield "smtpd_tls_chain_files", path, path
        return
    for parameter, certificate, key in (
        ("smtpd_tls_cert_file", parameters.smtpd_tls_cert_file, parameters.smtpd_tls_key_file),
        ("smtpd_tls_eccert_file", parameters.smtpd_tls_eccert_file, parameters.smtpd_tls_eckey_file),
    ):
        if certificate.lower() not in _NO_FILE:
            yield parameter, certificate, key


def client_key_pairs(parameters: Parameters, prefix: str) -> Iterator[tuple[str, str, str]]:
    """The same of what we show as a client; ``prefix``: smtp or lmtp."""
    chains: tuple[str, ...] = getattr(parameters, f"{prefix}_tls_chain_files")
    if chains:
        yield from ((f"{prefix}_tls_chain_files", path, path) for path in chains)
        return
    for certificate, key in (("cert_file", "key_file"), ("eccert_file", "eckey_file")):
        name = f"{prefix}_tls_{certificate}"
        path: str = getattr(parameters, name)
        if path.lower() not in _NO_FILE:
            yield name, path, getattr(parameters, f"{prefix}_tls_{key}")


def files_of(parameters: Parameters) -> Iterator[str]:
    """The files of one service; its tables of server names have more."""
    for _, certificate, key in key_pairs(parameters):
        yield from (certificate, key)
    if parameters.smtpd_tls_CAfile:
        yield parameters.smtpd_tls_CAfile


def key_directories(parameters: Parameters) -> Iterator[str]:
    """Directories whose keys are all read, because which of them are used is for tables to say, message by message."""
    if parameters.dkim_signing_table or parameters.arc_seal_key:
        yield os.path.normpath(parameters.dkim_key_directory)


class KeyFileReader:
    """Reads the files of all services. ``read`` gives what is there now, ``changed`` tells whether to read again.

    ``clients``: those that deliver by SMTP or LMTP, with the prefix (smtp, lmtp) of the parameters that count.
    ``directories``: as key_directories() has them.
    ``secrets``: files that are read too.
    """

    def __init__(
        self,
        services: Iterable[Parameters],
        clients: Iterable[tuple[Parameters, str]] = (),
        directories: Iterable[str] = (),
        *,
        secrets: Iterable[str] = (),
    ) -> None:
        wanted = [parameters for parameters in services if offers_tls(parameters)]
        paths = {path for parameters in wanted for path in files_of(parameters)}
        for parameters, prefix in clients:
            paths.update(path for _, *pair in client_key_pairs(parameters, prefix) for path in pair)
        paths.update(secrets)
        self._paths = sorted(paths)
        self._tables = {word: parameters for parameters in wanted for word in parameters.tls_server_sni_maps}
        self._directories = sorted(set(directories))
        self._states: dict[str, _State] = {}

    @property
    def has_any(self) -> bool:
        return bool(self._paths or self._tables or self._directories)

    def changed(self) -> bool:
        """Costs one stat() a file."""
        return any(_state(path) != state for path, state in self._states.items())

    def read(self) -> KeyFiles:
        self._states = {}
        contents: dict[str, bytes] = {}
        troubles: dict[str, str] = {}
        names: dict[str, dict[str, bytes]] = {}

        def read(path: str) -> bytes:
            if path not in contents:
                # Looked at before it is read: what changes in between is seen the next time.
                self._states[path] = _state(path)
                contents[path] = _read(path)
            return contents[path]

        for path in [*self._paths, *self._in_directories(troubles)]:
            try:
                read(path)
            except (OSError, ValueError) as error:  # ValueError: no name of a file at all
                troubles[path] = getattr(error, "strerror", None) or str(error)
        for word, parameters in self._tables.items():
            self._states.update((path, _state(path)) for path in _table_files(word))
            try:
                entries = list(table_entries(word, parameters, what="server names"))
            except (ConfigError, TableTrouble) as error:
                troubles[word] = str(error)
                continue
            names[word] = {}
            for name, value in entries:
                try:
                    names[word][name.lower()] = _pem_of(value, read)
                except OSError as error:
                    troubles[f"{word} {name}"] = f"{error.filename or value}: {error.strerror or error}"
                except ValueError as error:
                    troubles[f"{word} {name}"] = str(error)
        return KeyFiles(contents, names, troubles)

    def _in_directories(self, troubles: dict[str, str]) -> list[str]:
        """The files of keys there; a directory that is changed later has a state of its own."""
        found: list[str] = []
        waiting = [(directory, 0) for directory in self._directories]
        while waiting:
            directory, depth = waiting.pop()
            self._states[directory] = _state(directory)
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir():
                            if depth < _KEY_DEPTH:
                                waiting.append((entry.path, depth + 1))
                        elif entry.name.endswith(_KEY_SUFFIXES):
                            found.append(entry.path)
                        if len(found) + len(waiting) > DIRECTORY_FILES_LIMIT:
                            raise OSError(0, f"more than {DIRECTORY_FILES_LIMIT} keys")
            except (OSError, ValueError) as error:
                troubles[directory] = getattr(error, "strerror", None) or str(error)
        return sorted(found)[:DIRECTORY_FILES_LIMIT]


def table_entries(word: str, parameters: Parameters, *, what: str) -> Iterator[tuple[str, str]]:
    """All of a table. Raises ConfigError for one that cannot be listed (``what`` is in it), TableTrouble."""
    table = open_table(word, parameters=parameters)
    if not isinstance(table, IndexTable | InlineTable | TexthashTable):
        kinds = ", ".join(sorted({*FILE_TYPES, "inline"}))
        raise ConfigError(f"{word}: {what} must be in a table that can be listed: {kinds}")
    yield from table.items()


def _table_files(word: str) -> Iterator[str]:
    kind, _, path = word.partition(":")
    if kind in FILE_TYPES:
        yield from (path.strip() + suffix for suffix in ("", ".db", ".cdb", ".lmdb"))


def _pem_of(value: str, read: Callable[[str], bytes]) -> bytes:
    """What a value of a table means: files, or the contents in base64 that ``postmap -F`` has put there."""
    if not value.startswith("/"):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass  # a relative name, which open() judges
    return b"\n".join(read(path) for path in split_words(value))


def _read(path: str) -> bytes:
    """Raises OSError, also for what is no plain file: a device has no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a plain file", path)
        if status.st_size > _FILE_BYTES:
            raise OSError(0, f"larger than {_FILE_BYTES} bytes, which no key or certificate is", path)
        return file.read(_FILE_BYTES)


def _state(path: str) -> _State:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

"""What postmap(1) and postalias(1) have in common: make, change, list and query the tables of the configuration.

Queries go through the same tables as those of the server. Trouble ends a command with status 1, as it does there.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import IO, TypeVar

from msgspec import Struct

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.message_keys import message_keys
from ekiden.cli.trouble import CommandTrouble, complain
from ekiden.config.directory import find_directory
from ekiden.config.errors import ConfigError
from ekiden.config.load import load
from ekiden.config.snapshot import Parameters
from ekiden.tables.build import Duplicates, IndexBuilder, Manner, alias_value
from ekiden.tables.index import SUFFIXES, IndexTable
from ekiden.tables.open import FILE_TYPES, MODULES, open_table
from ekiden.tables.source import Entry, FilesTrouble, contents_of, read_entries
from ekiden.tables.table import Table, TableTrouble, folded

T = TypeVar("T")

_EX_FATAL = 1
# Types whose name may be a path that is not absolute, here where there is a working directory.
_PATH_TYPES = FILE_TYPES | {"cidr", "pcre", "regexp"}


class Options(Struct, frozen=True):
    program: str  # "postmap" or "postalias"
    letters: frozenset[str]
    query: str | None
    delete: str | None
    config: str | None

    @property
    def aliases(self) -> bool:
        return self.program == "postalias"

    @property
    def fold(self) -> bool:
        return "f" not in self.letters

    @property
    def manner(self) -> Manner:
        replace, ignore = "r" in self.letters, "w" in self.letters
        return Manner(
            duplicates=Duplicates.REPLACE if replace else Duplicates.IGNORE if ignore else Duplicates.WARN,
            null=True if "N" in self.letters else False if "n" in self.letters else None,
            inherit="p" not in self.letters,
        )


def run(program: str, letters: str, usage: str, arguments: Sequence[str]) -> int:
    """The exit status: 0, or 1 when nothing was found or something failed."""
    hearer = logging.StreamHandler()
    hearer.setFormatter(logging.Formatter(f"{program}: warning: %(message)s"))
    logging.getLogger("ekiden.tables").addHandler(hearer)
    try:
        try:
            found, tables = getopt(arguments, letters)
            options = _options(program, found)
        except BadOption as error:
            complain(program, str(error))
            raise CommandTrouble(_EX_FATAL, usage) from None
        if not tables:
            raise CommandTrouble(_EX_FATAL, usage)
        return _run(options, tables)
    except (CommandTrouble, ConfigError, TableTrouble) as trouble:
        complain(program, f"fatal: {trouble}")
        return _EX_FATAL
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EX_FATAL
    finally:
        logging.getLogger("ekiden.tables").removeHandler(hearer)


def _options(program: str, found: Sequence[tuple[str, str]]) -> Options:
    """Raises CommandTrouble."""
    chosen = dict(found)
    letters = frozenset(chosen)
    if len(letters & set("sqd")) > 1:
        raise CommandTrouble(_EX_FATAL, "specify only one of -s or -q or -d")
    if letters & set("bhm") and chosen.get("q") != "-":
        raise CommandTrouble(_EX_FATAL, 'specify -b -h or -m only with "-q -"')
    if "m" in letters and not letters & set("bh"):
        raise CommandTrouble(_EX_FATAL, "specify -m only with -b or -h")
    for key in ("q", "d"):
        if chosen.get(key) == "":
            raise CommandTrouble(_EX_FATAL, f"specify a key behind -{key}, or - to read keys from standard input")
    return Options(program, letters, chosen.get("q"), chosen.get("d"), chosen.get("c"))


def _run(options: Options, words: Sequence[str]) -> int:
    parameters = load(find_directory(options.config, os.environ)).parameters
    tables = [full_name(word, parameters) for word in words]
    if options.query is not None:
        return _query(options, tables, parameters)
    if options.delete is not None:
        keys = _keys(sys.stdin.buffer) if options.delete == "-" else [options.delete]
        return 0 if delete(options, tables, keys, parameters) else _EX_FATAL
    for word in tables:
        if "s" in options.letters:
            _list(options, word, parameters)
        else:
            make(options, word, parameters)
    return 0


def full_name(word: str, parameters: Parameters) -> str:
    """``type:name`` with the default type where none is given, and files by their full paths."""
    kind, colon, name = word.partition(":")
    if not colon:
        kind, name = parameters.default_database_type, word
    if kind in _PATH_TYPES and not name.startswith(("/", "{")):
        name = os.path.abspath(name)
    return f"{kind}:{name}"


def _open(options: Options, word: str, parameters: Parameters) -> Table:
    return open_table(word, aliases=options.aliases, fold=options.fold, parameters=parameters)


# --- queries


def _query(options: Options, words: Sequence[str], parameters: Parameters) -> int:
    assert options.query is not None
    if options.query != "-":
        keys: Iterable[str] = [options.query]
    elif options.letters & set("bh"):
        keys = _message_keys(options.letters)
    else:
        keys = _keys(sys.stdin.buffer)
    tables = [_open(options, word, parameters) for word in words]
    return 0 if _run_coroutine(_ask(options, tables, keys)) else _EX_FATAL


def _message_keys(letters: frozenset[str]) -> Iterator[str]:
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    return message_keys(text, headers="h" in letters, bodies="b" in letters, mime="m" in letters)


async def _ask(options: Options, tables: Sequence[Table], keys: Iterable[str]) -> bool:
    """Print what the first table that has a key says of it; whether any key was found."""
    found = False
    for key in keys:
        for table in tables:
            value = await table.lookup(key)
            if value is not None:
                found = True
                _show(options, key if options.query == "-" else None, value)
                break
    for table in tables:
        await table.close()
    return found


def _run_coroutine(coroutine: Coroutine[object, None, T]) -> T:
    """What it gives. A table that ever waits has imported asyncio, which costs others half of their start."""
    if "asyncio" in sys.modules:
        import asyncio

        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a table waits without asyncio")


def _show(options: Options, key: str | None, value: str) -> None:
    shown = value.encode("utf-8", "surrogateescape")
    if "F" in options.letters:
        try:
            shown = base64.b64decode(shown, validate=True)
        except (binascii.Error, ValueError):
            raise CommandTrouble(_EX_FATAL, f"the value of {key or 'the key'} is not base64: {value[:40]}") from None
    head = b"" if key is None else key.encode("utf-8", "surrogateescape") + b"\t"
    out = sys.stdout.buffer
    out.write(head + shown + b"\n")
    out.flush()


def _keys(file: IO[bytes]) -> Iterator[str]:
    for line in file:
        yield line.removesuffix(b"\n").decode("utf-8", "surrogateescape")


def _list(options: Options, word: str, parameters: Parameters) -> None:
    table = _open(options, word, parameters)
    if not isinstance(table, IndexTable):
        raise CommandTrouble(_EX_FATAL, f"table {word}: sequence operation is not supported")
    for key, value in table.items():
        _show(options, key, value)


# --- changes


def delete(options: Options, words: Sequence[str], keys: Iterable[str], parameters: Parameters) -> bool:
    """Whether any of the keys was in any of the tables. Raises TableTrouble, CommandTrouble."""
    wanted = list(keys)
    found = False
    for word in words:
        kind, _, path = word.partition(":")
        if kind not in SUFFIXES:
            raise CommandTrouble(_EX_FATAL, f"table {word}: delete operation is not supported")
        builder = _builder(options, word, parameters)
        if not builder.index_path.exists():
            raise CommandTrouble(_EX_FATAL, f"open database {builder.index_path}: No such file or directory")
        with _as_owner_of(path, options), builder.locked():
            builder.load()
            removed = [key for key in wanted if builder.remove(folded(key, options.fold))]
            if removed:
                found = True
                builder.write()
    return found


def make(options: Options, word: str, parameters: Parameters) -> None:
    """Make the index of a table anew, or with -i add entries of standard input. Raises TableTrouble, CommandTrouble."""
    kind, _, path = word.partition(":")
    if kind not in MODULES:
        raise CommandTrouble(_EX_FATAL, f"unsupported dictionary type: {kind}")
    builder = _builder(options, word, parameters)
    if "i" in options.letters:
        text, shown = sys.stdin.buffer.read(), "stdin"
        with _as_owner_of(path, options), builder.locked():
            builder.load()
            _fill(options, builder, text, shown)
            builder.write()
        return
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise CommandTrouble(_EX_FATAL, f"open {path}: {error.strerror}") from error
    with _as_owner_of(path, options):
        _fill(options, builder, text, path)
        builder.write()


def _builder(options: Options, word: str, parameters: Parameters) -> IndexBuilder:
    from msgspec.structs import replace

    kind, _, path = word.partition(":")
    manner = replace(options.manner, lmdb_map_bytes=parameters.lmdb_map_size)
    return IndexBuilder(kind, path, manner, _warner(options.program))


def _warner(program: str) -> Callable[[str], None]:
    return lambda text: complain(program, f"warning: {text}")


def _fill(options: Options, builder: IndexBuilder, text: bytes, shown: str) -> None:
    warn = _warner(options.program)
    decoded = text.decode("utf-8", "surrogateescape")
    for entry in read_entries(decoded, aliases=options.aliases):
        problem = entry.problem or entry.doubt or ("" if "u" in options.letters else _not_utf8(entry))
        if problem:
            warn(f"{shown}, line {entry.line}: {problem}")
        if problem and problem is not entry.doubt:
            continue
        value = alias_value(entry.value) if options.aliases else entry.value
        if "F" in options.letters:
            try:
                value = contents_of(value)
            except FilesTrouble as trouble:
                warn(f"{shown}, line {entry.line}: {trouble}: skipping this entry")
                continue
        builder.add(folded(entry.key, options.fold), value)


def _not_utf8(entry: Entry) -> str:
    text = f"{entry.key} {entry.value}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        shown = "".join("?" if "\udc80" <= char <= "\udcff" else char for char in text)
        return f'non-UTF-8 input "{shown}" -- ignoring this line'
    return ""


class _as_owner_of:  # noqa: N801 (it is used as a statement)
    """Inside, root is who owns the source: a table in a user's own directory is written with that user's rights."""

    def __init__(self, path: str, options: Options) -> None:
        self._owner: tuple[int, int] | None = None
        self._groups: list[int] = []
        if os.geteuid() == 0 and "o" not in options.letters:
            try:
                found = os.stat(path)
            except OSError:
                return
            if found.st_uid:
                self._owner = (found.st_uid, found.st_gid)

    def __enter__(self) -> None:
        if self._owner is not None:
            self._groups = os.getgroups()
            os.setgroups([])
            os.setegid(self._owner[1])
            os.seteuid(self._owner[0])

    def __exit__(self, *_exception: object) -> None:
        if self._owner is not None:
            os.seteuid(0)
            os.setegid(os.getgid())
            os.setgroups(self._groups)

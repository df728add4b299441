"""Changes main.cf and master.cf as postconf(1) does: what is not changed keeps its lines, comments and order.

The functions on text are pure; rewrite() is the one that touches a file.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.master_cf import split_arguments

_BLANKS = " \t\r\f\v"


class Entry(Struct):
    """A setting or a service, with the numbers (from 0) of the lines it stands on; comments between are not its."""

    text: str  # its lines joined by newline
    lines: list[int]


def entries(text: str) -> Iterator[Entry]:
    """The logical lines of a file, as config.lines has them, with all the lines that each stands on."""
    current: Entry | None = None
    for number, raw in enumerate(text.split("\n")):
        line = raw.rstrip(_BLANKS)
        visible = line.lstrip(_BLANKS)
        if not visible or visible[0] == "#":
            continue
        if current is not None and len(visible) != len(line):
            current.text += "\n" + line
            current.lines.append(number)
            continue
        if current is not None:
            yield current
        current = Entry(line, [number])
    if current is not None:
        yield current


def name_of(entry: Entry) -> str:
    """The name that a line of main.cf sets; empty for a line that sets none."""
    name, equals, _ = entry.text.partition("=")
    return name.strip() if equals else ""


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    """main.cf with these values: in the place where the name is set, else at the end."""
    missing = dict(settings)
    changes: dict[int, str | None] = {}
    for number, entry in enumerate(entries(text)):
        if (name := name_of(entry)) in settings:
            changes[number] = f"{name} = {settings[name]}"
            missing.pop(name, None)
    changed = _applied(text, changes)
    return _appended(changed, [f"{name} = {value}" for name, value in missing.items()])


def without_settings(text: str, names: set[str]) -> str:
    """main.cf without the lines that set these names."""
    return _applied(text, {number: None for number, entry in enumerate(entries(text)) if name_of(entry) in names})


def with_settings_commented(text: str, names: set[str]) -> str:
    """main.cf in which a ``#`` stands before the lines that set these names."""
    return _commented(text, lambda entry: name_of(entry) in names)


def service_of(entry: Entry) -> tuple[str, str] | None:
    """Name and type of the service on a line of master.cf; None where there are not so many words."""
    try:
        words = split_arguments(entry.text)
    except ConfigError:
        return None
    return (words[0], words[1]) if len(words) > 1 else None


def with_service_texts(text: str, texts: Mapping[tuple[str, str], str]) -> str:
    """master.cf with these entries: in the place of the service of that name and type, else at the end."""
    missing = dict(texts)
    changes: dict[int, str | None] = {}
    for number, entry in enumerate(entries(text)):
        service = service_of(entry)
        if service is not None and service in texts:
            changes[number] = texts[service]
            missing.pop(service, None)
    return _appended(_applied(text, changes), list(missing.values()))


def without_services(text: str, wanted: Callable[[str, str], bool]) -> str:
    changes: dict[int, str | None] = {}
    for number, entry in enumerate(entries(text)):
        service = service_of(entry)
        if service is not None and wanted(*service):
            changes[number] = None
    return _applied(text, changes)


def with_services_commented(text: str, wanted: Callable[[str, str], bool]) -> str:
    def chosen(entry: Entry) -> bool:
        service = service_of(entry)
        return service is not None and wanted(*service)

    return _commented(text, chosen)


def _applied(text: str, changes: Mapping[int, str | None]) -> str:
    """``text`` with the entries of these numbers replaced, or left out where the new text is None."""
    new: dict[int, str | None] = {}
    for number, entry in enumerate(entries(text)):
        if number in changes:
            new.update(dict.fromkeys(entry.lines))
            new[entry.lines[0]] = changes[number]
    kept = [new.get(number, line) for number, line in enumerate(text.split("\n"))]
    return "\n".join(line for line in kept if line is not None)


def _commented(text: str, chosen: Callable[[Entry], bool]) -> str:
    lines = text.split("\n")
    for entry in entries(text):
        if chosen(entry):
            for number in entry.lines:
                lines[number] = "#" + lines[number]
    return "\n".join(lines)


def _appended(text: str, additions: list[str]) -> str:
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{line}\n" for line in additions)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, open and locked against other editors, and still the one that has the name. Raises OSError."""
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            ours, named = os.fstat(descriptor), path.stat()
            if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Replace a file by what ``change`` makes of its text: whole or not at all, with its permissions and owner.

    A link stays a link to the changed file. Raises OSError, and whatever ``change`` raises, before anything is changed.
    """
    path = Path(os.path.realpath(path))
    with _locked(path) as descriptor:
        old = _content(descriptor).decode("utf-8", "surrogateescape")
        new = change(old)
        if new == old:
            return
        state = os.fstat(descriptor)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        output = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(output, "wb") as file:
                if (os.fstat(output).st_uid, os.fstat(output).st_gid) != (state.st_uid, state.st_gid):
                    os.fchown(output, state.st_uid, state.st_gid)
                os.fchmod(output, stat.S_IMODE(state.st_mode))
                file.write(new.encode("utf-8", "surrogateescape"))
                file.flush()
                os.fsync(output)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _content(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)

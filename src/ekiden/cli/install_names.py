"""``ekiden install-names DIR``: the classic commands as small scripts that run this installation.

A script and not a link: it names the interpreter and the libraries, so that Python starts without looking for them (in
half the time), whoever runs it and whatever their environment says.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import ekiden
from ekiden.cli.classic import COMMANDS
from ekiden.cli.trouble import CommandTrouble

_MARK = "written by `ekiden install-names`"
# Linux reads no more of the first line of a script (execve(2)).
_INTERPRETER_LIMIT = 250


def run(options: argparse.Namespace) -> int:
    directory = Path(options.directory)
    if not directory.is_dir():
        raise CommandTrouble(os.EX_CANTCREAT, f"{directory}: there is no such directory")
    foreign = [path for name in COMMANDS if not _is_ours(path := directory / name)]
    if foreign and not options.force:
        names = ", ".join(map(str, foreign))
        raise CommandTrouble(
            os.EX_CANTCREAT, f"not written by Ekiden: {names}; nothing was changed; --force replaces them"
        )
    _check_reachable()
    for name in COMMANDS:
        try:
            _write(directory / name, _script(name))
        except OSError as error:
            raise CommandTrouble(os.EX_CANTCREAT, f"{directory / name}: {error.strerror}") from error
        print(directory / name)
    return os.EX_OK


def _is_ours(path: Path) -> bool:
    """Nothing is there, or a script that an earlier call has written."""
    if not os.path.lexists(path):
        return True
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return _MARK.encode() in file.read(1000)


def _libraries() -> list[str]:
    """Where this package and those that it needs lie."""
    own = str(Path(ekiden.__file__).resolve().parent.parent)
    found = [path for path in sys.path if path.rstrip("/").endswith(("site-packages", "dist-packages"))]
    return list(dict.fromkeys([own, *found]))


def _check_reachable() -> None:
    """Every user runs sendmail: all must be able to read what it needs."""
    if os.geteuid() != 0:
        return
    for path in map(Path, (sys.executable, *_libraries())):
        for folder in (path, *path.parents, path.resolve(), *path.resolve().parents):
            if not folder.stat().st_mode & 0o001:
                text = (
                    f"ekiden: warning: {path} is out of reach for other users than root ({folder}): only root can use"
                )
                print(f"{text} these commands", file=sys.stderr)
                return


def _script(name: str) -> str:
    libraries = ", ".join(map(repr, _libraries()))
    first = f"#!{sys.executable} -IS"
    if len(first) > _INTERPRETER_LIMIT or " " in sys.executable:
        # The shell takes the second line for a command, Python for a text.
        first = f"#!/bin/sh\n'''exec' '{sys.executable}' -IS \"$0\" \"$@\"\n' '''"
    return (
        f"{first}\n# {name}(1) of Ekiden, {_MARK}\nimport sys\n\nsys.path += [{libraries}]\n"
        f"from ekiden.cli.classic import run\n\nsys.exit(run({name!r}, sys.argv[1:]))\n"
    )


def _write(path: Path, text: str) -> None:
    """In one step: whoever runs the command meanwhile gets the old one or the new one."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o755)
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

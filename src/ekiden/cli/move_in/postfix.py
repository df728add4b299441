"""``ekiden import postfix PATH``: a configuration directory of Postfix, whose files mean the same here."""

from __future__ import annotations

import re
from pathlib import Path

from ekiden.cli.move_in.moved import Moved, MoveTrouble, read_text
from ekiden.config.check import check
from ekiden.config.load import build
from ekiden.config.problem import Level, Problem

# Index files, and what an editor or a package manager leaves behind.
_NOT_COPIED = re.compile(r".*(\.(db|cdb|lmdb|pag|dir|dpkg-\w+|proto|orig|bak|rpm\w+)|~)$")
_NO_SETTINGS = frozenset({"dynamicmaps.cf", "postfix-files", "postfix-script", "post-install", "makedefs.out",
                          "main.cf.default", "LICENSE", "TLS_LICENSE", "bounce.cf.default"})  # fmt: skip


def move(path: Path, moved: Moved) -> None:
    """Copies the text files and points them at their new directory. Raises MoveTrouble."""
    main = path / "main.cf"
    if not main.is_file():
        raise MoveTrouble(f"{path}: there is no main.cf")
    old, new = str(path.absolute()), str(moved.directory)
    usual = "/etc/postfix"
    texts: dict[str, str] = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if not file.is_file() or name in _NO_SETTINGS or "dynamicmaps.cf.d" in name or "postfix-files.d" in name:
            continue
        if _NOT_COPIED.fullmatch(name):
            if name.endswith((".db", ".cdb", ".lmdb", ".pag", ".dir")):
                moved.changed(str(file), name, "an index: its source is read itself, or run postmap for a new one")
            continue
        text = read_text(file)
        if "\0" in text:
            moved.left(str(file), name, "this is no text file")
            continue
        for place in dict.fromkeys((old, usual)):
            text = re.sub(rf"(?<![\w./-]){re.escape(place)}(?=[/\s,]|$)", new.replace("\\", r"\\"), text)
        texts[name] = text
    moved.files.update(texts)
    _report(path, moved, texts)


def _report(path: Path, moved: Moved, texts: dict[str, str]) -> None:
    configuration = build(moved.directory, texts["main.cf"], texts.get("master.cf"))
    problems: dict[tuple[str, int], Problem] = {}
    for problem in check(configuration):
        problems.setdefault((Path(problem.file).name, problem.line), problem)
    for name, setting in configuration.settings.items():
        _one(moved, path / "main.cf", setting.line, f"{name} = {setting.text}", problems.get(("main.cf", setting.line)))
    for service in configuration.services:
        if service.line:
            shown = f"{service.name} {service.type} {service.command}"
            _one(moved, path / "master.cf", service.line, shown, problems.get(("master.cf", service.line)))
    for name in texts:
        if name not in ("main.cf", "master.cf"):
            moved.carried(str(path / name), name, f"copied to {moved.directory / name}")


def _one(moved: Moved, file: Path, line: int, setting: str, problem: Problem | None) -> None:
    place = f"{file}:{line}"
    if problem is None:
        moved.carried(place, setting, "means the same")
    elif problem.level is Level.INFO and "not needed" in problem.text:
        moved.carried(place, setting, problem.text)
    else:
        moved.left(place, setting, problem.text)

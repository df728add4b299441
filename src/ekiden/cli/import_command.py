"""``ekiden import postfix|sendmail|exim|qmail PATH``: another server's configuration becomes one of ours."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from ekiden.cli.move_in import exim, postfix, qmail, sendmail
from ekiden.cli.move_in.moved import Moved, MoveTrouble, Verdict
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.check import check
from ekiden.config.directory import find_directory
from ekiden.config.load import load
from ekiden.config.problem import Level
from ekiden.tables.check import check_tables

IMPORTERS = {"postfix": postfix.move, "sendmail": sendmail.move, "exim": exim.move, "qmail": qmail.move}
REPORT = "REPORT"


def run(options: argparse.Namespace) -> int:
    """EX_OK when what was made can be served; EX_CONFIG when `ekiden check` finds errors in it."""
    source, target = Path(options.path).absolute(), find_directory(options.config, os.environ)
    if (target / "main.cf").exists() and not options.force:
        text = f"{target} has a main.cf already; choose another directory with -c DIR, or say --force"
        raise CommandTrouble(os.EX_CANTCREAT, text)
    moved = Moved(target)
    try:
        IMPORTERS[options.server](source, moved)
    except MoveTrouble as trouble:
        raise CommandTrouble(os.EX_NOINPUT, str(trouble)) from trouble
    try:
        write(moved, str(source))
    except OSError as error:
        raise CommandTrouble(os.EX_CANTCREAT, f"{error.filename}: {error.strerror}") from error
    found = load(target)
    # What this version does not honour yet is told too: a setting that was carried and does nothing is not carried.
    problems = [*check(found), *check_tables(found)]
    if options.json:
        for finding in moved.findings:
            facts = {"place": finding.place, "setting": finding.setting, "outcome": finding.verdict.value}
            print(json.dumps({**facts, "text": finding.text}, ensure_ascii=False))
    else:
        print(moved.report(), end="")
        print(f"Written to {target}; the file {REPORT} there says the same.")
        for problem in problems:
            print(problem)
        if moved.count(Verdict.LEFT):
            print("Look at what is marked as not carried before mail depends on it.")
    return os.EX_CONFIG if any(problem.level is Level.ERROR for problem in problems) else os.EX_OK


def write(moved: Moved, origin: str) -> None:
    """Lay the files down. Raises OSError."""
    files = dict(moved.files)
    files.setdefault("main.cf", moved.main_cf(origin))
    files.setdefault("master.cf", moved.master_cf())
    files[REPORT] = moved.report()
    for name, text in files.items():
        path = moved.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", "surrogateescape")

"""What a declaration claims is shown: each parameter of Postfix that is declared has a test with its name in @honours.

A declared parameter is one that Ekiden says it honours (settings.md, `ekiden config coverage`). The marks are read from
the source of the tests, so that one in a test that this machine cannot run counts too; a dialog (docs/dialogs.md) bears
them in its ``honours:`` line.
"""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ekiden.config.postfix_names import postfix_defaults
from ekiden.config.snapshot import Parameters
from support.dialogs import load_dialogs
from support.requirements import ROOT


def marks(path: Path) -> Iterator[tuple[str, int]]:
    """The names in the ``honours(...)`` calls of a file, with their lines."""
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "honours":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: write the names themselves"
                assert isinstance(argument.value, str), f"{path}:{node.lineno}: write the names themselves"
                yield argument.value, node.lineno


def _parsed(path: Path) -> ast.Module:
    """Python before 3.11.5 raises SystemError when a collection of garbage comes between (gh-106905)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"), str(path))
    finally:
        if was_enabled:
            gc.enable()


@cache
def marked() -> dict[str, str]:
    """Each marked name, and the place of one of its marks."""
    by_tests = {
        name: f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name, line in marks(path)
    }
    return {name: f"{dialog.name}.dlg" for dialog in load_dialogs() for name in dialog.honours} | by_tests


def test_every_declared_parameter_of_postfix_has_a_test_that_shows_it() -> None:
    claimed = set(Parameters.declared()) & set(postfix_defaults())
    unshown = sorted(claimed - set(marked()))
    assert not unshown, "no test is marked @honours(...) for these; write one that changes them and sees the effect"


def test_every_mark_names_a_declared_parameter() -> None:
    declared = Parameters.declared()
    wrong = {name: place for name, place in marked().items() if name not in declared}
    assert not wrong


def test_marks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    source = tmp_path / "test_x.py"
    source.write_text(
        "pytestmark = honours('a')\n\n@honours('b', 'c')\ndef test_x(): ...\n\nP = param(1, marks=honours('d'))\n"
    )
    assert sorted(marks(source)) == [("a", 1), ("b", 3), ("c", 3), ("d", 6)]

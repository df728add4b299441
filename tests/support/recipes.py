"""The configurations of docs/recipes.md, as they stand there."""

from __future__ import annotations

import re

from support.requirements import ROOT

_PAGE = (ROOT / "docs" / "recipes.md").read_text("utf-8")


def recipe(title: str, **replaced: str) -> tuple[dict[str, str], list[str]]:
    """The parameters and the services of a recipe; ``replaced`` are its addresses, by names that cannot have dots."""
    section = _PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert section, title
    for old, new in replaced.items():
        section = section.replace(f"[{old.removeprefix('_').replace('_', '.')}]", new)
    blocks = dict(re.findall(r"```(\S+)\n(.*?)```", section, re.DOTALL))
    parameters = dict(re.findall(r"^(\w+) = (.*)$", blocks.get("main.cf", ""), re.MULTILINE))
    assert parameters or "main.cf" not in blocks
    return parameters, blocks.get("master.cf", "").splitlines()

"""``ekiden config``: what becomes of the parameters of Postfix."""

from __future__ import annotations

import argparse
import json
import os
import textwrap

from ekiden.config.coverage import coverage as find_coverage
from ekiden.config.postfix_names import postfix_defaults

_WIDTH = 100


def coverage(options: argparse.Namespace) -> int:
    """``ekiden config coverage [--json]``."""
    found = find_coverage()
    if options.json:
        lists = {"honoured": found.honoured, "not_needed": found.not_needed, "not_yet": found.not_yet}
        counts = {name: len(members) for name, members in lists.items()}
        print(json.dumps({"total": len(postfix_defaults()), "counts": counts, **lists}))
        return os.EX_OK
    print(f"Of the {len(postfix_defaults())} parameters of Postfix 3.12 Ekiden honours {len(found.honoured)}, ", end="")
    print(f"does not need {len(found.not_needed)}, and has not yet {len(found.not_yet)}.")
    print(f"\nhonoured ({len(found.honoured)}):\n{_folded(found.honoured)}")
    print(f"\nnot needed ({len(found.not_needed)}):")
    for reason in dict.fromkeys(found.not_needed.values()):
        names = tuple(name for name, why in found.not_needed.items() if why == reason)
        print(f"{_folded(names)}\n      {reason}")
    print(f"\nnot yet ({len(found.not_yet)}):\n{_folded(found.not_yet)}")
    return os.EX_OK


def _folded(names: tuple[str, ...]) -> str:
    indent = "  "
    return textwrap.fill(
        " ".join(names), _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )

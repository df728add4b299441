"""postmap(1): make the indexes of lookup tables, change them, list them, and ask tables of every type."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ekiden.cli.table_command import run

_USAGE = "usage: postmap [-bfFhimnNoprsuUvw] [-c config_dir] [-d key] [-q key] [map_type:]file..."


def main(arguments: Sequence[str] | None = None) -> int:
    return run("postmap", "Nbc:d:fFhimnopq:rsuUvw", _USAGE, sys.argv[1:] if arguments is None else arguments)

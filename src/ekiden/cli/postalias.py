"""postalias(1): as postmap, for files in the form of aliases(5)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ekiden.cli.table_command import run

_USAGE = "usage: postalias [-Nfinoprsuvw] [-c config_dir] [-d key] [-q key] [map_type:]file..."


def main(arguments: Sequence[str] | None = None) -> int:
    return run("postalias", "Nc:d:finopq:rsuvw", _USAGE, sys.argv[1:] if arguments is None else arguments)

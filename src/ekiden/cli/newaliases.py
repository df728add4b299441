"""newaliases(1): make the indexes of all files in alias_database. It says nothing when all went well."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ekiden.cli import postalias
from ekiden.config.directory import find_directory
from ekiden.config.load import load


def main(arguments: Sequence[str] | None = None) -> int:
    """``-C`` (sendmail's) or ``-c`` name the configuration directory, ``-oAtype:file`` one file in place of all.

    Other options of sendmail mean nothing here.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    config: str | None = None
    files: tuple[str, ...] = ()
    while words:
        word = words.pop(0)
        if word[:2] in ("-C", "-c"):
            config = word[2:] or (words.pop(0) if words else None)
            if config is not None and config.endswith(".cf"):
                config = os.path.dirname(config) or "."
        elif word.startswith("-oA") and len(word) > 3:
            files = (word[3:],)
    files = files or load(find_directory(config, os.environ)).parameters.alias_database
    if not files:
        return 0
    return postalias.main([*(("-c", config) if config is not None else ()), "--", *files])

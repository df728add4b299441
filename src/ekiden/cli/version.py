"""``ekiden version``."""

from __future__ import annotations

import argparse
import json
import platform

from ekiden import __version__


def run(options: argparse.Namespace) -> int:
    python = platform.python_version()
    print(json.dumps({"version": __version__, "python": python}) if options.json else f"ekiden {__version__}")
    return 0

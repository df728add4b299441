"""What a test needs from the machine: it is skipped with the reason where that is absent.

With EKIDEN_REQUIRE_ALL=1 (continuous integration) a missing requirement is a failure instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SYSTEM_PATHS = "/usr/sbin:/sbin:/usr/bin:/bin"


def _missing(reason: str) -> NoReturn:
    if os.environ.get("EKIDEN_REQUIRE_ALL") == "1":
        pytest.fail(f"EKIDEN_REQUIRE_ALL=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def require_program(name: str) -> str:
    """The path of a program that a Debian package of tests/apt-packages.txt brings."""
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_PATHS)
    return found if found is not None else _missing(f"{name} is not installed (see tests/apt-packages.txt)")


def require_conformance(*parts: str) -> Path:
    """A file or folder of the conformance data, which lies beside the project, not in it."""
    found = ROOT.parent.joinpath("shared", "conformance", *parts)
    return found if found.exists() else _missing(f"the conformance data {'/'.join(parts)} is not there")


def require_promises() -> Path:
    """The list of what the server must be able to do, which lies beside the project, not in it."""
    found = ROOT.parent / "shared" / "requirements.md"
    return found if found.exists() else _missing("the list of requirements is not there")


def require_root() -> None:
    if os.geteuid() != 0:
        _missing("this test must run as root")


def require_that(condition: bool, reason: str) -> None:
    """``condition`` is what the machine must offer, ``reason`` what it lacks otherwise."""
    if not condition:
        _missing(reason)

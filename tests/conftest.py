"""Fixtures that every kind of test may use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time: a test that fails now and then tells nobody what broke it. `make fuzz` looks further.
# How long an example takes, to make or to try, says how busy the machine is.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """An empty directory that unprivileged processes can reach too: pytest's own tmp_path is closed to them."""
    directory = Path(tempfile.mkdtemp(prefix="ekiden-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)

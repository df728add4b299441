"""Logins that a real saslauthd checks: with the shadow file of the system, and with PAM."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.sasl.accounts import Outcome
from support.accounts import account_list, cheap_hashing
from support.requirements import require_program, require_root
from support.saslauthd import running_saslauthd

_USER = "ekiden-sasl-test"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    """A user of this system with the password "secret word"."""
    require_root()
    useradd, chpasswd, userdel = (require_program(name) for name in ("useradd", "chpasswd", "userdel"))
    subprocess.run([useradd, "--no-create-home", "--shell", "/bin/sh", _USER], check=True)
    try:
        subprocess.run([chpasswd, "-c", "SHA512"], input=f"{_USER}:secret word\n".encode(), check=True)
        yield _USER
    finally:
        subprocess.run([userdel, _USER], check=True)


@pytest.mark.parametrize("mechanism", ["shadow", "pam"])
def test_right_and_wrong_passwords(user: str, tmp_path: Path, mechanism: str) -> None:
    with tempfile.TemporaryDirectory() as folder, running_saslauthd(Path(folder), "-a", mechanism) as socket:
        accounts = account_list(tmp_path, sasl_accounts=f"saslauthd:{socket}")

        def outcome(name: str, password: str) -> Outcome:
            return asyncio.run(accounts.verify(name, password)).outcome

        assert outcome(user, "secret word") is Outcome.OK
        for name, password in ((user, "wrong"), (user, ""), ("nobody-there", "secret word")):
            assert outcome(name, password) is Outcome.WRONG
        for password in ("x" * 1000, "ä" * 128):
            assert outcome(user, password) is Outcome.WRONG
    assert outcome(user, "secret word") is Outcome.UNAVAILABLE

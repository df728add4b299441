"""Logins that the system's PAM checks, with a service and a user made for it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.sasl.accounts import Outcome
from support.accounts import account_list, cheap_hashing
from support.requirements import require_program, require_root, require_that

_NAME = "ekiden-pam-test"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


@pytest.fixture
def user() -> Iterator[str]:
    require_root()
    require_that(Path("/etc/pam.d").is_dir(), "there is no PAM")
    useradd, chpasswd, userdel = (require_program(name) for name in ("useradd", "chpasswd", "userdel"))
    service = Path("/etc/pam.d") / _NAME
    service.write_text("auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
    subprocess.run([useradd, "--no-create-home", "--shell", "/bin/sh", _NAME], check=True)
    try:
        subprocess.run([chpasswd, "-c", "SHA512"], input=f"{_NAME}:secret wörd\n".encode(), check=True)
        yield _NAME
    finally:
        subprocess.run([userdel, _NAME], check=True)
        service.unlink()


def test_right_and_wrong_passwords(user: str, tmp_path: Path) -> None:
    async def scene() -> None:
        accounts = account_list(tmp_path, sasl_accounts=f"pam:{_NAME}")
        assert accounts.check() == []
        assert (await accounts.verify(user, "secret wörd")).outcome is Outcome.OK
        logins = [(user, "wrong"), (user, ""), ("nobody-there", "x"), (user, "secret"), (user.upper(), "secret wörd")]
        for name, password in logins:
            assert (await accounts.verify(name, password)).outcome is Outcome.WRONG
        # Many at a time, a thread each.
        verdicts = await asyncio.gather(*(accounts.verify(user, f"x{number}") for number in range(8)))
        assert {each.outcome for each in verdicts} == {Outcome.WRONG}
        assert (await accounts.verify(user, "secret wörd")).outcome is Outcome.OK
        # What is known to be locked since the last login is seen at once: nothing of it is remembered.
        subprocess.run([require_program("usermod"), "--lock", user], check=True)
        assert (await accounts.verify(user, "secret wörd")).outcome is Outcome.WRONG
        await accounts.aclose()

    asyncio.run(scene())

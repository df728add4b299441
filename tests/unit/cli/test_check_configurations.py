"""The configurations that a Postfix and an Ekiden run from in the tests are right in the eyes of ``ekiden check``."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from ekiden.cli.main import main
from support.same_configuration import CONFIGURATIONS, lay_out

NAMES = sorted(path.name for path in CONFIGURATIONS.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_no_configuration_of_the_tests_has_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    etc, here = tmp_path / "etc", tmp_path / "here"
    here.mkdir()
    lay_out(name, etc, here)
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(pwd, "getpwnam", lambda name: nobody)  # mail_owner and the users of pipes may be no users here
    main(["check", "-c", str(etc)])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if ": error: " in line] == []

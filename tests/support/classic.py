"""The classic commands as `ekiden install-names` writes them, run for one server; and the same as another user."""

from __future__ import annotations

import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support.requirements import ROOT, require_root, require_that
from support.running import RunningServer

_PYTHON = "/usr/bin/python3"


class Classic:
    """``directory`` has the scripts; put it first in PATH and every command of the textbook is ours."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.directory = server.directory / "bin"
        self.directory.mkdir(exist_ok=True)
        done = server.command("install-names", str(self.directory))
        assert done.returncode == 0, done.stderr

    @property
    def environment(self) -> Mapping[str, str]:
        path = f"{self.directory}:{self.server.environment['PATH']}"
        return {**self.server.environment, "PATH": path, "MAIL_CONFIG": str(self.server.etc)}

    def run(self, name: str, *options: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return self._run([str(self.directory / name), *options], text)

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line as a person types it."""
        return self._run(["sh", "-c", line], "")

    def run_as(self, user: str, name: str, *options: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """As another user, who may not be able to reach the interpreter of the tests."""
        require_root()
        require_that(Path(_PYTHON).exists(), "no Python that another user can run")
        libraries = [str(ROOT / "src"), *(path for path in sys.path if path.endswith("site-packages"))]
        code = (
            f"import sys; sys.path += {libraries!r}; from ekiden.cli.classic import run; "
            f"sys.exit(run({name!r}, sys.argv[1:]))"
        )
        who = pwd.getpwnam(user)
        drop = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
        return self._run([*drop, _PYTHON, "-c", code, *options], text)

    def _run(self, words: list[str], text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )

"""Postfix's trivial-rewrite(8), asked for routes over its standard input: no instance of Postfix runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.requirements import require_program


class TrivialRewrite:
    """``ask`` gives "transport:nexthop" for a recipient. ``directory`` must be fresh."""

    def __init__(self, directory: Path, main_cf: Mapping[str, str]) -> None:
        self._program = require_program("/usr/lib/postfix/sbin/trivial-rewrite")
        self._etc = directory / "etc"
        for made in (self._etc, directory / "queue", directory / "data"):
            made.mkdir(parents=True)
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(directory / "log"),
            "maillog_file_prefixes": str(directory),
            **main_cf,
        }
        (self._etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self._etc / "master.cf").write_text("")

    def ask(self, sender: str, recipient: str) -> str:
        words = ("request", "resolve", "sender", sender, "address", recipient)
        done = subprocess.run(
            [self._program, "-S"],
            input=b"".join(word.encode() + b"\0" for word in words) + b"\0",
            env={"PATH": os.environ["PATH"], "MAIL_CONFIG": str(self._etc)},
            capture_output=True,
            timeout=30,
            check=True,
        )
        values = done.stdout.rstrip(b"\0").split(b"\0")
        # The first "flags" is of the protocol, the last one of the answer: 8 is failure.
        answer = dict(zip(values[2::2], values[3::2], strict=True))
        if int(answer[b"flags"]) & 8:
            return "trouble"
        return f"{answer[b'transport'].decode()}:{answer[b'nexthop'].decode()}"

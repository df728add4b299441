"""Debian's Postfix with a queue in which everything waits: to compare what its tools print with what ours print."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.postfix import MASTER_CF
from support.requirements import require_program, require_root
from support.running import open_directory, wait_for


class PostfixQueue:
    """An instance of its own that listens nowhere and delivers nothing (``defer_transports``)."""

    def __init__(self, directory: Path) -> None:
        require_root()
        self._programs = Path(require_program("postfix")).parent
        self.etc = directory / "etc"
        data = directory / "data"
        for made in (self.etc, directory / "queue", data):
            made.mkdir()
        subprocess.run(["chown", "postfix", str(data)], check=True)
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(directory / "queue"),
            "data_directory": str(data),
            "maillog_file": str(directory / "log"),
            "maillog_file_prefixes": str(directory),
            "myhostname": "mx.origin.example",
            "mydestination": "",
            "relay_domains": "",
            "alias_maps": "",
            "inet_protocols": "ipv4",
            "defer_transports": "smtp",
            "enable_long_queue_ids": "yes",
        }
        (self.etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        lines = [line for line in MASTER_CF.splitlines() if " inet " not in line]
        (self.etc / "master.cf").write_text("\n".join(lines) + "\n")

    def run(self, name: str, *options: str, text: str = "") -> subprocess.CompletedProcess[str]:
        program = next(path for path in (self._programs / name, Path("/usr/bin", name)) if path.exists())
        return subprocess.run(
            [program, *options], input=text, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "MAIL_CONFIG": str(self.etc)},
        )  # fmt: skip

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("postqueue", "-j").stdout.splitlines()]

    def submit(self, *options: str, text: str) -> str:
        """A message; its queue id once it is deferred."""
        before = {entry["queue_id"] for entry in self.entries()}
        assert self.run("sendmail", *options, text=text).returncode == 0

        def fresh() -> list[str]:
            return [
                entry["queue_id"]
                for entry in self.entries()
                if entry["queue_id"] not in before and entry["queue_name"] == "deferred"
            ]

        wait_for(fresh, "a deferred message in Postfix's queue")
        return fresh()[0]


@contextlib.contextmanager
def postfix_queue() -> Iterator[PostfixQueue]:
    with open_directory() as directory:
        postfix = PostfixQueue(directory)
        started = postfix.run("postfix", "start")
        assert started.returncode == 0, started.stderr
        try:
            yield postfix
        finally:
            postfix.run("postfix", "stop")

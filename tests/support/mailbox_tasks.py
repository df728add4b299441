"""Jobs for mailbox writers, as tests of Maildir and mbox delivery need them."""

from __future__ import annotations

import os
from pathlib import Path

from ekiden.deliver.mailbox_jobs import Form, WriteJob
from ekiden.deliver.mailbox_text import Task

CONTENT = b"From: a@b.example\r\nSubject: hi\r\n\r\nHello\r\nFrom here\r\n"


def task(
    base: Path,
    path: str,
    *,
    number: int = 1,
    form: Form = Form.MAILDIR,
    content: bytes = CONTENT,
    guarded: bool = True,
    limit: int = 0,
    locks: tuple[str, ...] = ("fcntl", "dotlock"),
    sender: bytes = b"s@y.example",
    head: bytes = b"Delivered-To: a@x.example\n",
    as_file: Path | None = None,
    size: int | None = None,
) -> Task[WriteJob]:
    """With ``as_file`` the content is written there and passed as a descriptor of told ``size``."""
    fd = -1
    if as_file is not None:
        as_file.write_bytes(content)
        fd = os.open(as_file, os.O_RDONLY)
    told = len(content) if size is None else size
    inline = None if as_file is not None else content
    return Task(WriteJob(number, form, str(base), path, guarded, locks, limit, sender, head, inline, told), fd)

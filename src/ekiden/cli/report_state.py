"""What the commands about our reports (``ekiden tlsrpt``, ``ekiden dmarc``) share: their files, and sending now."""

from __future__ import annotations

import os
from pathlib import Path

from ekiden.cli import queue_access
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.load import Configuration
from ekiden.runtime.control_client import ServerTrouble
from ekiden.runtime.requests import ReportSubject


def state_path(found: Configuration, *names: str) -> Path | None:
    """The file below queue_directory; None where nothing was ever kept. Raises CommandTrouble."""
    path = Path(found.parameters.queue_directory, *names)
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandTrouble(os.EX_NOPERM, f"{path}: {error.strerror}") from error
    return path


def send_due(config: str | None, subject: ReportSubject) -> int:
    """Have the server report now what is due. Raises CommandTrouble."""
    with queue_access.connect(queue_access.configuration(config)) as server:
        try:
            count = server.send_reports(subject)
        except ServerTrouble as trouble:
            raise CommandTrouble(os.EX_UNAVAILABLE, str(trouble)) from trouble
    print_lines([f"{count} reports sent"])
    return 0

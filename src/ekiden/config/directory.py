"""Where the configuration lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

DEFAULT_DIRECTORY = Path("/etc/ekiden")
ENVIRONMENT_NAME = "EKIDEN_CONFIG"
# What Postfix's commands ask (postfix(1)), so that scripts which set it reach this server.
POSTFIX_ENVIRONMENT_NAME = "MAIL_CONFIG"


def find_directory(option: str | None, environ: Mapping[str, str]) -> Path:
    """The directory of ``-c DIR``, else of $EKIDEN_CONFIG or $MAIL_CONFIG, else /etc/ekiden; as an absolute path.

    It need not exist: load() says so if it does not.
    """
    chosen = option or environ.get(ENVIRONMENT_NAME) or environ.get(POSTFIX_ENVIRONMENT_NAME)
    return Path(chosen).absolute() if chosen else DEFAULT_DIRECTORY

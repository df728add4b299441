"""What a configuration of Cyrus SASL says (``/etc/postfix/sasl/smtpd.conf``), as far as it has a meaning here.

    pwcheck_method: saslauthd
    saslauthd_path: /var/run/saslauthd/mux
    mech_list: PLAIN LOGIN

Of the methods there is saslauthd. auxprop keeps passwords as they are (sasldb2) and is not supported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from ekiden.config.errors import ConfigError

DIRECTORIES = ("/etc/postfix/sasl", "/etc/sasl2", "/usr/lib/sasl2")
SASLAUTHD_MUX = "/var/run/saslauthd/mux"
_LINE = re.compile(r"([A-Za-z0-9_-]+)\s*:\s*(.*)")


class CyrusConfiguration(Struct, frozen=True):
    """``mechanisms`` empty: all that there are."""

    file: str
    saslauthd: str  # the path of its socket
    mechanisms: frozenset[str] = frozenset()


def read_cyrus_configuration(name: str, directories: Sequence[str] = DIRECTORIES) -> CyrusConfiguration | None:
    """The first file NAME.conf in the directories; None where there is none. Raises ConfigError with file and line."""
    if "/" in name or not name or name.startswith("."):
        raise ConfigError(f"smtpd_sasl_path = {name}: for cyrus write the name of a file without .conf, such as smtpd")
    for directory in directories:
        path = Path(directory) / f"{name}.conf"
        try:
            text = path.read_text("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from error
        return parse_cyrus_configuration(text, str(path))
    return None


def parse_cyrus_configuration(text: str, file: str) -> CyrusConfiguration:
    """Raises ConfigError."""
    settings: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ConfigError("must be a line of the form name: value", file=file, line=number)
        settings[found[1].lower()] = (number, found[2].strip())
    number, methods = settings.get("pwcheck_method", (0, "auxprop"))
    words = methods.lower().split()
    if "saslauthd" not in words:
        what = "auxprop (sasldb2)" if "auxprop" in words else methods
        problem = f"pwcheck_method: {what} is not supported; use saslauthd, or accounts of Ekiden (sasl_accounts)"
        raise ConfigError(problem, file=file, line=number)
    path = settings.get("saslauthd_path", (0, SASLAUTHD_MUX))[1]
    if not path.startswith("/"):
        raise ConfigError("saslauthd_path must be a full path", file=file, line=settings["saslauthd_path"][0])
    mechanisms = frozenset(settings.get("mech_list", (0, ""))[1].upper().split())
    return CyrusConfiguration(file, path, mechanisms)

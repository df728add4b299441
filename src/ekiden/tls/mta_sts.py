"""MTA-STS: what a domain says of TLS with its servers, in a record and a policy (RFC 8461 §3).

In:   the TXT records of ``_mta-sts.DOMAIN``; the text of its policy file; the name of a server.
Out:  the policy's id; the Policy; whether the policy names the server.
Never: raises anything but RecordError and PolicyError, whatever a domain publishes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

from msgspec import Struct

from ekiden.dns.name import host_name
from ekiden.tls.txt_fields import RecordError, fields_of, records_of

POLICY_LIMIT_BYTES = 64 * 1024  # RFC 8461 §3.3 suggests it
MAX_AGE_LIMIT_S = 31_557_600  # a year: RFC 8461 §3.2
_MX_LIMIT = 1000

# RFC 8461 §3.1   sts-id = %s"id=" 1*32(ALPHA / DIGIT)
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
# RFC 8461 §3.2   names and values of the policy file; WSP may surround a value
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_MAX_AGE = re.compile(r"[0-9]{1,10}")


class PolicyError(ValueError):
    """A policy that breaks its grammar: as if there were none (RFC 8461 §3.3)."""


class Mode(enum.Enum):
    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class Policy(Struct, frozen=True):
    """``mx`` are names of hosts in lower case; ``*.example.com`` is any one label in the place of the asterisk."""

    mode: Mode
    mx: tuple[str, ...]
    max_age_s: int

    def names(self, host: str) -> bool:
        """``host`` is one of the domain's servers (RFC 8461 §4.1)."""
        name = host.lower().removesuffix(".")
        _, dot, parent = name.partition(".")
        return name in self.mx or (bool(dot) and f"*.{parent}" in self.mx)

    def lines(self) -> tuple[str, ...]:
        """As the policy file writes it, one field a line, for reports (RFC 8460 §4.4)."""
        mx = tuple(f"mx: {pattern}" for pattern in self.mx)
        return ("version: STSv1", f"mode: {self.mode.value}", *mx, f"max_age: {self.max_age_s}")


def record_name(domain: str) -> str:
    return f"_mta-sts.{domain}"


def policy_host(domain: str) -> str:
    """Who serves the policy (RFC 8461 §3.2)."""
    return f"mta-sts.{domain}"


POLICY_PATH = "/.well-known/mta-sts.txt"


def policy_id(texts: Sequence[bytes]) -> str | None:
    """The id in the one record of a domain; None: it has no MTA-STS (RFC 8461 §3.1). Raises RecordError."""
    records = records_of("STSv1", texts)
    if not records:
        return None
    if len(records) > 1:
        raise RecordError("more than one MTA-STS record")
    return parse_record(records[0])


def parse_record(text: str) -> str:
    """The id. Raises RecordError."""
    ids = [value for name, value in fields_of("STSv1", text, ("id",)) if name == "id"]
    if len(ids) != 1 or _ID.fullmatch(ids[0]) is None:
        raise RecordError("the record has no id, or a wrong one")
    return ids[0]


def parse_policy(octets: bytes) -> Policy:
    """Raises PolicyError. Of a field that comes twice the first counts, except for mx (RFC 8461 §3.2)."""
    if len(octets) > POLICY_LIMIT_BYTES:
        raise PolicyError("the policy is too long")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError("the policy is no text") from None
    fields: dict[str, str] = {}
    mx: list[str] = []
    for line in re.split(r"\r?\n", text):
        if not line.strip(" \t"):
            continue
        key, value = _field(line)
        if key == "mx":
            mx.append(_pattern(value))
        else:
            fields.setdefault(key, value)
    if fields.get("version") != "STSv1":
        raise PolicyError("the policy is not of version STSv1")
    try:
        mode = Mode(fields.get("mode"))
    except ValueError:
        raise PolicyError("the policy has no mode, or an unknown one") from None
    max_age = fields.get("max_age", "")
    if _MAX_AGE.fullmatch(max_age) is None:
        raise PolicyError("the policy has no max_age, or a wrong one")
    if mode is not Mode.NONE and not mx:
        raise PolicyError("the policy names no mx")
    if len(mx) > _MX_LIMIT:
        raise PolicyError("the policy names too many mx")
    return Policy(mode, tuple(dict.fromkeys(mx)), min(int(max_age), MAX_AGE_LIMIT_S))


def _field(line: str) -> tuple[str, str]:
    key, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or _KEY.fullmatch(key) is None:
        raise PolicyError(f"not a field: {line[:40]!r}")
    if not value or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise PolicyError(f"{key} has no value, or none that can be one")
    return key, value


def _pattern(value: str) -> str:
    """RFC 8461 §3.2: ``mx.example.com`` or ``*.example.com``, in A-labels."""
    name = value.removeprefix("*.")
    known = host_name(name) if name.isascii() else None
    if known is None or name.endswith("."):
        raise PolicyError(f"not the name of a host: {value[:80]!r}")
    return known if name == value else f"*.{known}"

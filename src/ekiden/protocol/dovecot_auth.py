"""The protocol of Dovecot's auth socket, as its client (Dovecot's design document "Authentication Protocol", 1.x).

    line    = command *(TAB parameter) LF
    server  : VERSION major minor, MECH name *trait, SPID pid, CUID n, COOKIE hex, DONE
              CONT id base64, OK id *parameter, FAIL id *parameter
    client  : VERSION 1 minor, CPID pid
              AUTH id mechanism service=... *parameter [resp=base64], CONT id base64, CANCEL id

In:   what the server sends, in any pieces; the questions.
Out:  Ready, Continue, Accepted and Refused; the bytes to send. ValueError for what is not of the protocol: the
      connection is of no more use then. Lines of commands that we do not know are passed over, as the protocol wants.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from msgspec import Struct

LINE_LIMIT = 65_536
ANSWER_LIMIT = 8192  # of a line to the server (AUTH_CLIENT_MAX_LINE_LENGTH)
_MECHANISM_LIMIT = 100
_ESCAPES = MappingProxyType({"0": "\0", "1": "\x01", "t": "\t", "r": "\r", "n": "\n"})
_UNSAFE = {char: f"\x01{code}" for code, char in _ESCAPES.items()}


class Mechanism(Struct, frozen=True):
    name: str
    traits: frozenset[str]  # plaintext, anonymous, dictionary, active, forward-secrecy, mutual-auth, private


class Ready(Struct, frozen=True):
    """The server's greeting is whole."""

    mechanisms: tuple[Mechanism, ...]


class Continue(Struct, frozen=True):
    id: int
    data: bytes


class Accepted(Struct, frozen=True):
    """``data`` is the server's last word, None where the mechanism has none."""

    id: int
    user: str
    data: bytes | None


class Refused(Struct, frozen=True):
    id: int
    user: str  # "" where none was given
    temporary: bool
    reason: str  # for the log


Event: TypeAlias = Ready | Continue | Accepted | Refused


class DovecotAuthClient:
    """``pid`` names this client to the server."""

    def __init__(self, pid: int) -> None:
        self._buffer = bytearray()
        self._out = bytearray(f"VERSION\t1\t2\nCPID\t{pid}\n".encode())
        self._mechanisms: list[Mechanism] = []
        self._has_version = self._is_ready = False

    def take_output(self) -> bytes:
        out, self._out = bytes(self._out), bytearray()
        return out

    # --- what we ask

    def auth(self, number: int, mechanism: str, parameters: Mapping[str, str | None], initial: bytes | None) -> None:
        """Begin an exchange. A parameter of None is a word without a value. Raises ValueError for what is too long."""
        if re.fullmatch(r"[A-Z0-9_-]{1,40}", mechanism) is None:
            raise ValueError("not the name of a mechanism")
        words = ["AUTH", str(number), mechanism]
        words += [name if value is None else f"{name}={escaped(value)}" for name, value in parameters.items()]
        if initial is not None:  # the last one, always
            words.append(f"resp={_encoded(initial)}")
        self._send(words)

    def answer(self, number: int, data: bytes) -> None:
        """Raises ValueError for what is too long."""
        self._send(["CONT", str(number), _encoded(data)])

    def cancel(self, number: int) -> None:
        self._send(["CANCEL", str(number)])

    def _send(self, words: list[str]) -> None:
        line = "\t".join(words).encode("utf-8", "surrogateescape")
        if len(line) >= ANSWER_LIMIT:
            raise ValueError(f"a line of {len(line)} bytes, more than Dovecot takes")
        self._out += line + b"\n"

    # --- what comes

    def receive(self, data: bytes) -> list[Event]:
        """Raises ValueError."""
        self._buffer += data
        events: list[Event] = []
        start = 0
        while (end := self._buffer.find(b"\n", start)) >= 0:
            if end - start > LINE_LIMIT:
                raise ValueError("a line that is too long")
            event = self._line(bytes(self._buffer[start:end]).decode("utf-8", "surrogateescape"))
            start = end + 1
            if event is not None:
                events.append(event)
        del self._buffer[:start]
        if len(self._buffer) > LINE_LIMIT:
            raise ValueError("a line that is too long")
        return events

    def _line(self, line: str) -> Event | None:
        command, *words = line.split("\t")
        if not self._is_ready:
            return self._greeting(command, words)
        match command:
            case "CONT":
                return Continue(_number(words), _decoded(words[1]) if len(words) > 1 else b"")
            case "OK":
                facts = _parameters(words)
                if not facts.get("user"):
                    raise ValueError("a success that names no user")
                data = facts.get("resp")
                return Accepted(_number(words), facts["user"], None if data is None else _decoded(data))
            case "FAIL":
                return _refused(_number(words), _parameters(words))
        return None

    def _greeting(self, command: str, words: list[str]) -> Event | None:
        match command:
            case "VERSION":
                if not words or words[0] != "1":
                    raise ValueError("a version of the protocol that is not 1")
                self._has_version = True
            case "MECH" if words and words[0] and len(self._mechanisms) < _MECHANISM_LIMIT:
                self._mechanisms.append(Mechanism(words[0].upper(), frozenset(words[1:])))
            case "DONE":
                if not self._has_version:
                    raise ValueError("a greeting without a version")
                self._is_ready = True
                return Ready(tuple(self._mechanisms))
        return None


def _refused(number: int, facts: dict[str, str]) -> Refused:
    code = facts.get("code", "")
    temporary = "temp" in facts or code == "temp_fail"
    reason = facts.get("reason", "")
    for flag, text in (
        ("authz", "the authorization identity is not for this user"),
        ("user_disabled", "the account is disabled"),
        ("pass_expired", "the password has expired"),
    ):
        if flag in facts or code == flag:
            reason = reason or text
    return Refused(number, facts.get("user", ""), temporary, reason or ("temporary" if temporary else "refused"))


def escaped(value: str) -> str:
    """A value as it stands between tabs."""
    return re.sub("[\0\x01\t\r\n]", lambda found: _UNSAFE[found[0]], value)


def unescaped(value: str) -> str:
    return re.sub("\x01(.)", lambda found: _ESCAPES.get(found[1], found[1]), value, flags=re.DOTALL)


def _parameters(words: list[str]) -> dict[str, str]:
    """Those after the id; of two equal names the first counts."""
    found: dict[str, str] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        found.setdefault(name, unescaped(value))
    return found


def _number(words: list[str]) -> int:
    if not words or re.fullmatch(r"[0-9]{1,10}", words[0]) is None:
        raise ValueError("an answer without the number of a question")
    return int(words[0])


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("utf-8", "surrogateescape"), validate=True)
    except binascii.Error:
        raise ValueError("data that is not base64") from None

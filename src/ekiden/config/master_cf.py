"""Reads master.cf (master(5)): the services, where they listen and what runs them.

In:   the text of the file.
Out:  the services in the file's order, and what is wrong; of two services of one name and type the last holds.
Never: raises; a line that cannot be understood is a problem of level error, and is left out.
"""

from __future__ import annotations

import re

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.lines import logical_lines
from ekiden.config.main_cf import shown
from ekiden.config.problem import Level, Problem

TYPES = ("inet", "unix", "unix-dgram", "fifo", "pass")
_COLUMNS = "name type private unprivileged chroot wakeup maxproc command"
_BLANKS = " \t\r\n\f\v"
_WORD = re.compile(r"[^ \t\r\n\f\v]+")
_BRACE = re.compile(r"[{}]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

# The ports that mail uses, so that they need no /etc/services (RFC 5321, RFC 6409, RFC 8314, RFC 2033).
_PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465, "lmtp": 24}


class Endpoint(Struct, frozen=True):
    """Where an inet service listens. An empty host means the addresses of inet_interfaces."""

    host: str  # a host name or an IP address, IPv6 without brackets
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if host else str(self.port)


class Service(Struct, frozen=True):
    """One service. ``line`` is 0 for a service that is built in."""

    name: str
    type: str
    private: bool = True
    unprivileged: bool = True
    chroot: bool = False
    wakeup: int = 0  # seconds; 0 is never
    maxproc: int | None = None  # None is default_process_limit, 0 is no limit
    command: str = ""
    args: tuple[str, ...] = ()  # without the -o options
    overrides: dict[str, str] = {}  # -o name=value
    line: int = 0

    @property
    def endpoint(self) -> Endpoint | None:
        """Where it listens, for a service of type inet. Raises ConfigError for a name that is no address."""
        return parse_endpoint(self.name) if self.type == "inet" else None


class MasterCf(Struct, frozen=True):
    services: tuple[Service, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_master_cf(text: str, file: str) -> MasterCf:
    """The services of a master.cf; ``file`` is its name for the problems."""
    services: dict[tuple[str, str], Service] = {}
    problems: list[Problem] = []
    for line in logical_lines(text):
        try:
            if line.orphan:
                raise ConfigError("this line begins with white space, but there is no service above that it continues")
            service = _service(line.text, line.number)
        except ConfigError as error:
            problems.append(Problem(file, line.number, Level.ERROR, error.text))
            continue
        key = (service.name, service.type)
        if key in services:
            text = f"service {service.name} {service.type} is there twice: line {services[key].line} is lost"
            problems.append(Problem(file, line.number, Level.WARNING, text))
        services[key] = service
    return MasterCf(tuple(services.values()), tuple(problems))


def parse_endpoint(name: str) -> Endpoint:
    """``25``, ``smtp``, ``127.0.0.1:2525``, ``[::1]:2525``, ``host:port``. Raises ConfigError."""
    host, colon, port = name.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{shown(name)}: write an IPv6 address in brackets: [::1]:25")
    if (colon and not host) or any(char in host for char in "[]/"):
        raise ConfigError(f"{shown(name)} is not an address to listen on: write port or host:port, such as [::1]:25")
    return Endpoint(host, _port(port, name))


def _port(text: str, name: str) -> int:
    if text.isascii() and text.isdigit():
        number = int(text) if len(text) <= 5 else 65536
        if number > 65535:
            raise ConfigError(f"{shown(name)}: a port is a number from 0 to 65535")
        return number
    if text in _PORTS:
        return _PORTS[text]
    import socket  # late: few names of ports are not above

    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):  # ValueError: not even a name
        raise ConfigError(f"{shown(name)}: {shown(text)} is not a port: write a number, smtp or submission") from None


def _service(text: str, number: int) -> Service:
    if _CONTROL.search(text):
        raise ConfigError("there is a control character in this line")
    words = split_arguments(text)
    if len(words) < 8:
        raise ConfigError(f"there are {len(words)} of 8 columns: {_COLUMNS}")
    name, kind, private, unprivileged, chroot, wakeup, maxproc, command = words[:8]
    if kind not in TYPES:
        raise ConfigError(f"{shown(kind)} is not a type of service: write one of {', '.join(TYPES)}")
    args, overrides = _options(words[8:])
    service = Service(
        name,
        kind,
        private=_yes(private, True, "private"),
        unprivileged=_yes(unprivileged, True, "unprivileged"),
        chroot=_yes(chroot, False, "chroot"),
        wakeup=_number(wakeup.removesuffix("?"), "wakeup") or 0,
        maxproc=_number(maxproc, "maxproc"),
        command=command,
        args=args,
        overrides=overrides,
        line=number,
    )
    if kind == "inet":
        parse_endpoint(name)
    return service


def _yes(word: str, default: bool, column: str) -> bool:
    if word not in ("y", "n", "-"):
        raise ConfigError(f"{shown(word)} in the column {column}: write y, n or -")
    return default if word == "-" else word == "y"


def _number(word: str, column: str) -> int | None:
    if word == "-":
        return None
    if not (word.isascii() and word.isdigit() and len(word) <= 9):
        raise ConfigError(f"{shown(word)} in the column {column}: write a whole number or -")
    return int(word)


def _options(words: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments and the ``-o`` options among them; options end at the first word without a dash."""
    args: list[str] = []
    overrides: dict[str, str] = {}
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        word = words[at]
        at += 1
        if not word.startswith("-o"):
            args.append(word)
            continue
        if word == "-o":
            if at == len(words):
                raise ConfigError("-o has nothing behind it: write -o name=value")
            word = "-o" + words[at]
            at += 1
        name, equals, value = word[2:].partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{shown(word[2:])} behind -o: write -o name=value or -o {{ name = value }}")
        overrides[name.strip()] = value.strip()
    return (*args, *words[at:]), overrides


def split_arguments(text: str) -> list[str]:
    """Words separated by white space; a word that begins with ``{`` goes on to its ``}`` and loses both."""
    words = text.split()
    # Braces are rare: only a line that has a word beginning with one is read the long way.
    return _split_braces(text) if any(word[0] == "{" for word in words) else words


def _split_braces(text: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in _BLANKS:
            at += 1
            continue
        if text[at] != "{":
            found = _WORD.match(text, at)
            assert found is not None
            words.append(found[0])
            at = found.end()
            continue
        end = _closing_brace(text, at)
        if end < len(text) and text[end] not in _BLANKS:
            raise ConfigError(f"there must be white space behind the }} of {shown(text[at:end])}")
        words.append(text[at + 1 : end - 1].strip().replace("\n", ""))
        at = end
    return words


def _closing_brace(text: str, start: int) -> int:
    """The place behind the brace that closes the one at ``start``."""
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise ConfigError(f"there is no }} for the brace of {shown(text[start:])}")

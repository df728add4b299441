"""What is decided about a command before it runs and after: arguments, environment, what its end means.

In:   the command as an alias, .forward or main.cf has it; facts of the mail; the parameters.
Out:  arguments and environment; an Answer for an exit status and what the command said.
Never: starts anything (deliver.command_run does).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ekiden.deliver.macros import filtered
from ekiden.deliver.mailbox_jobs import Answer, deferred, delivered, failed
from ekiden.message.status import Status

# A command made of these needs no shell, unless its first word is no program but a word of the shell's own.
_PLAIN = frozenset("1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t")
SHELL = b"/bin/sh"
PATH = "/usr/bin:/bin"  # confstr(_CS_PATH) without what only developers have


class CommandLine(Struct, frozen=True):
    """``argv`` is tried first; when its program is not there (and was named without a path) a shell gets ``line``."""

    argv: tuple[bytes, ...]
    line: bytes


def command_line(text: str, shell: str = "") -> CommandLine:
    """How to run a command as it is written; ``shell`` is local_command_shell."""
    line = text.encode("utf-8", "surrogateescape")
    if shell:
        return CommandLine((*(os.fsencode(word) for word in shell.split()), line), b"")
    words = tuple(line.split())
    if words and _PLAIN.issuperset(text):
        return CommandLine(words, b"" if b"/" in words[0] else line)
    return CommandLine((SHELL, b"-c", line), b"")


def environment(
    values: Mapping[str, str], *, allowed: str, exported: Sequence[str], own: Mapping[str, str]
) -> tuple[tuple[bytes, bytes], ...]:
    """The environment of a command: PATH, what export_environment lets through of ``own``, and ``values``.

    Characters of values that are not in ``allowed`` (command_expansion_filter) become underscores. A value that is
    empty is left out.
    """
    result = {"PATH": PATH}
    for word in exported:
        name, equals, value = word.strip("{} \t").partition("=")
        if equals:
            result[name.strip()] = value.strip()
        elif name in own:
            result[name] = own[name]
    kept = frozenset(allowed)
    result.update({name: filtered(value, kept) for name, value in values.items() if value})
    return tuple((os.fsencode(name), os.fsencode(value.replace("\0", "_"))) for name, value in result.items())


# sysexits.h, and what each means for mail (RFC 3463)
_EXITS: dict[int, tuple[str, str]] = {
    64: ("5.3.0", "command line usage error"),
    65: ("5.6.0", "data format error"),
    66: ("5.3.0", "cannot open input"),
    67: ("5.1.1", "user unknown"),
    68: ("5.1.2", "host name unknown"),
    69: ("5.3.0", "service unavailable"),
    70: ("5.3.0", "internal software error"),
    71: ("4.3.0", "system resource problem"),
    72: ("5.3.0", "critical OS file missing"),
    73: ("5.2.0", "can't create user output file"),
    74: ("5.3.0", "input/output error"),
    75: ("4.3.0", "temporary failure"),
    76: ("5.5.0", "remote error in protocol"),
    77: ("5.7.0", "permission denied"),
    78: ("5.3.5", "local configuration error"),
}


def ended(number: int, shown: str, success: str, code: int, output: bytes) -> Answer:
    """The answer for a command that ended. ``code`` is as of waitstatus_to_exitcode: negative for a signal."""
    said = _one_line(output)
    if code == 0:
        return delivered(number, success)
    tail = f". Command output: {said}" if said else ""
    if code < 0:
        return deferred(number, 3, 0, f'Command died with signal {-code}: "{shown}"{tail}')
    told = Status.parse(said)
    if told is not None and not told.is_success:
        rest = said[len(str(told)) :].strip() or said
        make = deferred if told.is_temporary else failed
        return make(number, told.subject, told.detail, rest)
    if code in _EXITS:
        status, text = _EXITS[code]
        klass, subject, detail = (int(part) for part in status.split("."))
        return (deferred if klass == 4 else failed)(number, subject, detail, f"{text}{tail}")
    return failed(number, 3, 0, f'Command died with status {code}: "{shown}"{tail}')


def timed_out(number: int, shown: str, output: bytes) -> Answer:
    said = _one_line(output)
    tail = f". Command output: {said}" if said else ""
    return failed(number, 3, 0, f'Command time limit exceeded: "{shown}"{tail}')


def not_started(number: int, shown: str, error: OSError) -> Answer:
    """The program is not there or cannot be run: an administrator or the user can mend that, so mail waits."""
    return deferred(number, 3, 0, f'cannot run "{shown}": {error.strerror}')


def _one_line(output: bytes) -> str:
    return " ".join(output.decode("utf-8", "replace").split())


def default_signals() -> None:
    """In a new process before it becomes a command: the deliverer ignores signals that a command shall not."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)

"""Dialogs as test data: the reader of ``.dlg`` files, the player, and a peer made of the bare server core.

docs/dialogs.md describes the format. ``play`` knows neither sockets nor cores: it is given a function that sends
bytes and one that receives a line, so the same files run against the core and against a daemon.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from ekiden.message.envelope import BodyType
from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import commands, server_replies
from ekiden.protocol.smtp.server import BareNewline, Limits, SmtpServer
from ekiden.protocol.smtp.verbs import Encryption, Rules

DIALOGS = Path(__file__).resolve().parents[1] / "dialogs"
CLOSED = "<closed>"


class Step(Struct, frozen=True):
    """What the client sends in one write, then the patterns of the reply lines it waits for."""

    line: int  # where the step begins in its file
    send: bytes
    expect: tuple[tuple[int, str], ...]  # line number, pattern


class Dialog(Struct, frozen=True):
    name: str  # the file's name below tests/dialogs, without ".dlg"
    title: str  # its first comment
    settings: dict[str, str]  # parameters of main.cf that it needs
    honours: tuple[str, ...]  # those of its settings whose effect it shows (support.honours)
    steps: tuple[Step, ...]


class DialogError(Exception):
    """A dialog file that cannot be read."""


class Mismatch(AssertionError):
    """The peer said something else than the dialog expects."""


def load_dialogs(protocol: str = "smtp") -> list[Dialog]:
    """All dialogs of a protocol, by name."""
    return [read_dialog(path) for path in sorted((DIALOGS / protocol).rglob("*.dlg"))]


def read_dialog(path: Path) -> Dialog:
    return parse_dialog(path.read_text("utf-8"), str(path.relative_to(DIALOGS).with_suffix("")))


_LINE = re.compile(r"(C|C!|S):(?: (.*))?", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([rnt\\])|\{(.+?)\*(\d+)\})", re.DOTALL)
_NAMED = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}


def parse_dialog(text: str, name: str) -> Dialog:
    """Raises DialogError with the file's name and the line."""
    title = ""
    settings: dict[str, str] = {}
    honours: tuple[str, ...] = ()
    steps: list[Step] = []
    sending, expected, began = b"", list[tuple[int, str]](), 0
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") or not line.strip():
            title = title or line.lstrip("# ")
            continue
        key, colon, value = line.partition("setting:")
        if colon and not key:
            parameter, equals, setting = value.partition("=")
            if not equals:
                raise DialogError(f"{name}.dlg:{number}: setting: wants NAME = VALUE")
            settings[parameter.strip()] = setting.strip()
            continue
        if line.startswith("honours:"):
            honours = tuple(line.split()[1:])
            if not honours or not settings.keys() >= set(honours):
                raise DialogError(f"{name}.dlg:{number}: honours: wants names of setting: lines above it")
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise DialogError(f"{name}.dlg:{number}: not a C:, C!:, S:, setting: or honours: line: {line!r}")
        who, words = found[1], found[2] or ""
        if who == "S":
            expected.append((number, words))
            continue
        if expected:
            steps.append(Step(began, sending, tuple(expected)))
            sending, expected = b"", []
        began = began if sending else number
        sending += _unescape(words) + (b"\r\n" if who == "C" else b"")
    if sending or expected:
        steps.append(Step(began, sending, tuple(expected)))
    if not steps:
        raise DialogError(f"{name}.dlg: nothing is said in it")
    return Dialog(name, title, settings, honours, tuple(steps))


def _unescape(text: str) -> bytes:
    out, at = b"", 0
    for found in _ESCAPE.finditer(text):
        out += text[at : found.start()].encode("utf-8")
        code, named, repeated, count = found.groups()
        if code is not None:
            out += bytes([int(code, 16)])
        elif named is not None:
            out += _NAMED[named]
        else:
            out += _unescape(repeated) * int(count)
        at = found.end()
    return out + text[at:].encode("utf-8")


def play(dialog: Dialog, send: Callable[[bytes], None], receive: Callable[[], bytes]) -> list[str]:
    """Hold the dialog. Raises Mismatch where the peer departs from it; returns what was said.

    ``receive`` gives one line with its line end, and b"" when the peer has closed. The banner is taken for granted
    unless the dialog begins with an ``S:`` line.
    """
    said: list[str] = []

    def hear(number: int, pattern: str) -> bytes:
        line = receive()
        said.append("S: " + line.decode("utf-8", "backslashreplace").rstrip("\r\n") if line else CLOSED)
        if line and not line.endswith(b"\r\n"):
            raise Mismatch(_report(dialog, number, "a line that ends in <CR><LF>", said))
        text = line[:-2].decode("utf-8", "backslashreplace") if line else CLOSED
        if not _matches(text, pattern):
            raise Mismatch(_report(dialog, number, pattern, said))
        return line

    if dialog.steps[0].send:
        hear(dialog.steps[0].line, "220 *")
    for step in dialog.steps:
        if step.send:
            said.extend(f"C: {line!r}" for line in step.send.split(b"\r\n") if line)
            send(step.send)
        for number, pattern in step.expect:
            line = hear(number, pattern)
            while pattern[3:] == "-*" and line[3:4] == b"-":
                line = hear(number, pattern)
    return said


def _matches(text: str, pattern: str) -> bool:
    if pattern[3:] == "-*":  # the rest of a reply of many lines, its last line included
        return text[:3] == pattern[:3] and text[3:4] in ("-", " ")
    # fnmatch knows [..] and ? as well, which are ordinary in replies.
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def _report(dialog: Dialog, number: int, pattern: str, said: list[str]) -> str:
    talk = "\n  ".join(line if len(line) < 200 else line[:200] + "..." for line in said[-12:])
    return f"{dialog.name}.dlg:{number}: expected {pattern!r}; the dialog was:\n  {talk}"


# The peer without sockets: the core and the smallest policy that a dialog can rely on.

HOST = "mail.here.example"
SETTINGS = frozenset(
    {
        "line_length_limit",
        "message_size_limit",
        "smtpd_forbid_bare_newline",
        "smtpd_forbid_unauth_pipelining",
        "smtpd_tls_security_level",
        "strict_rfc821_envelopes",
    }
)
_EXTENSIONS = ("ETRN", "8BITMIME", "CHUNKING", "BINARYMIME", "DSN", "SMTPUTF8", "DELIVERBY", "MT-PRIORITY")
_ENCRYPTION = {"none": Encryption.NONE, "may": Encryption.OFFERED, "encrypt": Encryption.REQUIRED}
_BARE_NEWLINE = {choice.value: choice for choice in BareNewline}


class CorePeer:
    """Accepts mail for here.example and its own postmaster, from anyone; refuses to relay. Keeps what it accepts."""

    def __init__(self, settings: dict[str, str], *, chunk: int = 0) -> None:
        """``chunk``: how many bytes the core gets at a time, 0 for all."""
        unknown = settings.keys() - SETTINGS
        if unknown:
            raise DialogError(f"the core has no setting {', '.join(sorted(unknown))}")
        self.core = SmtpServer(
            rules=Rules(
                Limits(command_line_bytes=int(settings.get("line_length_limit", "2048"))),
                int(settings.get("message_size_limit", "10240000")),
                settings.get("strict_rfc821_envelopes", "no") == "yes",
                forbids_early_input=settings.get("smtpd_forbid_unauth_pipelining", "yes") == "yes",
                encryption=_ENCRYPTION[settings.get("smtpd_tls_security_level", "none")],
            ),
            bare_newline=_BARE_NEWLINE[settings.get("smtpd_forbid_bare_newline", "reject")],
        )
        self._chunk = chunk
        self._size_limit = settings.get("message_size_limit", "10240000")
        self._output = server_replies.greeting(HOST).render()
        self._content = b""
        self._body = BodyType.SEVEN_BIT
        self.accepted: list[bytes] = []

    def send(self, data: bytes) -> None:
        for part in chunks(data, self._chunk):
            self.core.receive(part)
            while (event := self.core.next_event()) is not None:
                if isinstance(event, commands.Content):
                    self._content += event.data
                elif isinstance(event, commands.FirstChunk):
                    self._content = b""
                else:
                    self.core.reply(self._answer(event))
            self._output += self.core.take_output()

    def receive(self) -> bytes:
        end = self._output.find(b"\n") + 1
        if not end and not self.core.closed:
            return b"(nothing)\r\n"
        line, self._output = self._output[:end], self._output[end:]
        return line

    @property
    def unheard(self) -> bytes:
        """Replies that no one has read."""
        return self._output

    def _answer(self, event: commands.Question) -> Reply:
        match event:
            case commands.Helo(extended=True):
                extensions = ("PIPELINING", f"SIZE {self._size_limit}", "ENHANCEDSTATUSCODES", *_EXTENSIONS)
                self.core.offer(frozenset(_EXTENSIONS))
                return server_replies.ehlo_reply(HOST, extensions)
            case commands.Helo():
                self.core.offer(frozenset())
                return server_replies.helo_reply(HOST)
            case commands.Mail(body=body):
                self._body = body
                return server_replies.SENDER_OK
            case commands.Rcpt(address=address):
                if (address.domain or "here.example").lower() == "here.example":
                    return server_replies.RECIPIENT_OK
                return reply(554, "5.7.1", f"<{address}>: Relay access denied")
            case commands.EndOfChunk(size=size, refusal=refusal):
                return server_replies.chunk_reply(size) if refusal is None else refusal.reply
            case commands.Data() if self._body is BodyType.BINARY_MIME:
                return server_replies.BINARY_NEEDS_BDAT
            case commands.Data():
                self._content = b""
                return server_replies.SEND_CONTENT
            case commands.EndOfContent(refusal=refusal):
                if refusal is not None:
                    return refusal.reply
                self.accepted.append(self._content)
                return server_replies.queued_reply("4Fz")
            case commands.Vrfy(address=address):
                if (address.domain or "here.example").lower() != "here.example":
                    return reply(554, "5.7.1", f"<{address}>: Relay access denied")
                return server_replies.vrfy_reply(str(address))
            case commands.Etrn(domain=domain):
                return reply(459, "4.7.0", f"<{domain}>: service unavailable")
            case commands.Help():
                return server_replies.help_reply(self.core.verbs)
            case commands.Quit():
                return server_replies.BYE
            case commands.StartTls():
                return server_replies.READY_TO_START_TLS  # and there a dialog ends
            case commands.AuthStart() | commands.AuthResponse():
                return server_replies.NOT_IMPLEMENTED  # its rules have no login
            case commands.Invalid(reply=answer):
                return answer
            case commands.XClient() | commands.XForward():
                return reply(550, "5.7.0", "Error: insufficient authorization")
            case commands.Rset() | commands.Noop():
                return server_replies.OK


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` in pieces of ``size`` bytes; 0 for one piece."""
    if not size:
        yield data
        return
    for at in range(0, len(data), size):
        yield data[at : at + size]

"""An SMTP client that sends the bytes that the test wants, and hears what is answered."""

from __future__ import annotations

import socket
from types import TracebackType

DEADLINE_S = 20.0


class SmtpSocket:
    """``with SmtpSocket(port) as client:`` opens the connection; the banner is heard with hear()."""

    def __init__(self, port: int, *, source: str = "", deadline_s: float = DEADLINE_S) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=deadline_s, source_address=(source, 0) if source else None
        )
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> SmtpSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def line(self) -> bytes:
        """One line with its end; b"" when the server has closed or reset the connection."""
        try:
            return self._file.readline()
        except ConnectionError:
            return b""

    def hear(self) -> str:
        """One whole reply, its lines joined by LF; "" when the server has closed the connection."""
        lines: list[str] = []
        while line := self.line():
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def send(self, data: bytes) -> None:
        """All of it, or as much as the server takes before it closes the connection."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def say(self, *commands: str | bytes) -> str:
        """Send commands in one write; the reply to the last, heard after those to the others."""
        texts = [command.encode() if isinstance(command, str) else command for command in commands]
        self.send(b"".join(text + b"\r\n" for text in texts))
        answer = ""
        for _ in texts:
            answer = self.hear()
        return answer

    def greet(self) -> str:
        """Banner and EHLO; the reply to EHLO."""
        banner = self.hear()
        assert banner.startswith("220 "), banner
        return self.say("EHLO client.example")

    def mail(self, sender: str, *recipients: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> str:
        """A whole message; the reply to its end, or to the command that was refused."""
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"):
            answer = self.say(command)
            if answer[:1] not in ("2", "3"):
                return answer
        return self.say(content + b".")

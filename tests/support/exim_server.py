"""A server that holds the first transaction of one of the server dialogues of Exim's test suite, and what it decides.

Our client says its own addresses and sizes, so that verbs are compared and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ekiden.message.host import Host
from support.exim_scripts import Dialogue, Step


class Outcome:
    """What the replies of a dialogue mean for the recipients of its first transaction, by the codes alone."""

    def __init__(self, dialogue: Dialogue) -> None:
        commands: list[str] = []  # not yet answered
        replies: list[tuple[str, str]] = []
        for step in dialogue.steps:
            if step.kind == "hear":
                commands.append(step.text[:4].upper().strip())
            elif step.kind == "say":
                for line in step.data.decode("latin-1").split("\r\n"):
                    if line and line[3:4] != "-":
                        # After a message an LMTP server says more, one reply for each recipient.
                        last = replies[-1][0] if replies else ""
                        replies.append(((commands.pop(0) if commands else last) if replies else "", line[:3]))
        self.greeting = replies[0][1] if replies else ""
        self.is_lmtp = any(step.text.upper().startswith("LHLO") for step in dialogue.steps)
        self.has_transaction = False
        self.mail = ""
        self.recipients: list[str] = []
        self.data = ""
        self.ends: list[str] = []
        heard = [step.text[:4].upper().strip() for step in dialogue.steps if step.kind == "hear"]
        first = heard.index("MAIL") if "MAIL" in heard else len(heard)
        until = heard.index("MAIL", first + 1) if "MAIL" in heard[first + 1 :] else len(heard)
        self.heard = heard[:until]
        self.recipient_count = self.heard.count("RCPT")
        mails = 0
        for command, code in replies[1:]:
            mails += command == "MAIL"
            if mails > 1:
                break
            match command:
                case "MAIL":
                    self.mail = code
                case "RCPT":
                    self.recipients.append(code)
                case "DATA":
                    self.data = code
                case "." | "BDAT":
                    self.ends.append(code)
        self.has_end = "." in self.heard or "BDAT" in self.heard

    def of_recipient(self, index: int) -> str:
        """The code that decides; "" where the connection ends before."""
        if not self.mail.startswith("2"):
            return self.mail
        code = self.recipients[index] if index < len(self.recipients) else ""
        if not code.startswith("2"):
            return code
        if self.data and not self.data.startswith("3"):
            return self.data
        if not self.is_lmtp:
            return self.ends[-1] if self.ends else ""
        accepted = [number for number, answer in enumerate(self.recipients) if answer.startswith("2")]
        place = accepted.index(index)
        return self.ends[place] if place < len(self.ends) else ""


class ScriptedServer:
    """``trouble``: where our client did not say what the dialogue awaits."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self.trouble = ""
        self.said: list[str] = []
        self._served = False

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.host = Host("exim.example", "127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._served:
                self._served = True
                await self._hold(self._dialogue.steps, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _hold(self, steps: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mails = 0
        pipelines = any(b"PIPELINING" in step.data for step in steps)
        for step in steps:
            match step.kind:
                case "say":
                    writer.write(step.data)
                    await writer.drain()
                case "hear" if step.text == ".":
                    while (line := await reader.readline()) not in (b".\r\n", b""):
                        pass
                case "hear":
                    line = await reader.readline()
                    while line.startswith(b"RSET") and not step.text.upper().startswith("RSET"):
                        self.said.append("RSET")
                        writer.write(b"250 reset\r\n")
                        line = await reader.readline()
                    wanted = step.text[:4].upper().strip()
                    while pipelines and wanted in ("QUIT", "RSET") and line[:4] in (b"RCPT", b"DATA"):
                        # It went with the commands before, which were refused (RFC 2920 §3.1).
                        writer.write(b"503 no\r\n")
                        line = await reader.readline()
                    verb = line[:4].decode("latin-1").upper().strip()
                    self.said.append(verb)
                    mails += wanted == "MAIL"
                    if verb == "BDAT":
                        await reader.readexactly(int(line.split()[1]))
                    if mails > 1 or not line or (verb == "QUIT" and wanted != "QUIT" and mails):
                        if verb == "QUIT":
                            writer.write(b"221 bye\r\n")
                        return
                    if verb != wanted:
                        self.trouble = self.trouble or f"line {step.line}: {verb} in place of {wanted}"
                        return

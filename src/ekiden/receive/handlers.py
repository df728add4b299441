"""Which function answers which command: one small function each, that answers its question once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ekiden.protocol.smtp import commands
from ekiden.receive import client_attributes, content, envelope, etrn, hello, login, other_commands, starttls

# By the type of a command: called with the session and the command.
HANDLERS: Mapping[type, Callable[[Any, Any], Awaitable[None]]] = {
    commands.Helo: hello.helo,
    commands.AuthStart: login.start,
    commands.AuthResponse: login.respond,
    commands.Mail: envelope.mail,
    commands.Rcpt: envelope.rcpt,
    commands.Rset: envelope.rset,
    commands.Data: content.data,
    commands.FirstChunk: content.first_chunk,
    commands.Content: content.take,
    commands.EndOfChunk: content.end_of_chunk,
    commands.EndOfContent: content.end_of_content,
    commands.Noop: other_commands.noop,
    commands.Vrfy: other_commands.vrfy,
    commands.Etrn: etrn.etrn,
    commands.Help: other_commands.help,
    commands.XClient: client_attributes.xclient,
    commands.XForward: client_attributes.xforward,
    commands.StartTls: starttls.starttls,
    commands.Quit: other_commands.quit,
    commands.Invalid: other_commands.invalid,
}

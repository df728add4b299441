"""Nothing that a client says before the handshake is heard after it, however it is cut (RFC 3207 §6, CVE-2011-0411).

The first byte chooses what STARTTLS is, and the size of the pieces; the rest is said in the clear.
"""

from __future__ import annotations

from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import Content, Data, EndOfContent, FirstChunk, Helo, Invalid, Mail, Rcpt, StartTls
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.server import BareNewline, SmtpServer, State, ehlo_reply
from ekiden.protocol.smtp.verbs import Encryption, Rules

_KINDS = (Encryption.OFFERED, Encryption.REQUIRED)
_RULES = [Rules(Limits(), 1000, False, encryption=kind) for kind in _KINDS]
_LENIENT = [Rules(Limits(), 1000, False, encryption=kind, forbids_early_input=True) for kind in _KINDS]
_SECURED = Rules(Limits(), 1000, False, encryption=Encryption.ACTIVE)
_OK = {Helo: ehlo_reply("mail.example", ("STARTTLS",)), Mail: replies.SENDER_OK, Rcpt: replies.RECIPIENT_OK,
       Data: replies.SEND_CONTENT}  # fmt: skip
SEEDS = [
    bytes([mode]) + talk
    for mode in (0, 1, 2, 3, 9, 30)
    for talk in (
        b"EHLO c.example\r\nSTARTTLS\r\n",
        b"EHLO c.example\r\nSTARTTLS\r\nMAIL FROM:<evil@b.example>\r\n",
        b"STARTTLS\r\n\n",
        b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nSTARTTLS\r\nDATA\r\nx\r\n.\r\n",
        b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSTARTTLS\r\n.\r\nSTARTTLS\r\n",
        b"starttls x\r\nSTARTTLS\nSTARTTLS \r\nSTARTTLS\r\n",
    )
]


def one_input(data: bytes) -> None:
    if not data:
        return
    rules = (_LENIENT if data[0] & 2 else _RULES)[data[0] & 1]
    size = data[0] // 4 or len(data)
    core = SmtpServer(rules=rules, bare_newline=BareNewline.REJECT)
    talk = data[1:]
    for at in range(0, len(talk), size):
        core.receive(talk[at : at + size])
        while (event := core.next_event()) is not None:
            if isinstance(event, Content | FirstChunk):
                continue
            if isinstance(event, StartTls):
                core.reply(replies.READY_TO_START_TLS)
                # Nothing is left of this piece, and a new session begins.
                assert core.next_event() is None
                assert core.state is State.CONNECTED
                core.secure(_SECURED)
                core.receive(b"STARTTLS\r\n")
                again = core.next_event()
                assert isinstance(again, Invalid)
                assert again.reply is replies.TLS_ACTIVE
                return
            if isinstance(event, Invalid):
                core.reply(event.reply)
            elif isinstance(event, EndOfContent) and event.refusal is not None:
                core.reply(event.refusal.reply)
            else:
                if data[0] & 1:
                    assert not isinstance(event, Mail | Rcpt | Data)  # TLS is required, and has not begun
                core.reply(_OK.get(type(event), replies.OK))

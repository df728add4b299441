"""The server's side of LMTP: SMTP's, but for the greeting LHLO and for its answers to a message (RFC 2033 §4).

What differs in the commands is in the rules (``is_lmtp``); here is what differs in the replies: at the end of a message
each recipient that was accepted gets one, in their order (RFC 2033 §4.2). A driver says the outcome once; the queue
takes a message for all of its recipients or for none.
"""

from __future__ import annotations

from ekiden.message.reply import Reply
from ekiden.protocol.smtp.commands import EndOfContent, Rcpt
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.server import SmtpServer
from ekiden.protocol.smtp.states import State
from ekiden.protocol.smtp.verbs import Rules


class LmtpServer(SmtpServer):
    __slots__ = ("_recipients",)

    def __init__(self, *, rules: Rules, bare_newline: BareNewline) -> None:
        super().__init__(rules=rules, bare_newline=bare_newline)
        self._recipients = 0  # that were accepted in this transaction; one given twice is two

    def reply(self, reply: Reply) -> None:
        question, recipients = type(self._open), self._recipients
        super().reply(reply)
        if question is Rcpt and reply.code < 300:
            self._recipients += 1
        elif question is EndOfContent and not self.closed:  # a farewell is said once, and is for all
            self._earlier.extend([self._output] * (recipients - 1))
        if self.state in _WITHOUT_RECIPIENTS:
            self._recipients = 0


_WITHOUT_RECIPIENTS = (State.CONNECTED, State.GREETED, State.SENDER)

"""``sendmail -bs``: one SMTP session of a user of this host, whose messages go to the maildrop (RFC 5321 §4.1).

In:   the bytes of the user, by a callable that waits for them; the settings.
Out:  replies, by a callable; a drop for each message. The server takes it in as the user's own, whoever the session
      says it is from: there is nothing to relay for strangers here, so no access rules hold.
Never: keeps a message in memory, or says 250 for one that is not durable.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import BodyType
from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import commands, server_replies
from ekiden.protocol.smtp.data import BareNewline
from ekiden.protocol.smtp.limits import RFC_PATH_LIMITS, Limits, PathLimits
from ekiden.protocol.smtp.server import SmtpServer
from ekiden.protocol.smtp.verbs import Rules
from ekiden.receive.extensions import Occasion, keyword, offered_extensions
from ekiden.receive.maildrop import Drop, DropWriter, knock

_TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Error: too many recipients")
# The maildrop keeps no more of what clients say than these need.
_HAS = frozenset({"PIPELINING", "SIZE", "VRFY", "ENHANCEDSTATUSCODES", "8BITMIME"})
_DENIED = reply(550, "5.7.0", "Error: insufficient authorization")
_WRITE_ERROR = reply(451, "4.3.0", "Error: queue file write error")


class StandaloneSession:
    def __init__(self, parameters: Parameters, write: Callable[[bytes], None]) -> None:
        self._parameters = parameters
        self._queue_directory = Path(parameters.queue_directory)
        self._write = write
        limits = Limits(
            command_line_bytes=parameters.line_length_limit,
            path=RFC_PATH_LIMITS if parameters.strict_rfc821_envelopes else PathLimits(),
        )
        rules = Rules(limits, parameters.message_size_limit, parameters.strict_rfc821_envelopes)
        self._core = SmtpServer(rules=rules, bare_newline=BareNewline.NORMALIZE)
        discarded = frozenset(word.upper() for word in parameters.smtpd_discard_ehlo_keywords)
        lines = offered_extensions(parameters, Occasion(discarded, is_trusted=True))
        self._extensions = [line for line in lines if keyword(line) in _HAS]
        self._errors = 0
        self._mail: commands.Mail | None = None
        self._recipients: list[str] = []
        self._drop: DropWriter | None = None

    def run(self, read: Callable[[], bytes]) -> None:
        """Until QUIT or the end of the input; a message whose content had not ended is nobody's then."""
        self._write(Reply(220, None, (self._parameters.smtpd_banner,)).render())
        try:
            bare: bool | None = None
            while not self._core.closed and (data := read()):
                if bare is None and (at := data.find(b"\n")) >= 0:
                    # Programs that pipe SMTP may end all lines as lines end on this host. The first line decides.
                    bare = not data[:at].endswith(b"\r")
                self._core.receive(data.replace(b"\n", b"\r\n") if bare else data)
                while (event := self._core.next_event()) is not None:
                    if isinstance(event, commands.Content):
                        self._take(event.data)
                    elif not isinstance(event, commands.FirstChunk):
                        self._core.reply(self._counted(self._answer(event)))
                if output := self._core.take_output():
                    self._write(output)
        finally:
            self._reset()

    def _counted(self, answer: Reply) -> Reply:
        self._errors += answer.code >= 400
        if self._errors < self._parameters.smtpd_hard_error_limit:
            return answer
        return reply(421, "4.7.0", f"{self._parameters.myhostname} Error: too many errors", closes=True)

    def _answer(self, event: commands.Question) -> Reply:
        match event:
            case commands.Helo(extended=extended):
                self._reset()
                host = self._parameters.myhostname
                if extended:
                    return server_replies.ehlo_reply(host, self._extensions)
                return server_replies.helo_reply(host)
            case commands.Mail():
                self._mail = event
                return server_replies.SENDER_OK
            case commands.Rcpt(address=address):
                if len(self._recipients) >= self._parameters.smtpd_recipient_limit:
                    return _TOO_MANY_RECIPIENTS
                self._recipients.append(str(address))
                return server_replies.RECIPIENT_OK
            case commands.Data():
                return self._begin()
            case commands.EndOfContent(refusal=refusal):
                if refusal is None:
                    return self._end()
                self._reset()
                return refusal.reply
            case commands.Rset():
                self._reset()
                return server_replies.OK
            case commands.Noop():
                return server_replies.OK
            case commands.Etrn():
                return server_replies.NOT_IMPLEMENTED  # it is not offered
            case commands.Vrfy(address=address):
                if self._parameters.disable_vrfy_command:
                    return reply(502, "5.5.1", "VRFY command is disabled")
                return server_replies.vrfy_reply(str(address))
            case commands.Help():
                return server_replies.help_reply(self._core.verbs)
            case commands.XClient() | commands.XForward():
                return _DENIED
            case commands.Quit():
                return server_replies.BYE
            case commands.AuthStart() | commands.AuthResponse() | commands.StartTls():
                return server_replies.NOT_IMPLEMENTED  # the rules have no login
            case commands.EndOfChunk():
                return server_replies.NOT_IMPLEMENTED  # CHUNKING is not offered
            case commands.Invalid(reply=answer):
                return answer

    def _begin(self) -> Reply:
        mail = self._mail
        assert mail is not None  # the core's states know DATA only after MAIL and RCPT
        drop = Drop(tuple(self._recipients), str(mail.sender), body_8bit=mail.body is BodyType.EIGHT_BIT_MIME)
        try:
            self._drop = DropWriter(self._queue_directory, drop)
        except OSError as error:
            return _no_space(error)
        return server_replies.SEND_CONTENT

    def _take(self, data: bytes) -> None:
        if self._drop is None:
            return
        try:
            self._drop.write(data)
        except OSError:
            # The answer to the end of content says so.
            self._drop.abandon()
            self._drop = None

    def _end(self) -> Reply:
        drop, self._drop = self._drop, None
        self._reset()
        if drop is None:
            return _WRITE_ERROR
        try:
            drop.commit()
        except OSError as error:
            return _no_space(error)
        knock(self._queue_directory)
        return server_replies.queued_reply(drop.name)

    def _reset(self) -> None:
        if self._drop is not None:
            self._drop.abandon()
        self._mail, self._drop = None, None
        self._recipients = []


def _no_space(error: OSError) -> Reply:
    return reply(451, "4.3.0", f"Error: the maildrop cannot be written: {error.strerror}")

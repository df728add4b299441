"""What the server core says by itself, and the replies that every SMTP server gives (RFC 5321 §4.2, RFC 3463).

Codes and texts are those that clients, log readers and administrators know from Postfix where it has them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ekiden.message.reply import Reply, reply

# Success.
OK = reply(250, "2.0.0", "Ok")
SENDER_OK = reply(250, "2.1.0", "Ok")
RECIPIENT_OK = reply(250, "2.1.5", "Ok")
SEND_CONTENT = reply(354, None, "End data with <CR><LF>.<CR><LF>")
BYE = reply(221, "2.0.0", "Bye", closes=True)
READY_TO_START_TLS = reply(220, "2.0.0", "Ready to start TLS")

# Lines that are no command.
LINE_TOO_LONG = reply(500, "5.5.2", "Error: command line too long")
BAD_SYNTAX = reply(500, "5.5.2", "Error: bad syntax")
CONTROL_CHARACTER = reply(501, "5.5.2", "Error: control character in command")
BARE_CR_IN_COMMAND = reply(501, "5.5.2", "Error: bare <CR> received")
# The code is smtpd_forbid_bare_newline_reject_code's; the session ends, for what a client that cuts its
# lines differently meant to say next is unknown.
BARE_LF_IN_COMMAND = reply(550, "5.5.2", "Error: bare <LF> received", closes=True)
NOT_SMTP = reply(221, "2.7.0", "Error: this is an SMTP server", closes=True)
NOT_SYNCHRONIZED = reply(554, "5.5.0", "Error: SMTP protocol synchronization", closes=True)
UNKNOWN_COMMAND = reply(500, "5.5.2", "Error: command not recognized")  # RFC 5321 §4.2.4: 502 is for known ones
NOT_IMPLEMENTED = reply(502, "5.5.1", "Error: command not implemented")

# Commands at the wrong time.
TLS_REQUIRED = reply(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 §4
TLS_ACTIVE = reply(554, "5.5.1", "Error: TLS already active")
TLS_NOT_AVAILABLE = reply(454, "4.7.0", "TLS not available due to local problem")
NESTED_MAIL = reply(503, "5.5.1", "Error: nested MAIL command")
NEED_MAIL = reply(503, "5.5.1", "Error: need MAIL command")
NEED_RCPT = reply(503, "5.5.1", "Error: need RCPT command")
IN_TRANSACTION = reply(503, "5.5.1", "Error: MAIL transaction in progress")
AFTER_CHUNK = reply(503, "5.5.1", "Error: not between the chunks of a message")
AFTER_REFUSED_CHUNK = reply(503, "5.5.1", "Error: an earlier chunk of this message was refused")
BINARY_NEEDS_BDAT = reply(503, "5.5.1", "Error: BODY=BINARYMIME needs BDAT")  # RFC 3030 §3
NO_VALID_RECIPIENTS = reply(554, "5.5.1", "Error: no valid recipients")
LMTP_NO_VALID_RECIPIENTS = reply(503, "5.5.1", "Error: no valid recipients")  # RFC 2033 §4.2 wants this code

# Arguments.
HELO_SYNTAX = reply(501, "5.5.4", "Syntax: HELO hostname")
LHLO_SYNTAX = reply(501, "5.5.4", "Syntax: LHLO hostname")
EHLO_SYNTAX = reply(501, "5.5.4", "Syntax: EHLO hostname")
HELO_TOO_LONG = reply(501, "5.5.4", "Error: host name too long")
MAIL_SYNTAX = reply(501, "5.5.4", "Syntax: MAIL FROM:<address>")
RCPT_SYNTAX = reply(501, "5.5.4", "Syntax: RCPT TO:<address>")
DATA_SYNTAX = reply(501, "5.5.4", "Syntax: DATA")
# How many octets follow nobody knows then: what is content and what is a command cannot be told apart.
BDAT_SYNTAX = reply(501, "5.5.4", "Syntax: BDAT count [LAST]", closes=True)
RSET_SYNTAX = reply(501, "5.5.4", "Syntax: RSET")
STARTTLS_SYNTAX = reply(501, "5.5.4", "Syntax: STARTTLS")
QUIT_SYNTAX = reply(501, "5.5.4", "Syntax: QUIT")
ETRN_SYNTAX = reply(501, "5.5.4", "Syntax: ETRN domain")
VRFY_SYNTAX = reply(501, "5.5.4", "Syntax: VRFY address")
XCLIENT_SYNTAX = reply(501, "5.5.4", "Syntax: XCLIENT attribute=value...")
XFORWARD_SYNTAX = reply(501, "5.5.4", "Syntax: XFORWARD attribute=value...")
BAD_SENDER = reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT = reply(501, "5.1.3", "Bad recipient address syntax")
LONG_SENDER = reply(501, "5.1.7", "Bad sender address: too long")
LONG_RECIPIENT = reply(501, "5.1.3", "Bad recipient address: too long")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "Address has non-ASCII characters and SMTPUTF8 is not offered")
SMTPUTF8_NOT_DECLARED = reply(553, "5.6.7", "Address has non-ASCII characters and MAIL came without SMTPUTF8")
BAD_SIZE = reply(501, "5.5.4", "Bad message size syntax")
REPEATED_PARAMETER = reply(501, "5.5.4", "Error: parameter given twice")
SIZE_TOO_BIG = reply(552, "5.3.4", "Message size exceeds fixed limit")

# Login (RFC 4954 §4, §6).
AUTH_SYNTAX = reply(501, "5.5.4", "Syntax: AUTH mechanism")
AUTH_NEEDS_HELO = reply(503, "5.5.1", "Error: send HELO/EHLO first")
AUTH_IN_TRANSACTION = reply(503, "5.5.1", "Error: MAIL transaction in progress")
BAD_BASE64 = reply(501, "5.5.2", "Error: malformed base64 in authentication exchange")
AUTH_LINE_TOO_LONG = reply(500, "5.5.6", "Error: authentication exchange line is too long")
AUTH_CANCELLED = reply(501, "5.7.0", "Authentication aborted")
LOGGED_IN = reply(235, "2.7.0", "Authentication successful")
BAD_SUBMITTER = reply(501, "5.5.4", "Error: bad AUTH parameter")

# Content.
BARE_LF = reply(550, "5.5.2", "Error: bare <LF> received")
BARE_CR = reply(550, "5.5.2", "Error: bare <CR> received")
MESSAGE_TOO_BIG = reply(552, "5.3.4", "Error: message file too big")


def greeting(hostname: str, text: str = "ESMTP Ekiden") -> Reply:
    """The banner; RFC 5321 §4.2 wants the host's name first."""
    return Reply(220, None, (f"{hostname} {text}",))


def helo_reply(hostname: str) -> Reply:
    return Reply(250, None, (hostname,))


def ehlo_reply(hostname: str, extensions: Iterable[str]) -> Reply:
    """RFC 5321 §4.1.1.1: our name, then one extension keyword with its parameters a line."""
    return Reply(250, None, (hostname, *extensions))


def queued_reply(queue_id: str) -> Reply:
    return Reply(250, OK.status, (f"Ok: queued as {queue_id}",))


def help_reply(verbs: Iterable[str]) -> Reply:
    """RFC 5321 §4.1.1.8"""
    return reply(214, "2.0.0", f"Commands: {' '.join(verbs)}")


def chunk_reply(size: int) -> Reply:
    """RFC 3030 §2: 250 for each chunk, at best with its size."""
    return reply(250, "2.0.0", f"Ok: {size} octets")


def vrfy_reply(text: str) -> Reply:
    """RFC 5321 §3.5.3: "cannot verify, but will take it", which tells a spammer nothing."""
    return reply(252, "2.0.0", text)


def auth_challenge(encoded: str) -> Reply:
    """RFC 4954 §4: a challenge in base64, which may be empty."""
    return Reply(334, None, (encoded,))


def bad_parameter(keyword: str) -> Reply:
    """A parameter of MAIL or RCPT that is known, with a value that is none of its."""
    return reply(501, "5.5.4", f"Bad {keyword} parameter syntax")


def unsupported_option(keyword: str) -> Reply:
    """RFC 5321 §4.1.1.11; ``keyword`` must be printable."""
    return reply(555, "5.5.4", f"Unsupported option: {keyword}")

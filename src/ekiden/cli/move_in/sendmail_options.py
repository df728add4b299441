"""The options of a sendmail.mc: ``define(`confNAME', `value')``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ekiden.cli.move_in.m4 import Call
from ekiden.cli.move_in.sendmail_reader import Reader
from ekiden.cli.move_in.sendmail_tables import alias_file

# Options that are one parameter of ours, with the same meaning.
_SAME = {
    "confDOMAIN_NAME": "myhostname",
    "confMAX_MESSAGE_SIZE": "message_size_limit",
    "confMAX_RCPTS_PER_MESSAGE": "smtpd_recipient_limit",
    "confMAX_HOP": "hopcount_limit",
    "confMAX_QUEUE_RUN_SIZE": "queue_run_message_limit",
    "confQUEUE_LA": "queue_load_average_limit",
    "confREFUSE_LA": "refuse_load_average_limit",
    "confMAX_ALIAS_RECURSION": "local_alias_recursion_limit",
    "confMAX_HEADERS_LENGTH": "header_block_limit",
    "confDOUBLE_BOUNCE_ADDRESS": "2bounce_notice_recipient",
}
# Times: the parameter of ours, and the unit that counts where sendmail's option has none.
_TIMES = {
    "confTO_CONNECT": ("smtp_connect_timeout", "m"),
    "confTO_ICONNECT": ("smtp_connect_timeout", "m"),
    "confTO_HELO": ("smtp_helo_timeout", "m"),
    "confTO_MAIL": ("smtp_mail_timeout", "m"),
    "confTO_RCPT": ("smtp_rcpt_timeout", "m"),
    "confTO_DATAINIT": ("smtp_data_init_timeout", "m"),
    "confTO_DATABLOCK": ("smtp_data_xfer_timeout", "m"),
    "confTO_DATAFINAL": ("smtp_data_done_timeout", "m"),
    "confTO_RSET": ("smtp_rset_timeout", "m"),
    "confTO_QUIT": ("smtp_quit_timeout", "m"),
    "confTO_COMMAND": ("smtpd_timeout", "m"),
    "confTO_QUEUERETURN": ("maximal_queue_lifetime", "d"),
    "confTO_QUEUERETURN_NORMAL": ("maximal_queue_lifetime", "d"),
    "confTO_QUEUEWARN": ("delay_warning_time", "h"),
    "confTO_QUEUEWARN_NORMAL": ("delay_warning_time", "h"),
    "confMIN_QUEUE_AGE": ("minimal_backoff_time", "m"),
}
# Options that the server does by itself, or that have nothing to work on here.
_NEEDLESS = {
    "confAUTO_REBUILD": "aliases are read again when their file changes",
    "confTRY_NULL_MX_LIST": "a domain without MX records is reached by its address (RFC 5321)",
    "confDONT_PROBE_INTERFACES": "names of the host are in mydestination, not guessed from its interfaces",
    "confTRUSTED_USER": "the supervisor and the deliverer keep root; all else runs as mail_owner",
    "confTRUSTED_USERS": "every user may name a sender; the log has the user's number",
    "confDEF_USER_ID": "programs of aliases run as default_privs",
    "confRUN_AS_USER": "the server's own processes run as mail_owner",
    "confEIGHT_BIT_HANDLING": "eight-bit content is passed on as it is",
    "confLOG_LEVEL": "every fact is logged once",
    "confHOST_STATUS_DIRECTORY": "what is known of other hosts is in memory",
    "confSEPARATE_PROC": "deliveries need no processes of their own",
    "confCF_VERSION": "the version is Ekiden's own",
    "confPID_FILE": "the process id is kept in the queue directory",
    "confSAFE_QUEUE": "the queue is always safe: mail is on disk before it is acknowledged",
    "confUSE_MSP": "the sendmail command leaves mail in the maildrop",
    "STATUS_FILE": "statistics come from the log",
    "confMAX_DAEMON_CHILDREN": "sessions are no processes; smtpd_session_limit bounds them",
    "confME_TOO": "a sender who is in an alias gets a copy, as sendmail does by default now",
    "confWORK_RECIPIENT_FACTOR": "the queue is fair between destinations and sizes",
    "confFORWARD_PATH": "set forward_path if .forward files lie elsewhere than in the home directory",
}
_PRIVACY = {
    "novrfy": ("disable_vrfy_command", "yes"),
    "needmailhelo": ("smtpd_helo_required", "yes"),
}
_PRIVACY_NEEDLESS = frozenset({"noexpn", "needexpnhelo", "needvrfyhelo", "public", "nobodyreturn", "noreceipts",
                               "restrictexpand", "noetrn"})  # fmt: skip
_TIME = re.compile(r"([0-9]+)\s*(?:(s|m|h|d|w)[a-z]*)?", re.IGNORECASE)


def define(reader: Reader, call: Call) -> None:
    name, value = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else ""
    special = _OPTIONS.get(name)
    if special is not None:
        special(reader, call, value)
    elif name in _SAME:
        reader.set(call, _SAME[name], value)
    elif name in _TIMES:
        _time(reader, call, value)
    elif name in _NEEDLESS:
        reader.carried(call, f"not needed: {_NEEDLESS[name]}")
    elif name.startswith(("confAUTH", "confCACERT", "confSERVER_", "confCLIENT_", "confTLS", "confCIPHER", "confCRL")):
        reader.left(call, "certificates and login are set by smtpd_tls_..., smtp_tls_... and smtpd_sasl_...")
    else:
        reader.left(call, "this option has no counterpart")


def _time(reader: Reader, call: Call, value: str) -> None:
    parameter, unit = _TIMES[call.arguments[0]]
    found = _TIME.fullmatch(value)
    if found is None:
        reader.left(call, f"{value!r} is not a time that {parameter} could have")
        return
    reader.set(call, parameter, f"{found[1]}{(found[2] or unit).lower()}")


def _delivery_mode(reader: Reader, call: Call, value: str) -> None:
    mode = value[:1].lower()
    if mode in ("b", ""):
        reader.carried(call, "mail is delivered in the background, always")
    elif mode == "i":
        reader.changed(call, "mail is safe on disk, then delivered in the background; nobody waits for the delivery")
    else:
        reader.moved.add("defer_transports", "smtp", "relay")
        reader.changed(call, "defer_transports = smtp, relay: mail for other hosts waits for `ekiden flush`")


def _relay(reader: Reader, call: Call, value: str) -> None:
    mailer, colon, host = value.partition(":")
    host = host if colon else mailer
    if host:
        reader.set(call, "relayhost", host)


def _hub(reader: Reader, call: Call, value: str) -> None:
    host = value.rpartition(":")[2]
    reader.set(call, "local_transport", f"smtp:{host}")


def _alias_file(reader: Reader, call: Call, value: str) -> None:
    files = [part.rpartition(":")[2].strip() for part in value.split(",")]
    reader.moved.add("alias_maps", *(alias_file(Path(name), reader.moved, reader.beside) for name in files))
    reader.carried(call, f"alias_maps = {', '.join(reader.moved.members('alias_maps'))}")


def _banner(reader: Reader, call: Call, value: str) -> None:
    text = value.replace("$j", "$myhostname")
    if not text.startswith("$myhostname") or "$" in text[1:]:
        text = "$myhostname ESMTP"
        reader.moved.set("smtpd_banner", text)
        reader.changed(call, f"smtpd_banner = {text}; macros of sendmail have no counterpart")
    else:
        reader.set(call, "smtpd_banner", text)


def _privacy(reader: Reader, call: Call, value: str) -> None:
    carried: list[str] = []
    left: list[str] = []
    for word in re.split(r"[,\s]+", value.lower()):
        flags = ["novrfy", "needmailhelo"] if word in ("goaway", "authwarnings,goaway") else [word]
        for flag in flags:
            if flag in _PRIVACY:
                reader.moved.set(*_PRIVACY[flag])
                carried.append(" = ".join(_PRIVACY[flag]))
            elif flag == "restrictmailq":
                reader.moved.set("authorized_mailq_users", "root")
                carried.append("authorized_mailq_users = root")
            elif flag == "restrictqrun":
                reader.moved.set("authorized_flush_users", "root")
                carried.append("authorized_flush_users = root")
            elif flag and flag not in _PRIVACY_NEEDLESS and flag != "authwarnings":
                left.append(flag)
    text = "; ".join(carried) or "what it asks for is always so"
    if left:
        reader.changed(call, f"{text}; without a counterpart: {', '.join(left)}")
    else:
        reader.carried(call, text)


def _procmail_path(reader: Reader, call: Call, value: str) -> None:
    reader.procmail = value
    reader.carried(call, "mailbox_command, where FEATURE(`local_procmail') is there")


_OPTIONS: dict[str, Callable[[Reader, Call, str], None]] = {
    "confDELIVERY_MODE": _delivery_mode,
    "SMART_HOST": _relay,
    "MAIL_HUB": _hub,
    "ALIAS_FILE": _alias_file,
    "confSMTP_LOGIN_MSG": _banner,
    "confPRIVACY_FLAGS": _privacy,
    "PROCMAIL_MAILER_PATH": _procmail_path,
}

"""The mail log."""

from __future__ import annotations

from ekiden.config.registry import Choice, Group, Int, Reload, Size, Text


class LogParameters(Group):
    maillog_file = Text(
        "",
        reload=Reload.RESTART,
        doc="The file that the mail log is appended to; /dev/stdout is standard output, empty is syslog.",
    )
    maillog_file_permissions = Choice(
        "0600", "0600", "0640", "0644", doc="The permissions of a mail log file that does not exist yet."
    )
    maillog_file_rotate_suffix = Text(
        "%Y%m%d-%H%M%S",
        doc="What `postfix logrotate` puts behind the name of the mail log file, in the form of strftime(3).",
    )
    maillog_file_compressor = Text(
        "gzip", doc="The program that `postfix logrotate` has compress the old mail log file; empty for none."
    )
    maillog_format = Choice(
        "postfix",
        "postfix",
        "json",
        reload=Reload.RESTART,
        doc="How a line of the mail log looks: as Postfix writes it, or one JSON object a line.",
    )
    maillog_flush_milliseconds = Int(
        "20",
        maximum=10_000,
        reload=Reload.RESTART,
        doc="How long lines of the mail log are gathered, to be written at once; warnings and errors do not wait.",
    )
    maillog_buffer_limit = Size(
        "4194304",
        minimum=4096,
        reload=Reload.RESTART,
        doc="The most bytes of mail log that wait for a slow reader or a full disk; more is lost, and counted.",
    )
    maillog_line_limit = Int(
        "4000",
        minimum=500,
        maximum=60_000,
        reload=Reload.RESTART,
        doc="The most characters in a line of the mail log; the rest of a longer one is cut off.",
    )
    syslog_name = Text(
        "postfix",
        reload=Reload.RESTART,
        doc="The name before the slash in the mail log. It is postfix so that tools that read its log know ours.",
    )
    syslog_facility = Choice(
        "mail",
        *("auth", "authpriv", "cron", "daemon", "kern", "lpr", "mail", "news", "syslog", "user", "uucp"),
        *(f"local{number}" for number in range(8)),
        reload=Reload.RESTART,
        doc="The syslog facility of the mail log.",
    )
    syslog_socket = Text(
        "/dev/log",
        reload=Reload.RESTART,
        doc="Where the syslog daemon listens; where nothing listens the log goes to standard error.",
    )

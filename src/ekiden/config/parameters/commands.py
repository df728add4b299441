"""The administrator's and the users' commands (postfix(1), sendmail(1), postqueue(1))."""

from __future__ import annotations

from ekiden.config.registry import Choice, Domains, Group, Int, Words


class CommandParameters(Group):
    authorized_mailq_users = Words(
        "static:anyone",
        doc="The users of this host who may list the queue; root and the mail_owner always may.",
    )
    authorized_flush_users = Words(
        "static:anyone",
        doc="The users of this host who may have deferred mail tried now; root and the mail_owner always may.",
    )
    authorized_submit_users = Words(
        "static:anyone",
        doc="The users of this host whose mail the sendmail command takes; the server itself looks at who left a "
        "message in the maildrop.",
    )
    fast_flush_domains = Domains(
        "$relay_domains",
        doc="The domains that `postqueue -s`, `sendmail -qR` and ETRN may have tried alone.",
    )
    sendmail_fix_line_endings = Choice(
        "always",
        "always",
        "strict",
        "never",
        doc="When the sendmail command takes CR LF for a line end: always, in all lines if the first ends so (strict), "
        "or never.",
    )
    extract_recipient_limit = Int(
        "10240", minimum=1, doc="The most recipients that `sendmail -t` takes from the header of a message."
    )

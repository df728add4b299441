"""The administrator's and the users' commands (postfix(1), sendmail(1), postqueue(1))."""

from __future__ import annotations

from ekiden.config.registry import Group, Words


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
    fast_flush_domains = Words(
        "$relay_domains",
        doc="The domains that `postqueue -s` and `sendmail -qR` may have tried alone.",
    )

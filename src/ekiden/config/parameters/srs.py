"""The sender of mail that is forwarded to other hosts: an address of ours that leads back to the sender's (SRS)."""

from __future__ import annotations

from ekiden.config.registry import Choice, Domains, Duration, Group, Int, Text


class SrsParameters(Group):
    srs_domain = Text(
        "$myhostname",
        doc="The domain of the envelope senders that forwarded mail gets, so that SPF at the next host asks about this "
        "server and not about the sender's. Mail for that domain must come here, to take bounces back. Empty: "
        "forwarded mail keeps its sender.",
    )
    srs_secret_file = Text(
        "$queue_directory/srs.secret",
        doc="The secrets that sign those senders, one a line: the first one signs, all of them verify. The default "
        "file is made at the first start. Servers that take mail for the same srs_domain need the same file. It should "
        "be readable by root alone, and is read again when it changes, without a reload.",
    )
    srs_max_age = Duration(
        "21d",
        unit="d",
        minimum=86400,
        doc="How long a sender that this server made takes mail back, in whole days; 1022d at most.",
    )
    srs_exclude_domains = Domains(
        "",
        doc="Domains besides those of this host that are like them: forwarded mail keeps a sender of such a domain, "
        "and keeps any sender where it goes to such a domain.",
    )
    srs_hash_length = Int(
        "4", minimum=4, maximum=27, doc="How many characters sign a sender that this server makes; they are base64."
    )
    srs_hash_minimum = Int(
        "4", minimum=4, maximum=27, doc="With how few such characters a sender that comes back is taken."
    )
    srs_separator = Choice("=", *("=", "+", "-"), doc="The character between SRS0 or SRS1 and what follows.")
    srs_local_part_limit = Int(
        "64",
        doc="How many octets the local part of a sender may have that this server makes: others need not take more "
        "than 64 (RFC 5321 section 4.5.3.1.1). What would be longer keeps its sender. 0: no limit.",
    )

"""DKIM signatures that this server makes: for whom, with which keys, over what."""

from __future__ import annotations

import re

from ekiden.config.registry import Bool, Choice, Duration, Group, Tables, Text, Words

# RFC 5322 §3.6.8   ftext = %d33-57 / %d59-126; a semicolon would end the tag that lists the names (RFC 6376 §3.2).
_FIELD_NAME = re.compile(r"[!-9<-~]+")
# RFC 6376 §5.4: what changes on the way, or is not there at its end.
_CHANGES = frozenset({"return-path", "received", "bcc", "resent-bcc", "dkim-signature"})


class FieldNames(Words):
    """A list of names of header fields."""

    kind = "list of header fields"

    def parse(self, text: str) -> tuple[str, ...]:
        names = super().parse(text)
        for name in names:
            if _FIELD_NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not the name of a header field")
            if name.lower() in _CHANGES:
                raise ValueError(f"{name} changes or goes away before a message arrives, and the signature with it")
        return names


class DkimParameters(Group):
    dkim_signing_table = Tables(
        "",
        doc="Tables of what is signed, and with which keys. The author's address (From:) is looked up: "
        "user+extension@domain, user@domain, domain, .parent.domain for each parent, *. The value is "
        "domain:selector:file, or several of them, for a signature each; % in it stands for the author's domain. "
        "Files are sought in dkim_key_directory.",
    )
    dkim_key_directory = Text(
        "$config_directory/dkim",
        doc="Where the keys of dkim_signing_table lie, directly or up to two directories below. No other file is read, "
        "whatever a table says. The files (.pem, .key, .private) should be readable by root alone, and are read again "
        "when they change, without a reload.",
    )
    dkim_signing_clients = Words(
        "permit_mynetworks, permit_sasl_authenticated, permit_tls_clientcerts",
        doc="Whose mail is signed, besides mail that is made on this host: words and tables as for "
        "local_header_rewrite_clients. Mail of strangers is never signed, whatever stands in its From:.",
    )
    dkim_signing_required = Bool(
        "no",
        doc="What becomes of a message when a key that dkim_signing_table names for it cannot be used. no: it goes out "
        "without that signature, with a warning in the log; yes: its client is to come back later (451 4.3.5).",
    )
    dkim_sign_headers = FieldNames(
        "From, Sender, Reply-To, Subject, Date, Message-ID, To, Cc, MIME-Version, Content-Type, "
        "Content-Transfer-Encoding, Content-ID, Content-Description, In-Reply-To, References, Resent-Date, "
        "Resent-From, Resent-Sender, Resent-To, Resent-Cc, Resent-Message-ID, List-Id, List-Help, List-Unsubscribe, "
        "List-Unsubscribe-Post, List-Subscribe, List-Post, List-Owner, List-Archive",
        doc="The header fields that are signed where they are there (RFC 6376 section 5.4.1). From: always is.",
    )
    dkim_oversign_headers = FieldNames(
        "From, Reply-To, Subject, Date, Message-ID, To, Cc, MIME-Version, Content-Type, Content-Transfer-Encoding",
        doc="The header fields of which a signature also says that there is none more, so that nobody can add one "
        "(RFC 6376 section 8.15). Of Date: and Message-ID: that is said only where there is one, because servers on "
        "the way may add what is missing (RFC 5321 section 6.4).",
    )
    dkim_canonicalization = Choice(
        "relaxed/relaxed",
        *("relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"),
        doc="How much change of white space on the way a signature of header and body survives: relaxed all but new "
        "words, simple none (RFC 6376 section 3.4).",
    )
    dkim_signature_lifetime = Duration(
        "0",
        doc="For how long from its making a signature is good (x=); 0: no end is told. It should be longer than mail "
        "may wait in queues: with 14d whoever replays a message has two weeks.",
    )

"""The Received: field that every accepted message gets (RFC 5321 §4.4)."""

from __future__ import annotations

import re

from ekiden.message.date import header_date
from ekiden.message.envelope import Client, Recipient

# What a client says of itself goes into a header: everything that could end a comment, a field or a line is replaced.
_UNSAFE = re.compile(r"[^!#-'*-\[\]-~]")


def received_field(
    *,
    client: Client,
    queue_id: str,
    recipients: tuple[Recipient, ...],
    hostname: str,
    mail_name: str,
    at: float,
    hides_client: bool = False,
    smtputf8: bool = False,
    names_login: bool = False,
) -> bytes:
    """The field, with its line ends, for a message that arrives at ``at`` (seconds since the epoch).

    ``smtputf8``: it came with SMTPUTF8, which the name of the protocol tells (RFC 6531 §4.3). ``hides_client`` leaves
    out who the client is (smtpd_hide_client_session), ``names_login`` says who has logged in
    (smtpd_sasl_authenticated_header).

    The recipient is named when there is just one, so that nobody learns of a blind copy.
    """
    protocol = _protocol(client, smtputf8=smtputf8)
    if client.protocol == "local":
        head = f"Received: by {hostname} ({mail_name}, from userid {client.port})\r\n\tid {queue_id}"
    elif hides_client:
        head = f"Received: by {hostname} ({mail_name}) with {protocol} id {queue_id}"
    else:
        helo = _UNSAFE.sub("?", client.helo) or "unknown"
        address = f"IPv6:{client.address}" if client.is_ipv6 else client.address
        login = (
            f"\r\n\t(Authenticated sender: {_UNSAFE.sub('?', client.login)})" if names_login and client.login else ""
        )
        head = (
            f"Received: from {helo} ({client.name} [{address}]){login}\r\n"
            f"\tby {hostname} ({mail_name}) with {protocol} id {queue_id}"
        )
    if len(recipients) == 1:
        head += f"\r\n\tfor <{recipients[0].address}>"
    return f"{head}; {header_date(at)}\r\n".encode("utf-8", "surrogateescape")


def _protocol(client: Client, *, smtputf8: bool) -> str:
    """The word of RFC 3848 and RFC 6531 §4.3 for how it came."""
    if client.protocol == "SMTP":
        return client.protocol
    name = f"UTF8{client.protocol.removeprefix('E')}" if smtputf8 else client.protocol
    return f"{name}A" if client.login else name

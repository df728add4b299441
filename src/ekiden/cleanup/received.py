"""The Received: field that every accepted message gets (RFC 5321 §4.4)."""

from __future__ import annotations

import re
from functools import lru_cache

from ekiden.dns.name import dns_name
from ekiden.message.address import Address
from ekiden.message.date import header_date
from ekiden.message.envelope import Client, Recipient
from ekiden.message.tls_facts import TlsFacts

# What a client says of itself goes into a header: everything that could end a comment, a field or a line is replaced.
_UNSAFE = re.compile(r"[^!#-'*-\[\]-~]")
# The same for the names in a certificate, which stand between quotation marks and may have blanks.
_UNSAFE_NAME = re.compile(r"[^ !#-'*-\[\]-~]")


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
    shows_tls: bool = False,
    asked_certificate: bool = False,
) -> bytes:
    """The field, with its line ends, for a message that arrives at ``at`` (seconds since the epoch).

    ``smtputf8``: it came with SMTPUTF8, which the name of the protocol tells (RFC 6531 §4.3). ``hides_client`` leaves
    out who the client is (smtpd_hide_client_session), ``names_login`` says who has logged in
    (smtpd_sasl_authenticated_header). ``shows_tls`` says how the connection was encrypted (smtpd_tls_received_header),
    and what came of it if a certificate was asked for.

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
        encrypted = _encryption(client.tls, asked_certificate) if shows_tls and client.tls is not None else ""
        login = (
            f"\t(Authenticated sender: {_UNSAFE.sub('?', client.login)})\r\n" if names_login and client.login else ""
        )
        head = (
            f"Received: from {helo} ({client.name} [{address}])\r\n{encrypted}{login}"
            f"\tby {hostname} ({mail_name}) with {protocol} id {queue_id}"
        )
    if len(recipients) == 1:
        head += f"\r\n\tfor <{_in_ascii(recipients[0].address)}>"
    return f"{head}; {header_date(at)}\r\n".encode("utf-8", "surrogateescape")


@lru_cache(maxsize=1024)
def _in_ascii(address: Address) -> str:
    """With an international domain in A-labels, if that is all there is: the header stays fit for every server."""
    if address.domain.isascii() or not address.local.isascii():
        return str(address)
    return str(Address(address.local, dns_name(address.domain) or address.domain))


def _protocol(client: Client, *, smtputf8: bool) -> str:
    """The word of RFC 3848 and RFC 6531 §4.3 for how it came: S for TLS, A for a login."""
    if client.protocol == "SMTP":
        return client.protocol
    name = f"UTF8{client.protocol.removeprefix('E')}" if smtputf8 else client.protocol
    return f"{name}{'S' if client.tls is not None else ''}{'A' if client.login else ''}"


def _encryption(facts: TlsFacts, asked: bool) -> str:
    """Comments that say what TLS there was, each on a line of its own."""
    if not asked:
        certificate = "No client certificate requested"
    elif not facts.fingerprint:
        certificate = "Client did not present a certificate"
    else:
        name, issuer = (_UNSAFE_NAME.sub("?", text) for text in (facts.peer_name, facts.issuer))
        certificate = f'Client CN "{name}", Issuer "{issuer}" ({"verified OK" if facts.trusted else "not verified"})'
    return (
        f"\t(using {facts.protocol} with cipher {facts.cipher} ({facts.bits}/{facts.bits} bits))\r\n"
        f"\t({certificate})\r\n"
    )

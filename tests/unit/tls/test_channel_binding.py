"""Channel bindings are the same at both ends of a connection, and at no two connections (RFC 5929, RFC 9266)."""

from __future__ import annotations

import hashlib
import ssl
from types import SimpleNamespace
from typing import cast

import pytest
import trustme

from ekiden.tls import channel_binding
from ekiden.tls.channel_binding import certificate_binding, channel_bindings


def connected(
    version: ssl.TLSVersion, *certificates: trustme.LeafCert, authority: trustme.CA
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for certificate in certificates:
        certificate.configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    client_context.maximum_version = client_context.minimum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="mail.example")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert client.version() == server.version()
    return client, server


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        (ssl.TLSVersion.TLSv1_3, {"tls-exporter", "tls-server-end-point"}),
        (ssl.TLSVersion.TLSv1_2, {"tls-unique", "tls-server-end-point"}),
    ],
)
def test_both_ends_have_the_same_and_another_connection_has_others(version: ssl.TLSVersion, kinds: set[str]) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("mail.example")
    client, server = connected(version, certificate, authority=authority)
    bindings = channel_bindings(server, is_server=True)
    assert set(bindings) == kinds
    assert bindings == channel_bindings(client, is_server=False)
    der = client.getpeercert(binary_form=True)
    assert der is not None
    assert bindings["tls-server-end-point"] == hashlib.sha256(der).digest()
    other = channel_bindings(connected(version, certificate, authority=authority)[1], is_server=True)
    assert [kind for kind in kinds if other[kind] == bindings[kind]] == ["tls-server-end-point"]


def test_the_end_point_is_the_certificate_that_was_shown_of_several() -> None:
    authority = trustme.CA()
    elliptic = authority.issue_cert("mail.example", key_type=trustme.KeyType.ECDSA)
    classic = authority.issue_cert("mail.example", key_type=trustme.KeyType.RSA)
    client, server = connected(ssl.TLSVersion.TLSv1_3, classic, elliptic, authority=authority)
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    assert channel_bindings(server, is_server=True)["tls-server-end-point"] == certificate_binding(shown)


def test_what_is_no_certificate_has_no_binding() -> None:
    assert certificate_binding(b"what") == b""


def test_nothing_is_read_where_the_objects_are_not_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    _, server = connected(ssl.TLSVersion.TLSv1_3, authority.issue_cert("mail.example"), authority=authority)

    class Small:
        context = None

    for inner in (None, Small(), SimpleNamespace(context=object())):
        odd = cast(ssl.SSLObject, SimpleNamespace(_sslobj=inner))
        assert channel_binding._address(odd) == 0
    assert channel_binding._address(server) != 0
    monkeypatch.setattr(channel_binding, "_openssl", lambda: None)
    assert channel_bindings(server, is_server=True) == {}

"""What is told of a handshake: a real one, in memory, over two ssl objects."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ekiden.tls.facts import certificate_of, facts_of, fingerprint_of
from support.certificates import Authority, self_signed


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    other = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (other, one):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return one, other


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority("The Root")
    root = directory / "root.pem"
    root.write_bytes(authority.pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("mx.here.example", "here.example").write(directory, "server"))
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_verify_locations(root)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(root)
    return server, client


def test_both_sides_know_version_cipher_and_the_other_side(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    client.load_cert_chain(*Authority("Elsewhere").issue("ignored").write(tmp_path, "ignored"))
    authority = Authority("Another Root")
    (tmp_path / "another.pem").write_bytes(authority.pem)
    server.load_verify_locations(tmp_path / "another.pem")
    pair = authority.issue("client.example", client=True)
    client.load_cert_chain(*pair.write(tmp_path, "client"))
    one, other = shake_hands(server, client, "mx.here.example")

    seen = facts_of(one, digest="sha256", trusted=True, server_name="mx.here.example")
    assert (seen.protocol, seen.cipher, seen.bits) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
    assert (seen.peer_name, seen.issuer) == ("client.example", "Another Root")
    assert seen.fingerprint.replace(":", "").lower() == hashlib.sha256(pair.der).hexdigest()
    key = pair.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert seen.key_fingerprint == fingerprint_of(key, "sha256")
    assert (seen.trusted, seen.verified, seen.server_name) == (True, False, "mx.here.example")

    seen = facts_of(other, digest="sha1", trusted=True, verified=True)
    assert (seen.peer_name, seen.issuer, seen.verified) == ("mx.here.example", "The Root", True)
    assert len(seen.fingerprint) == 20 * 3 - 1


def test_who_shows_no_certificate_is_trusted_by_nobody(tmp_path: Path) -> None:
    one, _ = shake_hands(*contexts(tmp_path), "here.example")
    seen = facts_of(one, digest="sha256", trusted=True, verified=True)
    assert (seen.peer_name, seen.fingerprint, seen.trusted, seen.verified) == ("", "", False, False)


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x82\xff\xff", b"x" * 10_000])
def test_bytes_that_are_no_certificate_have_a_fingerprint_only(der: bytes) -> None:
    found = certificate_of(der, "sha256")
    assert found.fingerprint == fingerprint_of(der, "sha256")
    assert (found.name, found.issuer, found.key_fingerprint) == ("", "", "")


def test_a_certificate_that_is_cut_or_changed_anywhere_raises_nothing() -> None:
    der = self_signed("mx.here.example").der
    for at in range(len(der)):
        certificate_of(der[:at], "sha256")
        certificate_of(der[:at] + bytes([der[at] ^ 0x55]) + der[at + 1 :], "sha256")


def test_a_name_cannot_make_a_line_of_the_log_or_a_field() -> None:
    found = certificate_of(self_signed("x.example", common_name="a\r\nX-Evil: 1\u2028\u202e").der, "sha256")
    assert found.name == "a??X-Evil: 1??"


def test_a_digest_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="sha0"):
        fingerprint_of(b"", "sha0")

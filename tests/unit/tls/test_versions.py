"""Postfix's protocol lists never reach below TLS 1.2 (RFC 8996)."""

from __future__ import annotations

import ssl

import pytest

from ekiden.tls.versions import safe_versions

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("text", "lowest", "highest"),
    [
        (">=TLSv1.2", V12, V13),
        (">=TLSv1.3", V13, V13),
        ("<=TLSv1.2", V12, V12),
        ("!TLSv1.2", V13, V13),
        ("TLSv1.2", V12, V12),
        ("TLSv1.2, TLSv1.3", V12, V13),
        ("tlsv1.3", V13, V13),
        ("!SSLv2, !SSLv3", V12, V13),
        ("!SSLv2 !SSLv3 !TLSv1 !TLSv1.1 !TLSv1.3", V12, V12),
        (">=TLSv1", V12, V13),
        ("TLSv1", V12, V13),  # nothing of it is left
        ("<=TLSv1.1", V12, V13),
        ("TLSv9", V12, V13),  # nobody knows what that is
        ("", V12, V13),
    ],
)
def test_a_list_is_held_at_the_floor(text: str, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> None:
    versions = safe_versions("smtpd_tls_protocols", text)
    assert (versions.lowest, versions.highest) == (lowest, highest)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions.apply(context)
    assert (context.minimum_version, context.maximum_version) == (lowest, highest)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (">=TLSv1.2", ""),
        ("TLSv1.3", ""),
        ("!SSLv2, !SSLv3", "still allows TLSv1 and TLSv1.1"),
        ("TLSv1", "leaves nothing"),
        ("TLSv9", "names no version"),
    ],
)
def test_what_was_raised_is_said(text: str, said: str) -> None:
    note = safe_versions("smtpd_tls_protocols", text).note
    assert said in note
    assert bool(note) is bool(said)

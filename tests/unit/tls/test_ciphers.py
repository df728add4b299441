"""Cipher lists: grades and exclusions as in Postfix, and never what is null, anonymous or broken."""

from __future__ import annotations

import re
import ssl

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.tls.ciphers import CipherTrouble, cipher_list, set_ciphers
from support.honours import honours

WEAK = re.compile(r"ADH|AECDH|NULL|RC4|RC2|DES|EXP|MD5|PSK|SRP|SEED|IDEA")


def names(ciphers: str) -> list[str]:
    """Those of TLS 1.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    set_ciphers(context, ciphers)
    return [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]


@pytest.mark.parametrize("grade", ["high", "medium", "low", "export", "null", "HIGH"])
def test_no_grade_has_a_weak_cipher(grade: str) -> None:
    found = names(cipher_list(Parameters(), grade, ""))
    assert "ECDHE-RSA-AES256-GCM-SHA384" in found
    assert not [name for name in found if WEAK.search(name)]


@honours("tls_medium_cipherlist", "tls_high_cipherlist")
def test_the_administrators_list_counts_but_brings_back_nothing_weak() -> None:
    text = "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:aNULL:eNULL:RC4:3DES:@SECLEVEL=0"
    parameters = Parameters({"tls_medium_cipherlist": text, "tls_high_cipherlist": "AES256-SHA"})
    assert names(cipher_list(parameters, "medium", "")) == ["ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA"]
    assert names(cipher_list(parameters, "low", "")) == ["ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA"]
    assert names(cipher_list(parameters, "high", "")) == ["AES256-SHA"]


@pytest.mark.parametrize("excluded", ["kRSA, AES128", "kRSA:AES128", "!kRSA !AES128", "kRSA AES128, aNULL"])
def test_exclusions_are_names_of_ciphers_or_kinds_of_them(excluded: str) -> None:
    found = names(cipher_list(Parameters(), "medium", excluded))
    assert "ECDHE-RSA-AES256-GCM-SHA384" in found
    assert not [name for name in found if "AES128" in name or name in ("AES256-SHA", "AES256-GCM-SHA384")]


@pytest.mark.parametrize(
    ("settings", "grade", "excluded"),
    [
        ({}, "good", ""),
        ({}, "high", "AES128/x"),
        ({"tls_high_cipherlist": ""}, "high", ""),
        ({"tls_medium_cipherlist": " : "}, "medium", ""),
    ],
)
def test_what_is_no_list_is_refused(settings: dict[str, str], grade: str, excluded: str) -> None:
    with pytest.raises(CipherTrouble):
        cipher_list(Parameters(settings), grade, excluded)


@pytest.mark.parametrize(("text", "excluded"), [("RC4", ""), ("nonsense", ""), ("HIGH", "ALL")])
def test_a_list_that_leaves_nothing_is_refused(text: str, excluded: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(CipherTrouble):
        set_ciphers(context, cipher_list(Parameters({"tls_high_cipherlist": text}), "high", excluded))

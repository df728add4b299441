"""Cipher grades and exclusions of Postfix, as OpenSSL's cipher lists (openssl-ciphers(1)).

They are for TLS 1.2: the three ciphers of TLS 1.3 (RFC 8446 §9.1) are all good, and no list has a say in them.
"""

from __future__ import annotations

import re
import ssl

from ekiden.config.registry import split_words
from ekiden.config.snapshot import Parameters

# What no list and no grade brings back: without a certificate or a key shared beforehand nobody knows who is there;
# without encryption, or with broken one, everybody reads along.
NEVER = ("aNULL", "eNULL", "EXPORT", "LOW", "RC4", "3DES", "DES", "RC2", "IDEA", "SEED", "MD5", "PSK", "SRP", "CCM8")

# low, export and null are held at medium; config.unsafe reports them.
GRADES = ("high", "medium", "low", "export", "null")
_WORD = re.compile(r"[A-Za-z0-9_.+\-=]+")


class CipherTrouble(ValueError):
    """A cipher list that OpenSSL cannot read, or that leaves nothing; one line for the administrator."""


def cipher_list(parameters: Parameters, grade: str, excluded: str) -> str:
    """OpenSSL's list for a grade, without the ciphers and kinds of ciphers that ``excluded`` names.

    Raises CipherTrouble for words that are none.
    """
    name = grade.lower()
    if name not in GRADES:
        raise CipherTrouble(f"{grade!r} is no grade of ciphers: the grades are high and medium")
    words = [word for part in split_words(excluded) for word in part.split(":") if word]
    for word in words:
        if _WORD.fullmatch(word.lstrip("!")) is None:
            raise CipherTrouble(f"{word!r} is no name of ciphers")
    # A list may begin or end with a colon; one that is empty would be OpenSSL's default.
    base = (parameters.tls_high_cipherlist if name == "high" else parameters.tls_medium_cipherlist).strip(": ")
    if not base:
        raise CipherTrouble(f"tls_{'high' if name == 'high' else 'medium'}_cipherlist is empty")
    return ":".join((base, *(f"!{word.lstrip('!')}" for word in words), *(f"!{word}" for word in NEVER)))


def set_ciphers(context: ssl.SSLContext, ciphers: str) -> None:
    """Raises CipherTrouble when nothing is left."""
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError as error:
        raise CipherTrouble(f"no cipher is left, or OpenSSL does not understand the list: {ciphers}") from error
    if not any(cipher["protocol"] != "TLSv1.3" for cipher in context.get_ciphers()):
        raise CipherTrouble(f"no cipher of TLS 1.2 is left: {ciphers}")

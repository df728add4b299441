"""PEM texts (RFC 7468 §2): a text with several keys, cut into one for each, and loaded into a context from memory.

Python's ssl reads keys and certificates from files only, and a worker may not read the files (they are root's). So what
the supervisor has read goes into an anonymous file in memory, which is loaded by its descriptor's name.
"""

from __future__ import annotations

import os
import re
import ssl

from ekiden.tls.layer import reason_of

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class PemTrouble(ValueError):
    """No key and certificate; one line for the administrator. ``of_key``: the key is to blame, not the certificate."""

    def __init__(self, text: str, *, of_key: bool = False) -> None:
        super().__init__(text)
        self.of_key = of_key


def key_chains(text: bytes) -> list[bytes]:
    """``text`` cut before each private key: each piece is a key with the certificates that follow it.

    This is the order of smtpd_tls_chain_files. Raises PemTrouble.
    """
    pieces: list[list[bytes]] = []
    for found in _BLOCK.finditer(text):
        label = found[1]
        if label.endswith(b"PRIVATE KEY"):
            pieces.append([])
        elif label != b"CERTIFICATE":
            continue  # parameters of a curve or of Diffie-Hellman
        if not pieces:
            raise PemTrouble("a certificate stands before its private key: the key must come first")
        pieces[-1].append(found[0])
    if not pieces:
        raise PemTrouble("no private key in it")
    if any(len(piece) < 2 for piece in pieces):
        raise PemTrouble("no certificate behind a private key")
    return [b"\n".join(piece) + b"\n" for piece in pieces]


def load_chain(context: ssl.SSLContext, certificates: bytes, key: bytes) -> None:
    """Both as PEM; they may be the same text. Raises PemTrouble."""
    try:
        with _MemoryFile(certificates) as chain_path, _MemoryFile(key) as key_path:
            context.load_cert_chain(chain_path, key_path, password=_no_password)
    except ssl.SSLError as error:
        raise _trouble(error, certificates, key) from error
    except ValueError as error:  # of _no_password
        raise PemTrouble(str(error), of_key=True) from error


def _trouble(error: ssl.SSLError, certificates: bytes, key: bytes) -> PemTrouble:
    if b"-----BEGIN CERTIFICATE-----" not in certificates:
        return PemTrouble("no certificate in it")
    if b"PRIVATE KEY-----" not in key:
        return PemTrouble("no private key in it", of_key=True)
    if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        return PemTrouble("the private key is not that of the certificate", of_key=True)
    return PemTrouble(reason_of(error))


def _no_password() -> str:
    raise ValueError("the private key is protected by a password: a server has nobody to ask for it")


class _MemoryFile:
    """A file without a name that holds ``data``; its path is good within the block."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> str:
        self._descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        view = memoryview(self._data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

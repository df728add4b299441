"""Which versions of TLS a list of Postfix's allows, held at the floor of TLS 1.2 (RFC 8996 §2 and §3)."""

from __future__ import annotations

import ssl

from msgspec import Struct

from ekiden.config.unsafe import about_protocols, tls_versions

_SAFE = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Versions(Struct, frozen=True):
    """Both ends included. ``note`` says what was raised or could not be read; "" when the list was taken as it is."""

    lowest: ssl.TLSVersion
    highest: ssl.TLSVersion
    note: str = ""

    def apply(self, context: ssl.SSLContext) -> None:
        context.minimum_version, context.maximum_version = self.lowest, self.highest


def safe_versions(name: str, text: str) -> Versions:
    """What ``name = text`` allows (``!SSLv2, !SSLv3``, ``>=TLSv1.2``, ``TLSv1.3``), of TLS 1.2 and 1.3.

    Where nothing of these is left, and where the list cannot be read, both are allowed.
    """
    note = next(about_protocols(name, text), "")
    try:
        allowed = [_SAFE[version] for version in tls_versions(text) if version in _SAFE]
    except ValueError:
        allowed = []
    allowed = allowed or list(_SAFE.values())
    return Versions(allowed[0], allowed[-1], note)

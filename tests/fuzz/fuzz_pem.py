"""Any text is cut into keys with their certificates, each as it stands there and in its order, or is PemTrouble."""

from __future__ import annotations

from ekiden.tls.pem import PemTrouble, key_chains

_KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
_EC_KEY = b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"
_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
SEEDS = [
    _KEY + _CERTIFICATE,
    _PARAMETERS + _EC_KEY + b"subject=CN = x\n" + _CERTIFICATE * 3 + _KEY + _CERTIFICATE,
    _CERTIFICATE + _KEY,
    _KEY,
    b"-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n-----END CERTIFICATE-----\n",
    b"",
]


def one_input(data: bytes) -> None:
    try:
        chains = key_chains(data)
    except PemTrouble:
        return
    assert chains
    at = 0
    for chain in chains:
        assert chain.startswith(b"-----BEGIN ")
        assert chain.partition(b"\n")[0].rstrip(b"\r-").endswith(b"PRIVATE KEY") or b"PRIVATE KEY-----" in chain
        assert b"-----BEGIN CERTIFICATE-----" in chain
        for block in chain.split(b"-----END CERTIFICATE-----"):
            found = data.find(block.strip(b"\n")[:20], at)
            assert found >= 0
            at = max(at, found)

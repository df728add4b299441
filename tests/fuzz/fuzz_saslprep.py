"""Any text has one prepared form, which is its own, or a told problem; a canonical name is its own canonical name."""

from __future__ import annotations

from ekiden.sasl.account_file import folded_name
from ekiden.sasl.saslprep import saslprep

SEEDS = [
    b"anna@example.com",
    "Mü\u0308ller\u00a0\u00ad".encode(),
    "\u0627\u0031\u0628\u2168\u00aa".encode(),
    b"\xff\x00",
]


def check_told(told: str) -> None:
    assert told.startswith("it ")


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        prepared = saslprep(text)
        name = folded_name(text)
    except ValueError as error:
        check_told(str(error))
        return
    assert "\0" not in prepared
    assert folded_name(name) == name

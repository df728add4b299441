"""Any text is a set of accounts that survives the way to a file and back, or a told problem; no other exception."""

from __future__ import annotations

from ekiden.sasl.account_file import AccountFileTrouble, parse_accounts, render_accounts

_HASH = b"$argon2id$v=19$m=65536,t=3,p=4$riznhAFwOmyHjIIRRITK9w$a4pv/jGTxG99oJDU2+02b07laYayzNQj+XclOq0ci48"
_KEY = b"A" * 43 + b"="
SEEDS = [
    b'# Ekiden accounts, version 1; x\n{"name":"anna@example.com","password":"'
    + _HASH
    + b'","changed":"2026-11-29"}\n',
    b'{"name":"a","disabled":true,"totp":"ABC"}\n\n{"name":"b","scram":["SCRAM-SHA-256$4096:c2FsdA==$'
    + _KEY
    + b":"
    + _KEY
    + b'"]}',
    b'{"name":"c","app_passwords":[{"name":"phone","created":"2026-11-29","digest":"sha256$'
    + b"0" * 32
    + b"$"
    + b"0" * 64
    + b'"}]}',
    '{"name":"müller"}\n'.encode(),
]


def check_told(told: str) -> None:
    assert told.startswith("accounts, line ")
    assert len(told) < 400


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse_accounts(text, "accounts")
    except AccountFileTrouble as trouble:
        check_told(str(trouble))
        return
    assert parse_accounts(render_accounts(found), "accounts") == found

"""Any token is refused or a temporary trouble, and any claims are a verdict: only the right ones let anybody in."""

from __future__ import annotations

import asyncio
import json

import msgspec

from ekiden.sasl.accounts import AccountTrouble
from ekiden.sasl.token_claims import Demands, judge
from ekiden.sasl.token_keys import TokenKeys, TokenProblem

_DEMANDS = Demands("https://id.example", ("mail",), scopes=("smtp",))
_RIGHT = {"iss": "https://id.example", "aud": "mail", "exp": 2000, "scope": "smtp", "email": "anna@example.com"}
SEEDS = [
    json.dumps(_RIGHT).encode(),
    json.dumps({**_RIGHT, "aud": ["web", "mail"], "nbf": 5, "email_verified": False}).encode(),
    b'{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}',
    b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.AAAA",
    b"eyJhbGciOiJub25lIn0.e30.",
]


def one_input(data: bytes) -> None:
    try:
        claims = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        claims = None
    if isinstance(claims, dict) and judge(claims, _DEMANDS, 1000).accepted:
        audience = claims["aud"]
        assert claims["iss"] == _RIGHT["iss"]
        assert audience == "mail" or "mail" in audience
        assert claims["exp"] > 970

    async def fetch() -> bytes:
        return data

    async def ask() -> bool:
        keys = TokenKeys(fetch, 60, lambda: 0.0)
        try:
            await keys.claims(data.decode("utf-8", "surrogateescape"))
        except (TokenProblem, AccountTrouble):
            return True
        return False

    assert asyncio.run(ask())

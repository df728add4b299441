"""What a token says, and whether that is enough to log in (RFC 7519 §4.1, RFC 7662 §2.2). No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ekiden.sasl.account_file import folded_name
from ekiden.sasl.accounts import Outcome, Verdict


class Demands(Struct, frozen=True):
    """``leeway_s``: how far the issuer's clock may be from ours."""

    issuer: str
    audience: tuple[str, ...]
    account_claim: str = "email"
    scopes: tuple[str, ...] = ()
    leeway_s: float = 30.0


def judge(claims: Mapping[str, object], demands: Demands, now_s: float, *, issuer_needed: bool = True) -> Verdict:
    """``issuer_needed`` is for tokens that anybody may have signed; who was asked about one may leave it out."""
    problem = _problem(claims, demands, now_s, issuer_needed)
    named = claims.get(demands.account_claim)
    account = ""
    if isinstance(named, str):
        try:
            account = folded_name(named)
        except ValueError as error:
            problem = problem or f"its {demands.account_claim} is no name: {error}"
    else:
        problem = problem or f"it has no {demands.account_claim}"
    if not problem and demands.account_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
        problem = "its email is not verified"
    if problem:
        return Verdict(Outcome.WRONG, account, f"a token that does not count: {problem}")
    return Verdict(Outcome.OK, account)


def _problem(claims: Mapping[str, object], demands: Demands, now_s: float, issuer_needed: bool) -> str:
    issuer = claims.get("iss")
    if issuer != demands.issuer and (issuer_needed or issuer is not None):
        return "it is of another issuer"
    audience = claims.get("aud")
    for_whom = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(each, str) and each in demands.audience for each in for_whom):
        return "it is for another audience"
    expires = _seconds(claims, "exp")
    if expires is None:
        return "it does not say when it expires"
    if now_s >= expires + demands.leeway_s:
        return "it has expired"
    for name in ("nbf", "iat"):
        begins = _seconds(claims, name)
        if name in claims and (begins is None or now_s < begins - demands.leeway_s):
            return "it is not valid yet"
    scope = claims.get("scope", claims.get("scp", ""))
    scopes = scope if isinstance(scope, list) else str(scope).split()
    if not set(demands.scopes) <= {str(each) for each in scopes}:
        return "it lacks a scope"
    return ""


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e12 else None

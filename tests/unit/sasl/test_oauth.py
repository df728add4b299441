"""Access tokens: whose they are by the issuer's keys (RFC 7517, RFC 7519) and by its word (RFC 7662)."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.protocol.http import HttpResponse
from ekiden.sasl.accounts import AccountTrouble, Outcome, Verdict
from ekiden.sasl.oauth import AskedTokens, JwtTokens, open_tokens, parse_https_url
from ekiden.sasl.token_claims import Demands, judge
from ekiden.sasl.token_keys import TokenKeys
from support.accounts import account_list, add_account, change_account, cheap_hashing
from support.fake_clock import FakeClock

_ISSUER = "https://id.example"
_DEMANDS = Demands(_ISSUER, ("mail", "mail2"), scopes=("smtp",))
_NOW = 1_750_000_000
_RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
_EC = ECKey.generate_key("P-256", {"kid": "ec"})
_ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
_OTHER = RSAKey.generate_key(2048, {"kid": "rsa"})


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


def claims(**changes: object) -> dict[str, Any]:
    found: dict[str, Any] = {
        "iss": _ISSUER, "aud": "mail", "exp": _NOW + 300, "iat": _NOW - 5, "scope": "openid smtp",
        "email": "Anna@Example.com", "email_verified": True,
    }  # fmt: skip
    return {name: value for name, value in (found | changes).items() if value is not None}


def signed(key: Any, algorithm: str, header: dict[str, object] | None = None, **changes: object) -> str:
    head = {"alg": algorithm, "kid": key.kid, **(header or {})}
    return str(jwt.encode({name: value for name, value in head.items() if value}, claims(**changes), key, [algorithm]))


class Issuer:
    def __init__(self, *keys: Any) -> None:
        self.keys = [key.as_dict(private=False) for key in keys]
        self.asked = 0
        self.trouble = False

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.trouble:
            raise AccountTrouble("down")
        return json.dumps({"keys": self.keys}).encode()


def tokens_of(issuer: Issuer, clock: FakeClock | None = None, demands: Demands = _DEMANDS) -> JwtTokens:
    clock = clock or FakeClock(_NOW)
    return JwtTokens(TokenKeys(issuer.fetch, 3600, clock.monotonic), demands, clock)


def judged(tokens: JwtTokens, token: str) -> Verdict:
    return asyncio.run(tokens.verify_token(token, ""))


@pytest.mark.filterwarnings("ignore:EdDSA")
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(_RSA, "RS256"), (_RSA, "PS256"), (_EC, "ES256"), (_ED, "EdDSA")],
    ids=lambda each: str(each)[:5],
)
def test_a_token_that_the_issuer_signed(key: Any, algorithm: str) -> None:
    tokens = tokens_of(Issuer(_RSA, _EC, _ED))
    token = signed(key, algorithm)
    assert judged(tokens, token) == Verdict(Outcome.OK, "anna@example.com")
    assert judged(tokens, signed(key, algorithm, {"kid": None})) == Verdict(Outcome.OK, "anna@example.com")
    head, body, signature = token.split(".")
    evil = base64.urlsafe_b64encode(json.dumps(claims(email="root@example.com")).encode()).decode().rstrip("=")
    for forged in (f"{head}.{evil}.{signature}", f"{head}.{body}.", f"{head}.{body}.{signature[:-8]}AAAAAAAA"):
        assert judged(tokens, forged).outcome is Outcome.WRONG


def test_a_token_that_somebody_else_signed() -> None:
    public = json.dumps(_RSA.as_dict(private=False)).encode()
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"rsa"}').decode().rstrip("=")
    body = signed(_RSA, "RS256").split(".")[1]
    for token in (
        signed(_OTHER, "RS256"),
        f"{none}.{body}.",
        str(jwt.encode({"alg": "HS256", "kid": "rsa"}, claims(), OctKey.import_key(public), ["HS256"])),
        str(jwt.encode({"alg": "ES256", "kid": "rsa"}, claims(), _EC, ["ES256"])),
        "", "a", "a.b", "a.b.c", "....", "\0", "x" * 10_000, f"{base64.urlsafe_b64encode(b'[]').decode()}.{body}.x",
        f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{body}.x", signed(_RSA, "RS256")[:-20],
    ):  # fmt: skip
        verdict = judged(tokens_of(Issuer(_RSA)), token)
        assert verdict.outcome is Outcome.WRONG
        assert verdict.detail.startswith("a token that does not count: it")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "https://evil.example"}, "it is of another issuer"),
        ({"iss": None}, "it is of another issuer"),
        ({"aud": "web"}, "it is for another audience"),
        ({"aud": None}, "it is for another audience"),
        ({"aud": ["web", 7]}, "it is for another audience"),
        ({"exp": _NOW - 31}, "it has expired"),
        ({"exp": None}, "it does not say when it expires"),
        ({"exp": "never"}, "it does not say when it expires"),
        ({"exp": True}, "it does not say when it expires"),
        ({"exp": 1e300}, "it does not say when it expires"),
        ({"nbf": _NOW + 31}, "it is not valid yet"),
        ({"nbf": "x"}, "it is not valid yet"),
        ({"iat": _NOW + 31}, "it is not valid yet"),
        ({"scope": "openid"}, "it lacks a scope"),
        ({"scope": None}, "it lacks a scope"),
        ({"email": None}, "it has no email"),
        ({"email": ["anna"]}, "it has no email"),
        ({"email": "a b"}, "its email is no name: it holds white space"),
        ({"email_verified": False}, "its email is not verified"),
        ({"email_verified": "false"}, "its email is not verified"),
    ],
)
def test_what_a_token_must_say(changes: dict[str, object], told: str) -> None:
    verdict = judge(claims(**changes), _DEMANDS, _NOW)
    assert (verdict.outcome, verdict.detail) == (Outcome.WRONG, f"a token that does not count: {told}")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["web", "mail2"]}, {"exp": _NOW - 29}, {"exp": _NOW + 0.5}, {"nbf": _NOW + 29}, {"iat": None},
        {"email_verified": None},
        {"scope": None, "scp": ["smtp"]}, {"email_verified": "true"},
    ],
)  # fmt: skip
def test_what_is_enough(changes: dict[str, object]) -> None:
    assert judge(claims(**changes), _DEMANDS, _NOW) == Verdict(Outcome.OK, "anna@example.com")


def test_keys_are_kept_fetched_anew_for_an_unknown_one_and_bounded() -> None:
    async def scene() -> None:
        clock, issuer = FakeClock(_NOW), Issuer(_RSA)
        tokens = tokens_of(issuer, clock)

        async def outcome(token: str) -> Outcome:
            return (await tokens.verify_token(token, "")).outcome

        for _ in range(5):
            assert await outcome(signed(_RSA, "RS256")) is Outcome.OK
        assert issuer.asked == 1
        issuer.keys = [_RSA.as_dict(private=False), _EC.as_dict(private=False)]
        assert await outcome(signed(_EC, "ES256")) is Outcome.WRONG  # too soon to ask again
        assert issuer.asked == 1
        await clock.advance(30)
        assert await outcome(signed(_EC, "ES256")) is Outcome.OK
        assert issuer.asked == 2
        for number in range(20):  # whoever makes names up does not have us ask each time
            assert await outcome(signed(_EC, "ES256", {"kid": f"x{number}"})) is Outcome.WRONG
        assert issuer.asked == 2
        await clock.advance(250)
        issuer.keys = [_EC.as_dict(private=False)]
        await clock.advance(3400)
        assert await outcome(signed(_RSA, "RS256", exp=_NOW + 9999)) is Outcome.WRONG  # the issuer has withdrawn it
        assert issuer.asked == 3

    asyncio.run(scene())


def test_an_issuer_that_is_away() -> None:
    async def scene() -> None:
        clock, issuer = FakeClock(_NOW), Issuer(_RSA)
        tokens = tokens_of(issuer, clock)
        token = signed(_RSA, "RS256", exp=_NOW + 10**9)
        issuer.trouble = True
        for _ in range(3):
            with pytest.raises(AccountTrouble):
                await tokens.verify_token(token, "")
        assert issuer.asked == 1
        issuer.trouble = False
        await clock.advance(31)
        assert (await tokens.verify_token(token, "")).accepted
        issuer.trouble = True
        await clock.advance(3601)
        assert (await tokens.verify_token(token, "")).accepted  # the keys of before, for a time
        await clock.advance(36_000)
        with pytest.raises(AccountTrouble):
            await tokens.verify_token(token, "")

    asyncio.run(scene())


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"[" * 100_000])
def test_keys_that_cannot_be_understood(document: bytes) -> None:
    async def fetch() -> bytes:
        return document

    keys = TokenKeys(fetch, 60, lambda: 0.0)
    with pytest.raises(AccountTrouble):
        asyncio.run(keys.claims(signed(_RSA, "RS256")))


def test_keys_that_are_none_are_passed_over() -> None:
    issuer = Issuer(_RSA)
    odd: list[Any] = [
        7,
        {"kty": "weird"},
        {"kty": "RSA"},
        {"kty": "EC", "crv": "P-1", "x": "a", "y": "b"},
        {"kty": "oct", "k": "AAAA"},
    ]
    issuer.keys = [*odd, *issuer.keys]
    assert judged(tokens_of(issuer), signed(_RSA, "RS256")).accepted
    issuer.keys[-1]["use"] = "enc"
    assert not judged(tokens_of(issuer), signed(_RSA, "RS256")).accepted
    issuer.keys[-1] |= {"use": "sig", "alg": "RS512"}
    assert not judged(tokens_of(issuer), signed(_RSA, "RS256")).accepted


# --- introspection


def asked(answer: HttpResponse, seen: list[bytes] | None = None) -> Callable[[], Verdict]:
    async def ask(form: bytes) -> HttpResponse:
        if seen is not None:
            seen.append(form)
        return answer

    tokens = AskedTokens(ask, _DEMANDS, FakeClock(_NOW))
    return lambda: asyncio.run(tokens.verify_token("tok&en=\xe4", ""))


def told(facts: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(facts).encode())


def test_the_issuer_says_whose_token_it_is() -> None:
    seen: list[bytes] = []
    assert asked(told(claims(active=True)), seen)() == Verdict(Outcome.OK, "anna@example.com")
    assert asked(told(claims(active=True, iss=None)))().accepted  # we know whom we asked
    assert seen == [b"token=tok%26en%3D%C3%A4&token_type_hint=access_token"]
    for facts in ({"active": False}, claims(active=False), claims(active=True, aud="web"), claims(active=True, exp=1)):
        assert asked(told(facts))().outcome is Outcome.WRONG


@pytest.mark.parametrize(
    "answer",
    [told({}), told([]), told({"active": "true"}), told({"active": 1}), told({"active": True}, 401), told({}, 500),
     HttpResponse(200, {}, b"\xff"), HttpResponse(200, {}, b"[" * 100_000), HttpResponse(302, {"location": "x"}, b"")],
)  # fmt: skip
def test_an_answer_that_is_none_is_trouble(answer: HttpResponse) -> None:
    with pytest.raises(AccountTrouble):
        asked(answer)()


# --- configuration

_SETTINGS = {
    "sasl_oauth_issuer": _ISSUER, "sasl_oauth_audience": "mail", "sasl_oauth_keys_url": f"{_ISSUER}/keys",
    "sasl_oauth_scopes": "smtp openid",
}  # fmt: skip


def test_what_is_configured() -> None:
    assert open_tokens(Parameters({}), FakeClock()) is None
    tokens = open_tokens(Parameters(_SETTINGS), FakeClock())
    assert isinstance(tokens, JwtTokens)
    assert tokens.scope == "smtp openid"
    assert tokens.discovery == "https://id.example/.well-known/openid-configuration"
    settings = _SETTINGS | {"sasl_oauth_keys_url": "", "sasl_oauth_introspection_url": f"{_ISSUER}/ask"}
    assert isinstance(open_tokens(Parameters(settings), FakeClock()), AskedTokens)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sasl_oauth_audience", ""), ("sasl_oauth_keys_url", ""), ("sasl_oauth_introspection_url", f"{_ISSUER}/ask"),
        ("sasl_oauth_keys_url", "http://id.example/keys"), ("sasl_oauth_ca_file", "/nonexistent"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="sasl_oauth_"):
        open_tokens(Parameters(_SETTINGS | {name: value}), FakeClock())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "http://x/",
        "https://x:99999/",
        "https://u:p@x/",
        "https://x/#a",
        "https://x/a b",
        "https://ä/",
        "x",
    ],
)
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"https://host/path"):
        parse_https_url("sasl_oauth_keys_url", text)


def test_the_library_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(ConfigError, match=r"sasl_oauth_keys_url: .*pip install 'ekiden\[oidc\]'"):
        open_tokens(Parameters(_SETTINGS), FakeClock())


def test_a_disabled_account_is_not_for_any_mechanism(tmp_path: Path) -> None:
    from msgspec.structs import replace

    add_account(tmp_path / "accounts", "anna", "secret-1")
    accounts = account_list(tmp_path, sasl_authorization_maps="inline:{ {admin = anna} }")

    def may(account: str, wanted: str) -> bool:
        return asyncio.run(accounts.authorize(account, wanted))

    assert may("anna", "")
    assert may("admin", "anna")
    change_account(tmp_path / "accounts", "anna", lambda anna: replace(anna, disabled=True))
    assert not may("anna", "")
    assert not may("ANNA", "anna")
    assert not may("admin", "anna")
    assert may("somebody-else", "")  # whose token or certificate it is, others say

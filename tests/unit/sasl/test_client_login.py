"""Which account and which mechanism a login at another server uses."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import NULL_SENDER, Address
from ekiden.protocol.smtp.client_login import LoginProblem
from ekiden.sasl.client_login import LoginRules, Safety
from ekiden.sasl.client_mechanisms import KNOWN, Channel, Credentials
from support.honours import honours

ALL = [traits.name for traits in KNOWN]
BOUND = Channel(bindings={"tls-exporter": b"x"})
PLAIN, TLS, VERIFIED = Safety(), Safety(tls=True), Safety(tls=True, verified=True)
ACCOUNT = Credentials("user", "secret")


def rules(now: list[float] | None = None, prefix: str = "smtp", /, **settings: str) -> LoginRules:
    own = {
        f"{prefix}_sasl_auth_enable": "yes",
        f"{prefix}_sasl_password_maps": "inline:{ { mx.example = u:p } }",
        **{f"{prefix}_{name}": value for name, value in settings.items()},
    }
    return LoginRules(Parameters(own), prefix, monotonic=lambda: now[0] if now else 0.0)


def chosen(
    login: LoginRules, offered: list[str], safety: Safety, channel: Channel = BOUND, account: Credentials = ACCOUNT
) -> str:
    found = asyncio.run(login.exchange(account, offered, safety, channel))
    assert not isinstance(found, LoginProblem)
    return found.mechanism if found is not None else ""


both = pytest.mark.parametrize("prefix", ["smtp", "lmtp"])


@honours(
    "smtp_sasl_security_options", "smtp_sasl_tls_security_options", "smtp_sasl_tls_verified_security_options",
    "lmtp_sasl_security_options", "lmtp_sasl_tls_security_options", "lmtp_sasl_tls_verified_security_options",
)  # fmt: skip
@both
@pytest.mark.parametrize("safety", [PLAIN, TLS, VERIFIED])
def test_a_password_is_never_sent_as_it_is_where_the_options_forbid_it(prefix: str, safety: Safety) -> None:
    by_safety = ["sasl_security_options", "sasl_tls_security_options", "sasl_tls_verified_security_options"]
    which = by_safety[safety.tls + safety.verified]
    assert chosen(rules(None, prefix), ["PLAIN", "LOGIN"], safety) == ""
    for name in by_safety:
        options = {**dict.fromkeys(by_safety, "noplaintext"), name: "noanonymous"}
        assert chosen(rules(None, prefix, **options), ["PLAIN", "LOGIN"], safety) == ("PLAIN" if name == which else "")


@pytest.mark.parametrize(
    ("option", "left"),
    [
        ("noanonymous", ALL),
        ("noplaintext", [name for name in ALL if name.startswith(("SCRAM", "CRAM", "EXTERNAL"))]),
        ("nodictionary", ["OAUTHBEARER", "XOAUTH2", "EXTERNAL"]),
        ("mutual_auth", [name for name in ALL if name.startswith("SCRAM")]),
        ("noactive", [name for name in ALL if name.startswith("SCRAM")]),
        ("forward_secrecy", []),
    ],
)
def test_what_each_option_excludes(option: str, left: list[str]) -> None:
    login = rules(sasl_security_options=option, sasl_mechanism_filter=" ".join(ALL))
    channel = Channel(bindings=BOUND.bindings, has_certificate=True)
    assert [name for name in ALL if chosen(login, [name], PLAIN, channel)] == left


def test_the_strongest_mechanism_is_chosen_whatever_the_servers_order_is() -> None:
    login = rules(sasl_security_options="noanonymous")
    order = []
    offered = list(reversed(ALL))
    while name := chosen(login, offered, TLS):
        order.append(name)
        offered.remove(name)
    assert order == [
        "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN",
    ]  # fmt: skip


def test_plus_needs_a_channel_that_can_be_bound() -> None:
    login = rules()
    assert chosen(login, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1"], TLS, Channel()) == "SCRAM-SHA-1"


@honours("smtp_sasl_mechanism_filter", "lmtp_sasl_mechanism_filter")
@both
@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "SCRAM-SHA-256"),
        ("plain, login", "PLAIN"),
        ("!scram-sha-256, static:yes", "SCRAM-SHA-1"),
        ("xoauth2", "XOAUTH2"),
        ("inline:{ login = x }", "LOGIN"),
    ],
)
def test_the_filter_names_the_mechanisms(prefix: str, words: str, name: str) -> None:
    login = rules(None, prefix, sasl_mechanism_filter=words, sasl_security_options="noanonymous")
    assert chosen(login, [name for name in ALL if not name.endswith("-PLUS")], PLAIN) == name


def test_a_token_is_used_only_where_the_administrator_says_that_it_is_one() -> None:
    assert chosen(rules(sasl_security_options=""), ["XOAUTH2", "OAUTHBEARER"], TLS) == ""


def test_external_is_for_an_account_without_password_and_a_certificate_of_ours() -> None:
    login = rules()
    nameless = Credentials("user", "")
    own = Channel(has_certificate=True)
    assert chosen(login, ["EXTERNAL", "PLAIN"], TLS, own, nameless) == "EXTERNAL"
    assert chosen(login, ["EXTERNAL", "PLAIN"], TLS, Channel(), nameless) == ""
    assert chosen(login, ["EXTERNAL"], TLS, own, ACCOUNT) == ""


# -- accounts --

TABLE = (
    "inline:{ { mx.example = host:h } { [relay.example]:587 = hop:n } { me@here.example = sender:s }"
    " { @here.example = domain:d } { strange.example = a/b:c } { none.example = : } }"
)


@honours(
    "smtp_sasl_auth_enable", "smtp_sasl_password_maps", "smtp_sender_dependent_authentication",
    "lmtp_sasl_auth_enable", "lmtp_sasl_password_maps", "lmtp_sender_dependent_authentication",
)  # fmt: skip
@both
@pytest.mark.parametrize(
    ("by_sender", "sender", "host", "next_hop", "user"),
    [
        ("no", "me", "mx.example", "[relay.example]:587", "host"),
        ("no", "me", "MX.example", "d.example", "host"),
        ("no", "me", "other.example", "[relay.example]:587", "hop"),
        ("no", "me", "other.example", "d.example", ""),
        ("yes", "me", "mx.example", "d.example", "sender"),
        ("yes", "you", "mx.example", "d.example", "domain"),
        ("no", "me", "none.example", "d.example", ""),
    ],
)
def test_an_account_is_looked_up_by_sender_then_host_then_next_hop(
    prefix: str, by_sender: str, sender: str, host: str, next_hop: str, user: str
) -> None:
    login = rules(None, prefix, sasl_password_maps=TABLE, sender_dependent_authentication=by_sender)
    found = asyncio.run(login.credentials(Address(sender, "here.example"), host, next_hop))
    assert (found.user if found is not None else "") == user


def test_the_null_sender_has_no_account_of_its_own() -> None:
    login = rules(sasl_password_maps=TABLE, sender_dependent_authentication="yes")
    found = asyncio.run(login.credentials(NULL_SENDER, "mx.example", "d.example"))
    assert found == Credentials("host", "h")


@honours("smtp_sasl_password_result_delimiter", "lmtp_sasl_password_result_delimiter")
@both
def test_user_and_password_are_parted_where_the_delimiter_says(prefix: str) -> None:
    login = rules(None, prefix, sasl_password_maps=TABLE, sasl_password_result_delimiter="/")
    found = asyncio.run(login.credentials(NULL_SENDER, "strange.example", ""))
    assert found == Credentials("a", "b:c")


@both
def test_without_auth_enable_there_are_no_accounts(prefix: str) -> None:
    assert not rules(None, prefix, sasl_auth_enable="no")
    assert rules(None, prefix)


# -- refusals --


@honours(
    "smtp_sasl_auth_cache_name", "smtp_sasl_auth_cache_time", "lmtp_sasl_auth_cache_name", "lmtp_sasl_auth_cache_time"
)
@both
def test_a_refused_login_is_not_tried_again_for_a_time(prefix: str) -> None:
    now = [0.0]
    login = rules(now, prefix, sasl_auth_cache_name="proxy:btree:/x", sasl_auth_cache_time="1h")
    login.remember_refusal(ACCOUNT, "mx.example", "535 no")
    assert login.refused_before(ACCOUNT, "MX.example") == "535 no"
    assert login.refused_before(Credentials("user", "another"), "mx.example") == ""
    assert login.refused_before(ACCOUNT, "other.example") == ""
    now[0] = 3601.0
    assert login.refused_before(ACCOUNT, "mx.example") == ""
    forgetful = rules(now, prefix)
    forgetful.remember_refusal(ACCOUNT, "mx.example", "535 no")
    assert forgetful.refused_before(ACCOUNT, "mx.example") == ""


def test_refusals_that_are_remembered_are_bounded() -> None:
    login = rules(sasl_auth_cache_name="x")
    for at in range(1500):
        login.remember_refusal(ACCOUNT, f"mx{at}.example", "535 no")
    assert login.refused_before(ACCOUNT, "mx0.example") == ""
    assert login.refused_before(ACCOUNT, "mx1499.example") == "535 no"

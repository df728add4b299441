"""Logins by a bind at a real OpenLDAP: searched for and by a pattern, names that would break a filter or a DN."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.sasl.accounts import Outcome, Verdict
from support.accounts import account_list, cheap_hashing
from support.databases import DatabaseServer, free_port, running_slapd

_ODD = 'a,b+c"d;e<f>g=h#i \\j*(k)'


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


def _person(uid: str, password: str) -> str:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    dn = "".join(f"\\{byte:02x}" for byte in uid.encode())
    return (
        f"\ndn: uid={dn},ou=people,dc=example\nobjectClass: inetOrgPerson\ncn: x\nsn: x\nuid:: {encoded(uid)}\n"
        f"mail:: {encoded(uid.replace(' ', '') + '@example.com')}\nuserPassword:: {encoded(password)}\n"
    )


_LDIF = (
    "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n"
    "\ndn: ou=people,dc=example\nobjectClass: organizationalUnit\nou: people\n"
    + _person("anna", "secret") + _person("bert", "pässword") + _person(_ODD, "secret") + _person("anna2", "secret")
    + "\ndn: uid=nopw,ou=people,dc=example\nobjectClass: inetOrgPerson\ncn: x\nsn: x\nuid: nopw\n"
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    # Unauthenticated binds are allowed, as some servers have it: they must not come from us all the same.
    with running_slapd(_LDIF, general="allow bind_anon_cred bind_anon_dn") as running:
        yield running


def verdicts(tmp_path: Path, text: str, *logins: tuple[str, str]) -> list[Verdict]:
    (tmp_path / "ldap.cf").write_text(text)

    async def scene() -> list[Verdict]:
        accounts = account_list(tmp_path, sasl_accounts=f"ldap:{tmp_path}/ldap.cf")
        try:
            return [await accounts.verify(name, password) for name, password in logins]
        finally:
            await accounts.aclose()

    return asyncio.run(scene())


def searched(server: DatabaseServer) -> str:
    return (
        f"server_host = ldap://127.0.0.1:{server.port}\nsearch_base = ou=people,dc=example\n"
        "query_filter = (|(uid=%s)(mail=%s))\nbind = yes\nbind_dn = cn=admin,dc=example\nbind_pw = secret\n"
    )


def test_a_search_and_a_bind(server: DatabaseServer, tmp_path: Path) -> None:
    right = [
        ("anna", "secret"),
        ("ANNA", "secret"),
        ("anna@example.com", "secret"),
        ("bert", "pässword"),
        (_ODD, "secret"),
    ]
    found = verdicts(tmp_path, searched(server) + "account_attribute = uid\n", *right)
    assert [each.outcome for each in found] == [Outcome.OK] * len(right)
    assert [each.account for each in found] == ["anna", "anna", "anna", "bert", _ODD.casefold()]
    by_user = searched(server).replace("(|(uid=%s)(mail=%s))", "(uid=%u)")
    assert verdicts(tmp_path, by_user, ("Anna@elsewhere.example", "secret"))[0].account == "anna"
    found = verdicts(tmp_path, searched(server), ("Anna@example.com", "secret"))
    assert found == [Verdict(Outcome.OK, "anna@example.com", known=True)]


def test_wrong_names_and_passwords(server: DatabaseServer, tmp_path: Path) -> None:
    wrong = [
        ("anna", "Secret"), ("anna", ""), ("nobody", "secret"), ("nobody", ""), ("nopw", "x"), ("nopw", ""),
        ("an*", "secret"),
        ("*", "secret"), ("anna)(uid=*", "secret"), ("anna\0", "secret"), ("anna", "secret\0"), ("", "secret"),
        ("anna,ou=people,dc=example", "secret"), ("anna\\2a", "secret"), ("x" * 500, "secret"), ("anna", "x" * 1000),
        ("cn=admin,dc=example", "secret"), (" anna", "secret"),
    ]  # fmt: skip
    for settings in (searched(server), searched(server) + "account_attribute = uid\n"):
        found = verdicts(tmp_path, settings, *wrong)
        assert [each.outcome for each in found] == [Outcome.WRONG] * len(wrong), list(zip(wrong, found, strict=True))
        assert not any("ecret" in each.detail for each in found)


def test_a_bind_by_a_pattern(server: DatabaseServer, tmp_path: Path) -> None:
    head = f"server_host = 127.0.0.1\nserver_port = {server.port}\nuser_dn = "
    dn = head + "uid=%u,ou=people,dc=example\n"
    found = verdicts(tmp_path, dn, ("Anna", "secret"), (_ODD, "secret"), ("anna@elsewhere.example", "secret"))
    assert [each.outcome for each in found] == [Outcome.OK] * 3
    assert [each.account for each in found] == ["anna", _ODD.casefold(), "anna"]  # nobody asked for the domain
    wrong = [
        ("anna", "x"),
        ("anna", ""),
        ("nobody", "x"),
        ("anna,ou=people", "secret"),
        ("@example", "secret"),
        ("*", "secret"),
    ]
    assert [each.outcome for each in verdicts(tmp_path, dn, *wrong)] == [Outcome.WRONG] * len(wrong)
    # A name that is no DN is what Active Directory takes; OpenLDAP says that it is no DN.
    name = head + "%u@corp.example\n"
    for login in (("anna", "secret"), ("uid=anna,ou=people,dc=example", "secret")):
        assert [each.outcome for each in verdicts(tmp_path, name, login)] == [Outcome.WRONG]


def test_what_fits_twice_or_lacks_its_name_is_a_temporary_error(server: DatabaseServer, tmp_path: Path) -> None:
    twice = searched(server).replace("(|(uid=%s)(mail=%s))", "(uid=%s*)")
    assert [each.outcome for each in verdicts(tmp_path, twice, ("anna", "secret"))] == [Outcome.UNAVAILABLE]
    lacking = searched(server) + "account_attribute = description\n"
    assert [each.outcome for each in verdicts(tmp_path, lacking, ("anna", "secret"))] == [Outcome.UNAVAILABLE]


def test_a_server_that_is_away_or_does_not_answer(server: DatabaseServer, tmp_path: Path) -> None:
    away = searched(server).replace(str(server.port), str(free_port()))
    assert [each.outcome for each in verdicts(tmp_path, away, ("anna", "secret"))] == [Outcome.UNAVAILABLE]
    both = searched(server).replace("server_host = ", f"server_host = ldap://127.0.0.1:{free_port()} ")
    assert [each.outcome for each in verdicts(tmp_path, both, ("anna", "secret"))] == [Outcome.OK]
    wrong = searched(server).replace("bind_pw = secret", "bind_pw = wrong")
    assert [each.outcome for each in verdicts(tmp_path, wrong, ("anna", "secret"))] == [Outcome.UNAVAILABLE]
    with server.frozen():
        slow = searched(server) + "timeout = 1\n"
        assert [each.outcome for each in verdicts(tmp_path, slow, ("anna", "secret"))] == [Outcome.UNAVAILABLE]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("server_host = localhost\n", "search_base is not set"),
        ("user_dn = uid=anna,dc=example\n", "user_dn = uid=anna,dc=example: must hold %s or %u"),
        ("user_dn = %x\n", "user_dn = %x"),
        ("search_base = dc=x\nbind_dn = cn=a\n", "bind_dn = cn=a: a bind without a password"),
        ("search_base = dc=x\nscope = all\n", "scope = all: must be one of"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "ldap.cf").write_text(text)
    with pytest.raises(ConfigError) as caught:
        account_list(tmp_path, sasl_accounts=f"ldap:{tmp_path}/ldap.cf")
    assert told in str(caught.value)


def test_a_setting_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "ldap.cf").write_text("search_base = dc=x\nserach_base = dc=y\n")
    accounts = account_list(tmp_path, sasl_accounts=f"ldap:{tmp_path}/ldap.cf")
    assert accounts.check() == [f"{tmp_path}/ldap.cf, line 2: serach_base is no parameter of ldap tables"]

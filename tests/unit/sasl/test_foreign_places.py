"""Accounts that others keep: passwd files, lookup tables, PAM."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.sasl.account_list import AccountList
from ekiden.sasl.accounts import AccountTrouble, Outcome, Verdict
from ekiden.sasl.pam_place import PamPlace
from ekiden.sasl.passwd_file_place import parse_passwd_file
from ekiden.sasl.scram_secret import derive
from support.accounts import account_list, cheap_hashing

_SHA512 = "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG."
_BCRYPT = "{BLF-CRYPT}$2y$05$RvujgqXDFxZ7I2VmG2oW7.TaQDU1FX/lts54sDv2nOLT7R./jvz8u"
_SSHA = "{SSHA512}LDx3ZlhrQUN4E8JU0omKtxaFzV7ZZypAjzzVqgrYIKFWo3H+PtvJducbkIRugzVFg6lNZinIASaga4yflsRIs+sF5BI="


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


def verified(accounts: AccountList, name: str, password: str) -> Verdict:
    return asyncio.run(accounts.verify(name, password))


def outcome(accounts: AccountList, name: str, password: str) -> Outcome:
    return verified(accounts, name, password).outcome


# --- passwd files


def test_a_passwd_file_of_dovecot(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(
        f"# users\n\nanna@example.com:{_BCRYPT}:1000:1000::/home/anna::userdb_quota_rule=*:storage=1G\n"
        f"Bert:{_SSHA}\r\ncarol:{_SHA512}:x\nlocked:!{_SHA512}:\nempty::\nplain:{{PLAIN}}secret::::::\n"
        f"near:{_SHA512}::::::allow_nets=192.0.2.0/24\nno-colon\n:{_SHA512}\nbroken:{{NOSUCH}}x\nanna@example.com:{_SHA512}\n"
        f"any:::::::nopassword=y\n"
    )
    accounts = account_list(tmp_path, sasl_accounts=f"passwd-file:{path}")
    for name, account in [
        ("anna@example.com", "anna@example.com"), ("ANNA@example.com", "anna@example.com"), ("bert", "Bert"),
        ("Bert", "Bert"), ("carol", "carol"),
    ]:  # fmt: skip
        assert verified(accounts, name, "secret") == Verdict(Outcome.OK, account, known=True)
        assert outcome(accounts, name, "Secret") is Outcome.WRONG
    for name in ("locked", "empty", "plain", "nobody", "no-colon", "", "anna@example.com:x", "broken", "any"):
        for password in ("secret", "", "!", "x"):
            assert outcome(accounts, name, password) is Outcome.WRONG, (name, password)
    assert verified(accounts, "near", "secret").outcome is Outcome.DISABLED
    assert verified(accounts, "near", "secret").detail == "allow_nets is not supported"
    problems = accounts.check()
    assert f"{path}: near: allow_nets is not supported" in problems
    assert f"{path}: broken: the password scheme 'nosuch' is not known" in problems
    assert f"{path}: plain: the password scheme plain is not among sasl_password_schemes" in problems
    assert not any("secret" in problem for problem in problems)


def test_a_scheme_counts_that_is_named_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"plain:{{PLAIN}}secret\nhashed:{_SHA512}\n")
    accounts = account_list(tmp_path, sasl_accounts=f"passwd-file:{path}", sasl_password_schemes="plain")
    assert outcome(accounts, "plain", "secret") is Outcome.OK
    assert outcome(accounts, "hashed", "secret") is Outcome.WRONG


def test_a_passwd_file_that_changes_or_goes(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"anna:{_SHA512}\n")
    accounts = account_list(tmp_path, sasl_accounts=f"passwd-file:{path}")
    assert outcome(accounts, "anna", "secret") is Outcome.OK
    path.write_text(f"anna:!{_SHA512}\n")
    assert outcome(accounts, "anna", "secret") is Outcome.WRONG
    path.unlink()
    assert outcome(accounts, "anna", "secret") is Outcome.UNAVAILABLE
    assert accounts.check() == [f"{path}: No such file or directory"]
    path.write_bytes(b"\xff\xfe:x\n" + f"anna:{_SHA512}\n".encode())
    assert outcome(accounts, "anna", "secret") is Outcome.OK


def test_scram_keys_of_a_verifier(tmp_path: Path) -> None:
    path = tmp_path / "users"
    secret = derive("sha256", "secret", b"salt", 4096)
    parts = (base64.b64encode(each).decode() for each in (b"salt", secret.pair.stored_key, secret.pair.server_key))
    path.write_text(f"anna:{{SCRAM-SHA-256}}4096,{','.join(parts)}\nbert:{_SHA512}\n")
    accounts = account_list(tmp_path, sasl_accounts=f"passwd-file:{path}", sasl_scram_hashes="sha1 sha256")
    keys = asyncio.run(accounts.scram_keys("ANNA", "sha256"))
    assert keys is not None
    assert (keys.account, keys.salt, keys.pairs) == ("anna", b"salt", (secret.pair,))
    assert outcome(accounts, "anna", "secret") is Outcome.OK
    assert asyncio.run(accounts.scram_keys("anna", "sha1")) is None
    assert asyncio.run(accounts.scram_keys("bert", "sha256")) is None


def test_a_passwd_file_of_anything() -> None:
    assert parse_passwd_file("") == {}
    assert parse_passwd_file("\0:\0\n" * 3)["\0"].stored == "\0"
    assert list(parse_passwd_file("A:1\na:2\n")) == ["a", "A"]
    found = parse_passwd_file("A:1\na:2\n")
    assert (found["A"].stored, found["a"].stored) == ("1", "2")


# --- lookup tables


def test_a_table_that_gives_stored_passwords(tmp_path: Path) -> None:
    table = tmp_path / "users"
    table.write_text(f"anna@example.com {_BCRYPT}\nbert {_SHA512}\nodd secret\n")
    accounts = account_list(tmp_path, sasl_accounts=f"table:texthash:{table}")
    assert verified(accounts, "Anna@Example.com", "secret") == Verdict(Outcome.OK, "anna@example.com", known=True)
    assert outcome(accounts, "bert", "secret") is Outcome.OK
    for name in ("odd", "nobody"):
        assert outcome(accounts, name, "secret") is Outcome.WRONG
    accounts = account_list(tmp_path, sasl_accounts="table:fail:x")
    assert outcome(accounts, "anna", "secret") is Outcome.UNAVAILABLE


@pytest.mark.parametrize("word", ["table:x", "table:nosuch:x", "table:mysql:/nonexistent", "passwd-file:x", "ldap:x"])
def test_a_table_that_is_none_is_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConfigError, match="sasl_accounts: "):
        account_list(tmp_path, sasl_accounts=word)


# --- PAM


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (0, Outcome.OK),
        (7, Outcome.WRONG),
        (10, Outcome.WRONG),
        (6, Outcome.WRONG),
        (13, Outcome.WRONG),
        (12, Outcome.WRONG),
    ],
)
def test_what_pam_says(code: int, wanted: Outcome) -> None:
    asked: list[tuple[str, str, str]] = []

    def authenticate(user: str, password: str, service: str) -> tuple[int, str]:
        asked.append((user, password, service))
        return code, "so"

    place = PamPlace("smtp", 1, 5, authenticate)
    verdict = asyncio.run(place.verify("anna", "secret"))
    assert verdict.outcome is wanted
    assert asked == [("anna", "secret", "smtp")]
    assert "secret" not in verdict.detail


@pytest.mark.parametrize("code", [4, 9, 26, 3, 99])
def test_what_pam_cannot_say_is_trouble(code: int) -> None:
    with pytest.raises(AccountTrouble, match="PAM: so"):
        asyncio.run(PamPlace("smtp", 1, 5, lambda *_: (code, "so")).verify("anna", "x"))


def test_a_pam_that_hangs_is_trouble_and_keeps_its_thread() -> None:
    gate = threading.Event()

    def authenticate(*_: str) -> tuple[int, str]:
        gate.wait()
        return 0, ""

    async def scene() -> None:
        place = PamPlace("smtp", 1, 0.05, authenticate)
        for _ in range(2):
            with pytest.raises(AccountTrouble, match="does not answer"):
                await place.verify("anna", "x")
        gate.set()
        await place.aclose()

    asyncio.run(scene())


def test_pam_without_its_library_and_with_a_service_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for word in ("pam:../x", "pam:a/b", "pam:."):
        with pytest.raises(ConfigError, match="pam:SERVICE"):
            account_list(tmp_path, sasl_accounts=word)
    assert account_list(tmp_path, sasl_accounts="pam:no-such-service").check() == [
        "/etc/pam.d/no-such-service is not there: PAM would ask its service other, which refuses all"
    ]
    monkeypatch.setitem(sys.modules, "pam", None)
    with pytest.raises(ConfigError, match=r"pip install 'ekiden\[pam\]'"):
        account_list(tmp_path, sasl_accounts="pam:smtp")

"""The file of our own accounts: written whole and private, read whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from ekiden.sasl.account_changes import (
    ScramPolicy,
    prepared_password,
    with_app_password,
    with_password,
    without_app_password,
)
from ekiden.sasl.account_file import Account, AccountFile, AccountFileTrouble, folded_name, parse_accounts
from ekiden.sasl.scram_secret import parse_secret
from support.accounts import DAY, add_account, change_account, cheap_hashing
from support.requirements import ROOT, require_root

_NOTHING = ScramPolicy()


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashing(monkeypatch)


def test_accounts_survive_the_way_to_the_file_and_back(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    assert AccountFile(path).read() == {}
    add_account(path, "anna@example.com", "secret-1", scram=ScramPolicy(("sha1", "sha256"), 4096))
    add_account(path, "bert", "secret-2")
    change_account(path, "anna@example.com", lambda anna: with_app_password(anna, "phöne", _NOTHING, DAY)[0])
    change_account(path, "bert", lambda bert: replace(bert, disabled=True, totp="ABC"))
    found = AccountFile(path).read()
    assert sorted(found) == ["anna@example.com", "bert"]
    assert [each.name for each in found["anna@example.com"].app_passwords] == ["phöne"]
    assert len(found["anna@example.com"].scram) == 2
    assert (found["bert"].disabled, found["bert"].totp) == (True, "ABC")
    assert "secret" not in path.read_text()
    assert "secret" not in repr(found)


def test_the_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    add_account(path, "anna", "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    add_account(path, "bert", "secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["accounts"]


def test_a_new_file_belongs_to_the_server_and_an_old_one_to_whom_it_belongs(tmp_path: Path) -> None:
    require_root()  # only root can give files away
    path = tmp_path / "accounts"
    AccountFile(path).change(lambda accounts: None, owner=(65534, 65534))
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
    os.chown(path, 1, 1)
    AccountFile(path).change(lambda accounts: None, owner=(65534, 65534))
    assert path.stat().st_uid == 1


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "accounts"
    path.symlink_to(tmp_path / "real" / "accounts")
    add_account(path, "anna", "secret")
    assert path.is_symlink()
    assert list(AccountFile(path).read()) == ["anna"]


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    add_account(path, "anna", "secret")
    before = path.read_bytes()

    def edit(accounts: dict[str, Account]) -> None:
        accounts.clear()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        AccountFile(path).change(edit)
    assert path.read_bytes() == before
    with pytest.raises(AccountFileTrouble, match="No such file"):
        AccountFile(tmp_path / "nowhere" / "accounts").change(lambda accounts: None)


def test_changes_at_the_same_time_all_count(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    script = (
        "import sys; from pathlib import Path; from ekiden.sasl.account_file import Account, AccountFile\n"
        "for number in range(20):\n"
        "    name = f'{sys.argv[2]}-{number}'\n"
        "    AccountFile(Path(sys.argv[1])).change(lambda accounts: accounts.update({name: Account(name)}))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), name], cwd=ROOT) for name in ("a", "b", "c")]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(AccountFile(path).read()) == 60


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x", "line 1: not an account"),
        ("{}", "line 1: not an account"),
        ('# ok\n\n{"name":""}', "line 3: it is empty"),
        ('{"name":"Anna"}', "line 1: a name that is not in its canonical form"),
        ('{"name":"a b"}', "line 1: it holds white space"),
        ('{"name":"a"}\n{"name":"a"}', "line 2: a second account a"),
        ('{"name":"a","password":"secret"}', "line 1: a password that is no argon2id hash"),
        ('{"name":"a","sudo":true}', "line 1: not an account"),
        ('{"name":"a","scram":["x"]}', "line 1: not a SCRAM verifier"),
        ('{"name":"a","app_passwords":[{"name":"p","created":"","digest":"secret"}]}', "line 1: an app password"),
        ('{"name":"a","disabled":"no"}', "line 1: not an account"),
        ("# Ekiden accounts, version 2; x\n", "line 1: written by a newer Ekiden"),
        ("[" * 100_000, "line 1: "),
        ('{"name":"\\ud800"}', "line 1: "),
        ('{"name":"' + "a" * 1_000_000 + '"}', "line 1: it is longer than 255 octets"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_account_is_told_with_its_place_and_without_what_it_holds(text: str, told: str) -> None:
    with pytest.raises(AccountFileTrouble) as caught:
        parse_accounts(text, "accounts")
    assert str(caught.value).startswith(f"accounts, {told}")
    assert len(str(caught.value)) < 300
    assert "secret" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_told(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.write_bytes(b'{"name":"\xff"}')
    with pytest.raises(AccountFileTrouble, match="UTF-8"):
        AccountFile(path).read()
    path.unlink()
    path.mkdir()
    with pytest.raises(AccountFileTrouble, match="Is a directory"):
        AccountFile(path).read()


def test_names_have_one_form() -> None:
    assert folded_name("Anna@Example.COM") == "anna@example.com"
    assert folded_name("mu\u0308ller") == folded_name("MÜLLER") == "müller"
    assert folded_name("a\u00adb") == "ab"
    for name in ("", "a b", "a\0b", "a\tb", "x" * 256, "\udcff", "\u00a0"):
        with pytest.raises(ValueError, match="it "):
            folded_name(name)


@pytest.mark.parametrize(
    "password", ["Xq7", "", "x" * 1025, "with\0nul..", "tab\tinside", "\udcffsurrogate", "\U0001f600" * 8]
)
def test_a_password_that_cannot_be_used_is_refused_without_being_shown(password: str) -> None:
    with pytest.raises(ValueError, match=r"\Athe password ") as caught:
        prepared_password(password, 8)
    assert not password or password not in str(caught.value)


def test_all_passwords_of_an_account_have_one_salt_so_that_scram_can_prove_any() -> None:
    policy = ScramPolicy(["sha256"], 4096)
    account = with_password(Account("anna"), "secret-1", policy, DAY)
    account, shown = with_app_password(account, "phone", ScramPolicy(["sha256"], 9999), DAY)
    account = with_password(account, "secret-2", policy, DAY)
    own, phone = parse_secret(account.scram[0]), parse_secret(account.app_passwords[0].scram[0])
    assert (own.salt, own.iterations) == (phone.salt, phone.iterations)
    assert own.fits("secret-2")
    assert phone.fits(shown)
    assert phone.pair != own.pair


def test_an_app_password_is_random_and_goes_by_its_name() -> None:
    account, first = with_app_password(Account("anna"), "phone", _NOTHING, DAY)
    account, second = with_app_password(account, "laptop", _NOTHING, DAY)
    assert first != second
    assert len(first) == 23
    for typed in (first, first.replace("-", ""), first.upper(), first.replace("-", " ")):
        assert account.app_passwords[0].fits(typed)
        assert not account.app_passwords[1].fits(typed)
    for name in ("phone", "", " ", "a\nb", "x" * 101):
        with pytest.raises(ValueError, match="app password"):
            with_app_password(account, name, _NOTHING, DAY)
    assert [each.name for each in without_app_password(account, "phone").app_passwords] == ["laptop"]
    with pytest.raises(ValueError, match="no app password 'x'"):
        without_app_password(account, "x")

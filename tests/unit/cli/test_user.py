"""``ekiden user``: accounts made and changed while a server runs; passwords from standard input only."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ekiden.cli.main import main
from ekiden.sasl.account_file import AccountFile
from ekiden.sasl.last_used import LastUsed
from ekiden.sasl.password_hash import parse_stored
from ekiden.sasl.totp import STEP_S, code_at
from support.accounts import cheap_hashing

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text(
        f"queue_directory = {tmp_path}/queue\nmyhostname = mx.test\nmail_owner = nobody\nsasl_failure_delay = 0s\n"
    )
    return tmp_path


@pytest.fixture
def run(etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    cheap_hashing(monkeypatch)

    def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        # Each command takes -c after its own words.
        code = main(["user", *arguments, "-c", str(etc)])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def accounts(etc: Path) -> Sequence[str]:
    return sorted(AccountFile(etc / "accounts").read())


def test_an_account_from_its_making_to_its_end(run: Run, etc: Path) -> None:
    assert run("add", "Anna@Example.com", given="pässword-1\n") == (0, "", "")
    assert run("check", "anna@example.com", given="pässword-1\n") == (0, "ok: anna@example.com\n", "")
    assert run("check", "anna@example.com", given="wrong\n")[0] == os.EX_NOPERM
    assert run("passwd", "anna@example.com", given="password-2") == (0, "", "")
    assert run("check", "anna@example.com", given="pässword-1\n") == (os.EX_NOPERM, "wrong: wrong password\n", "")
    assert run("disable", "ANNA@example.com") == (0, "", "")
    assert run("check", "anna@example.com", given="password-2")[1] == "disabled: the account is disabled\n"
    assert "disabled" in run("list")[1]
    assert run("enable", "anna@example.com") == (0, "", "")
    assert json.loads(run("check", "anna@example.com", "--json", given="password-2")[1])["outcome"] == "ok"
    assert run("delete", "anna@example.com") == (0, "", "")
    assert accounts(etc) == []
    for action in ("delete", "disable", "enable", "passwd"):
        code, _, told = run(action, "anna@example.com", given="password-3")
        assert (code, told) == (os.EX_NOUSER, "ekiden: there is no account anna@example.com\n")


def test_the_hash_is_argon2id_and_verifiers_are_kept_where_they_are_wanted(run: Run, etc: Path) -> None:
    with (etc / "main.cf").open("a") as file:
        file.write("sasl_scram_hashes = sha256\nsasl_scram_iterations = 5000\n")
    run("add", "anna", given="password-1\n")
    account = AccountFile(etc / "accounts").read()["anna"]
    assert parse_stored(account.password).scheme == "argon2id"
    assert [text.partition(":")[0] for text in account.scram] == ["SCRAM-SHA-256$5000"]
    shown = run("app-password", "add", "anna", "phone")[1].strip()
    assert AccountFile(etc / "accounts").read()["anna"].app_passwords[0].scram[0].startswith("SCRAM-SHA-256$5000:")
    assert shown not in (etc / "accounts").read_text()
    facts = json.loads(run("list", "--json")[1])
    assert facts | {"changed": ""} == {
        "name": "anna", "disabled": False, "password": True, "changed": "", "app_passwords": 1, "totp": False,
        "scram": ["SCRAM-SHA-256"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "password", "told"),
    [
        ("anna", "short", "shorter than 8 characters"),
        ("anna", "", "shorter than 8 characters"),
        ("anna", "x" * 2000, "longer than 1024 octets"),
        ("anna", "a\0bcdefghij", "control character"),
        ("", "password-1", "the name cannot be used: it is empty"),
        ("a b", "password-1", "the name cannot be used: it holds white space"),
        ("a\x1bb", "password-1", "the name cannot be used: it holds a control character"),
    ],
)
def test_what_cannot_be_used_is_told(run: Run, etc: Path, name: str, password: str, told: str) -> None:
    code, out, error = run("add", name, given=password)
    assert (code, out) == (os.EX_DATAERR, "")
    assert told in error
    assert accounts(etc) == []


def test_a_name_that_is_taken_stays_as_it_is(run: Run, etc: Path) -> None:
    run("add", "anna", given="password-1")
    before = (etc / "accounts").read_bytes()
    assert run("add", "ANNA", given="password-2") == (os.EX_DATAERR, "", "ekiden: there is an account anna already\n")
    assert (etc / "accounts").read_bytes() == before


def test_app_passwords(run: Run) -> None:
    run("add", "anna", "--no-password")
    assert "no password" in run("list")[1]
    shown = run("app-password", "add", "anna", "my phone")[1].strip()
    second = json.loads(run("app-password", "add", "anna", "laptop", "--json")[1])["password"]
    assert run("app-password", "add", "anna", "laptop")[0] == os.EX_DATAERR
    assert json.loads(run("check", "anna", "--json", given=shown)[1])["app_password"] == "my phone"
    lines = run("app-password", "list", "anna")[1].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["my phone", "laptop"]
    assert lines[0].endswith("last used never")  # there is no queue directory to keep it in
    assert run("app-password", "revoke", "anna", "my phone") == (0, "", "")
    assert run("app-password", "revoke", "anna", "my phone")[0] == os.EX_DATAERR
    assert run("check", "anna", given=shown)[0] == os.EX_NOPERM
    assert run("check", "anna", given=second)[0] == 0
    assert run("app-password", "list", "bert")[0] == os.EX_NOUSER


def test_the_day_of_the_last_use_is_listed(run: Run, etc: Path) -> None:
    (etc / "queue" / "run").mkdir(parents=True)
    run("add", "anna", "--no-password")
    shown = run("app-password", "add", "anna", "phone")[1].strip()
    assert run("check", "anna", given=shown)[0] == 0
    assert not list((etc / "queue" / "run").iterdir())  # an administrator's look is no use
    LastUsed(etc / "queue" / "run" / "app-passwords-used", time.time).note("anna", "phone")
    facts = json.loads(run("app-password", "list", "anna", "--json")[1])
    assert facts["last_used"] == facts["created"] == time.strftime("%Y-%m-%d", time.gmtime())


def test_totp(run: Run) -> None:
    run("add", "anna", given="password-1")
    assert run("totp", "check", "anna", given="123456")[0] == os.EX_DATAERR
    facts = json.loads(run("totp", "on", "anna", "--json")[1])
    assert facts["url"].startswith("otpauth://totp/mx.test:anna?secret=" + facts["secret"])
    assert run("totp", "on", "anna")[0] == os.EX_DATAERR
    code = code_at(facts["secret"], int(time.time() // STEP_S))
    assert run("totp", "check", "anna", given=f"{code}\n")[0] == 0
    wrong = f"{(int(code) + 500_000) % 1_000_000:06}"
    assert run("totp", "check", "anna", given=wrong)[0] == os.EX_NOPERM
    assert run("check", "anna", given="password-1")[0] == os.EX_NOPERM
    assert run("totp", "off", "anna")[0] == 0
    assert run("check", "anna", given="password-1")[0] == 0


def test_places_that_cannot_be_changed_or_asked_are_told(run: Run, etc: Path) -> None:
    with (etc / "main.cf").open("a") as file:
        file.write("sasl_accounts = file:$config_directory/none/accounts\n")
    code, _, told = run("add", "anna", given="password-1")
    assert (code, told.count("\n")) == (os.EX_CANTCREAT, 1)
    (etc / "none").mkdir()
    (etc / "none" / "accounts").write_text("broken\n")
    for words in (["list"], ["passwd", "anna"]):
        code, _, told = run(*words, given="password-1")
        assert (code, told.count("\n")) == (os.EX_CONFIG, 1)
    assert run("check", "anna", given="x")[0] == os.EX_TEMPFAIL
    with (etc / "main.cf").open("a") as file:
        file.write("sasl_accounts =\n")
    assert run("list")[0] == os.EX_CONFIG

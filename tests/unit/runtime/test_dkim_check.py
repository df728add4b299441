"""What ``ekiden check`` says of the keys of DKIM signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, new_private_key
from ekiden.cli.main import main
from ekiden.config.load import build
from ekiden.runtime.dkim_check import check_dkim

MASTER = "smtp inet n - n - - smtpd\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "dkim").mkdir()
    for name, pem in (
        ("good", new_private_key(ED25519_SHA256)),
        ("weak", new_private_key(RSA_SHA256, bits=1024)),
        ("broken", b"broken"),
    ):
        file = tmp_path / "dkim" / f"{name}.pem"
        file.write_bytes(pem)
        file.chmod(0o600)
    return tmp_path


def said(directory: Path, entries: str, master_cf: str = MASTER) -> list[str]:
    table = f"dkim_signing_table = inline:{{ {entries} }}\n" if entries else ""
    text = f"dkim_key_directory = {directory}/dkim\n{table}"
    found = check_dkim(build(directory, text, master_cf, hostname="mx.test"))
    return [str(problem).replace(f"{directory}/", "") for problem in found]


def test_good_keys_are_good(directory: Path) -> None:
    assert said(directory, "") == []
    assert said(directory, "a.example=%:s:good.pem, *=b.example:s:good.pem, .a.example=%:s:any.pem") == []


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("broken.pem", "main.cf:2: error: dkim_signing_table: a.example: dkim/broken.pem: no private key in PEM form"),
        ("weak.pem", "main.cf:2: warning: dkim_signing_table: a.example: dkim/weak.pem: the RSA key has 1024 bits; "),
        ("none.pem", "main.cf:2: error: dkim_signing_table: a.example: dkim/none.pem: there is no such file"),
        ("/etc/k.pem", "main.cf:2: error: dkim_signing_table: a.example: /etc/k.pem does not lie in dkim_key_dir"),
    ],
)
def test_others_are_told_at_the_line_of_the_table(directory: Path, entry: str, line: str) -> None:
    (found,) = said(directory, f"a.example=%:s:{entry}")
    assert found.startswith(line)


def test_a_key_that_everybody_can_read_is_told(directory: Path) -> None:
    (directory / "dkim" / "good.pem").chmod(0o644)
    (found,) = said(directory, "a.example=%:s:good.pem")
    assert found.endswith("dkim/good.pem can be read by everybody on this host: chmod 600")


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("a.test:s:broken.pem", "main.cf:2: error: arc_seal_key: dkim/broken.pem: no private key in PEM form"),
        ("a.test:s:weak.pem", "main.cf:2: warning: arc_seal_key: dkim/weak.pem: the RSA key has 1024 bits; "),
        ("a.test:s", "main.cf:2: error: arc_seal_key: it is not domain:selector:file"),
        ("%:s:good.pem", "main.cf:2: error: arc_seal_key: % stands for nothing here"),
        ("a.test:s:good.pem", ""),
    ],
)
def test_the_key_of_arc_seals(directory: Path, key: str, line: str) -> None:
    text = f"dkim_key_directory = {directory}/dkim\narc_seal_key = {key}\n"
    found = check_dkim(build(directory, text, MASTER, hostname="mx.test"))
    assert [str(problem).replace(f"{directory}/", "")[: len(line)] for problem in found] == ([line] if line else [])


def test_the_table_of_a_service_is_told_of_in_master_cf(directory: Path) -> None:
    master = f"{MASTER}587 inet n - n - - smtpd -o dkim_signing_table=inline:{{a.example=%:s:broken.pem}}\n"
    (found,) = said(directory, "", master)
    assert found.startswith("master.cf:2: error: dkim_signing_table: a.example: dkim/broken.pem")


def test_the_command_says_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "main.cf").write_text(
        f"queue_directory = {directory}/queue\nmyhostname = mx.test\ndkim_signing_table = inline:{{a.test=x}}\n"
    )
    assert main(["check", "-c", str(directory)]) == 78
    assert "dkim_signing_table: a.test: an entry of dkim_signing_table is not" in capsys.readouterr().out

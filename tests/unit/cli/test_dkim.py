"""``ekiden dkim``: keys that nobody else may read, records that zone files take, steps from an old key to a new one."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, signing_key
from ekiden.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text(
        f"queue_directory = {tmp_path}/queue\nmyhostname = mx.test\ndkim_signing_table = texthash:{tmp_path}/signing\n"
    )
    (tmp_path / "signing").write_text("")
    return tmp_path


@pytest.fixture
def run(etc: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["dkim", *arguments, "-c", str(etc)])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def entry_of(output: str) -> str:
    """The line for the table that keygen proposes."""
    return output.splitlines()[-1].removeprefix(";   ") + "\n"


def test_a_key_is_made_for_its_owner_alone(run: Run, etc: Path) -> None:
    old = os.umask(0)
    try:
        code, out, err = run("keygen", "Example.com", "--selector", "one", "--bits", "1024")
    finally:
        os.umask(old)
    assert (code, err) == (0, "")
    file = etc / "dkim" / "example.com" / "one.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    key = signing_key("example.com", "one", file.read_bytes())
    assert (key.algorithm, key.bits) == (RSA_SHA256, 1024)
    assert "one._domainkey.example.com. IN TXT" in out
    assert "".join(re.findall(r'"([^"]*)"', out)) == key.record
    assert entry_of(out) == "example.com    example.com:one:example.com/one.pem\n"
    assert "PRIVATE" not in out


def test_a_key_that_is_there_is_kept(run: Run, etc: Path) -> None:
    run("keygen", "example.com", "--selector", "one", "--algorithm", "ed25519")
    file = etc / "dkim" / "example.com" / "one.pem"
    before = file.read_bytes()
    code, _, err = run("keygen", "example.com", "--selector", "one")
    assert code == os.EX_CANTCREAT
    assert "is there already" in err
    assert file.read_bytes() == before


def test_both_kinds_have_selectors_of_their_own(run: Run, etc: Path) -> None:
    code, out, _ = run("keygen", "example.com", "--algorithm", "both", "--bits", "1024")
    names = re.findall(r"^(\d{8}-\w+)\._domainkey", out, re.MULTILINE)
    assert code == 0
    assert [name.partition("-")[2] for name in names] == ["rsa", "ed25519"]
    (etc / "signing").write_text(entry_of(out))
    shown = [json.loads(line) for line in run("show", "--json")[1].splitlines()]
    assert [each["algorithm"] for each in shown] == [RSA_SHA256, ED25519_SHA256]
    assert [each["selector"] for each in shown] == names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keygen", "exa mple.com"], "not the name of a domain"),
        (["keygen", "example.com", "--selector", "a/b"], "is not a selector"),
        (["keygen", "example.com", "--bits", "512"], "less than 1024 bits"),
    ],
)
def test_what_cannot_be_a_key_leaves_nothing_behind(run: Run, etc: Path, arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (os.EX_USAGE, "")
    assert said in err
    assert not (etc / "dkim").exists()


def test_keys_are_shown_with_what_is_wrong_with_them(run: Run, etc: Path) -> None:
    run("keygen", "example.com", "--selector", "weak", "--bits", "1024")
    (etc / "dkim" / "broken.pem").write_text("x")
    (etc / "signing").write_text(
        "example.com example.com:weak:example.com/weak.pem\nb.example b.example:s:broken.pem\nc.example wrong\n"
    )
    code, out, err = run("show")
    assert code == os.EX_DATAERR
    assert "; note: the RSA key has 1024 bits" in out
    assert "broken.pem: no private key in PEM form" in out
    assert "c.example: an entry of dkim_signing_table is not domain:selector:file" in err
    code, out, err = run("show", "example.com")
    assert code == os.EX_OK
    assert "broken" not in out


def test_a_table_that_cannot_be_listed_is_told_of(run: Run, etc: Path) -> None:
    with (etc / "main.cf").open("a") as file:
        file.write("dkim_signing_table = regexp:{{/./ %:s:k.pem}}\n")
    _, out, err = run("show")
    assert out == ""
    assert "must be in a table that can be listed" in err


def test_a_rotation_makes_a_key_of_each_kind_and_tells_the_steps(run: Run, etc: Path) -> None:
    out = run("keygen", "example.com", "--algorithm", "both", "--bits", "1024", "--selector", "old")[1]
    (etc / "signing").write_text(entry_of(out) + entry_of(out).replace("example.com", "boss@example.com", 1))
    before = (etc / "signing").read_text()
    code, out, err = run("rotate", "example.com", "--bits", "1024", "--selector", "new")
    assert (code, err) == (0, "")
    assert (etc / "signing").read_text() == before
    for kind in ("rsa", "ed25519"):
        assert f"new-{kind}._domainkey.example.com. IN TXT" in out
        assert f";      old-{kind}._domainkey.example.com    {etc}/dkim/example.com/old-{kind}.pem" in out
    words = "example.com:new-rsa:example.com/new-rsa.pem, example.com:new-ed25519:example.com/new-ed25519.pem"
    assert f";      example.com    {words}\n" in out
    assert "; 4. After 7 days" in out  # maximal_queue_lifetime and two
    assert re.findall(r"^; (\d)\.", out, re.MULTILINE) == ["1", "2", "3", "4"]


def test_there_is_nothing_to_rotate_without_an_entry(run: Run, etc: Path) -> None:
    code, out, err = run("rotate", "example.com")
    assert (code, out) == (os.EX_DATAERR, "")
    assert "ekiden dkim keygen example.com" in err
    assert not (etc / "dkim").exists()

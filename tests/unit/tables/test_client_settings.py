"""The parameters of tables that ask a server: their file, or main.cf."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.tables.client_settings import ClientSettings, read_client_settings
from ekiden.tables.open import open_table
from ekiden.tables.table import Finding


def read(tmp_path: Path, text: str) -> ClientSettings:
    file = tmp_path / "table.cf"
    file.write_text(text)
    return read_client_settings("mysql", str(file), Parameters())


def test_the_format_is_that_of_main_cf(tmp_path: Path) -> None:
    settings = read(
        tmp_path, "# a comment\nquery = SELECT x\n  FROM y\n# another\n  WHERE z = '$z ${z}'\npassword = a=b #c\n"
    )
    assert settings.text("query") == "SELECT x  FROM y  WHERE z = '$z ${z}'"
    assert settings.text("password") == "a=b #c"
    assert settings.text("hosts", "localhost") == "localhost"


def test_kinds_of_values(tmp_path: Path) -> None:
    settings = read(tmp_path, "a = 10\nb = 2m\nc = YES\nd = 0\ne = x, y z\nf =\n")
    assert settings.number("a", 1) == 10
    assert (settings.seconds("a", 1), settings.seconds("b", 1), settings.seconds("none", 1.5)) == (10, 120, 1.5)
    assert (settings.yes("c", False), settings.yes("d", True), settings.yes("none", True)) == (True, False, True)
    assert settings.words("e") == ("x", "y", "z")
    assert (settings.given("f"), settings.text("f", "default"), settings.given("g")) == (True, "", False)


def test_what_is_not_asked_for_is_unknown(tmp_path: Path) -> None:
    settings = read(tmp_path, "hosts = x\n\nhost = y\n")
    settings.text("hosts")
    assert settings.unknown() == [Finding(str(tmp_path / "table.cf"), 3, "host is no parameter of mysql tables")]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("hosts\n", 1, "no '='"),
        ("a = b\nc\n", 2, "no '='"),
        (" a = b\n", 1, "white space"),
        ("a\x01 = b\n", 1, "control"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        read(tmp_path, text)
    assert (told.value.file, told.value.line) == (str(tmp_path / "table.cf"), line)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    assert "hush" not in str(read(tmp_path, "password = hush\n").wrong("password", "is wrong"))


def test_parameters_of_main_cf(tmp_path: Path) -> None:
    parameters = Parameters(
        {"found_hosts": "$where:3306", "where": "db.example", "found_query": "SELECT '%s'", "foundx": "1"}
    )
    settings = read_client_settings("mysql", "found", parameters)
    assert settings.text("hosts") == "db.example:3306"
    assert not settings.given("x")
    assert settings.unknown() == []
    with pytest.raises(ConfigError, match=r"^found_hosts = db\.example:3306: is wrong"):
        raise settings.wrong("hosts", "is wrong")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("mysql:other", "main.cf has no parameter that begins with other_"),
        ("mysql:./x.cf", "full path"),
        ("mysql:a/b", "write mysql:/path"),
        ("mysql:/nonexistent/x.cf", "cannot be read: No such file"),
        ("ldap:a-b", "write ldap:/path"),
    ],
)
def test_what_names_no_parameters(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_table(word)

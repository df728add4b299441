"""The command line: what is understood, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ekiden import __version__
from ekiden.cli.main import main


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text(
        f"queue_directory = {tmp_path}/queue\nmyhostname = mx.test\nmail_owner = nobody\n"
    )
    (tmp_path / "master.cf").write_text("127.0.0.1:2525 inet n - n - - smtpd\n")
    return tmp_path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"ekiden {__version__}\n"
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["queue"], ["queue", "list", "--state", "odd"], ["queue", "show"], ["serve", "--fly"]]
)
def test_a_wrong_command_line_is_ex_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == os.EX_USAGE
    assert "usage: ekiden" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["stop"], ["reload"], ["status"], ["flush"], ["queue", "flush"], ["tlsrpt", "send"], ["dmarc", "send"],
    ],
)  # fmt: skip
def test_without_a_server_commands_say_so(arguments: list[str], etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "queue").mkdir()
    assert main([*arguments, "-c", str(etc)]) == os.EX_UNAVAILABLE
    assert capsys.readouterr().err.startswith("ekiden: the server does not run")


@pytest.mark.parametrize(
    "arguments",
    [["delete"], ["delete", "ALL", "Q1"], ["delete", "ALL", "--sender", "a@b"], ["hold", "Q1", "--domain", "b"]],
)
def test_a_change_must_say_what_it_means(arguments: list[str], etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", *arguments, "-c", str(etc)]) == os.EX_USAGE
    assert "ekiden: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["mailq"], ["queue", "list"]])
def test_an_empty_queue_is_read_without_a_server(
    arguments: list[str], etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (etc / "queue" / "shards").mkdir(parents=True)
    assert main([*arguments, "-c", str(etc)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Mail queue is empty\n"
    assert captured.err == {
        "mailq": "mailq: warning: Mail system is down -- accessing queue directly\n",
        "queue": "ekiden: the server does not run: reading the queue from disk\n",
    }[arguments[0]]  # fmt: skip


def test_a_message_that_is_not_there(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "queue" / "shards").mkdir(parents=True)
    assert main(["queue", "show", "Q1", "-c", str(etc)]) == os.EX_DATAERR
    assert "Q1: no such message" in capsys.readouterr().err


def test_check_is_silent_about_a_good_configuration(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(etc)]) == 0
    assert capsys.readouterr().out == ""


def test_check_names_place_and_cause(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (etc / "main.cf").open("a") as file:
        file.write("stop_timeout = soon\n")
    assert main(["check", "-c", str(etc)]) == os.EX_CONFIG
    assert f"{etc}/main.cf:4: error: stop_timeout = soon: must be" in capsys.readouterr().out
    assert main(["check", "--json", "-c", str(etc)]) == os.EX_CONFIG
    assert json.loads(capsys.readouterr().out.splitlines()[0])["line"] == 4


def test_check_finds_a_wrong_pipe_service(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (etc / "master.cf").open("a") as file:
        file.write("lists unix - n n - - pipe\n  flags=R argv=/usr/bin/lists ${sender}\n")
    assert main(["check", "-c", str(etc)]) == os.EX_CONFIG
    text = "service lists: pipe: user= is missing: write user=name or user=name:group"
    assert capsys.readouterr().out == f"{etc}/master.cf:2: error: {text}\n"


def test_a_warning_is_no_failure(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (etc / "main.cf").open("a") as file:
        file.write("stop_timeoutt = 3s\n")
    assert main(["check", "-c", str(etc)]) == 0
    assert "did you mean stop_timeout?" in capsys.readouterr().out


def test_classic_names(etc: Path, tmp_path: Path) -> None:
    (etc / "queue" / "shards").mkdir(parents=True)
    program = tmp_path / "mailq"
    program.write_text("import sys\nfrom ekiden.cli.main import main\nsys.exit(main())\n")
    found = subprocess.run(
        [sys.executable, str(program), "-c", str(etc)], capture_output=True, text=True, timeout=30, check=False
    )
    assert found.stdout == "Mail queue is empty\n"


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["queue", "delete"]])
def test_commands_do_not_import_what_makes_them_slow(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom ekiden.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print('SLOW', *({'asyncio', 'uvloop', 'sqlite3', 'ssl'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout.splitlines()[-1].strip() == "SLOW"


def test_asking_a_server_needs_neither_loop_nor_database(etc: Path) -> None:
    script = (
        "import sys\nfrom ekiden.cli.main import main\n"
        f"main(['status', '-c', {str(etc)!r}])\nmain(['postqueue', '-f', '-c', {str(etc)!r}])\n"
        "print('SLOW', *({'asyncio', 'uvloop', 'sqlite3', 'ssl'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout.splitlines()[-1].strip() == "SLOW"


@pytest.mark.parametrize(
    ("name", "slow"),
    [
        ("mailq", {"asyncio", "ssl", "uvloop", "argparse", "email", "tempfile"}),
        ("postqueue -f", {"asyncio", "ssl", "uvloop", "argparse", "email", "sqlite3"}),
        ("postcat -q X", {"asyncio", "ssl", "uvloop", "argparse", "email"}),
        ("postfix status", {"asyncio", "ssl", "uvloop", "email", "sqlite3"}),
        ("sendmail -i bob@two.example", {"asyncio", "ssl", "uvloop", "argparse", "email", "sqlite3"}),
        ("sendmail -bs", {"asyncio", "ssl", "uvloop", "argparse", "email", "sqlite3"}),
    ],
)
def test_classic_commands_start_with_what_they_need(name: str, slow: set[str], etc: Path) -> None:
    """Each starts in well under 150 ms because of what it does not import."""
    (etc / "queue" / "shards").mkdir(parents=True)
    (etc / "queue" / "maildrop").mkdir()
    words = name.split()
    script = (
        "import sys\nfrom ekiden.cli.classic import run\n"
        f"run({words[0]!r}, {words[1:]!r})\nprint('SLOW', *({slow!r} & set(sys.modules)))"
    )
    environment = {**os.environ, "EKIDEN_CONFIG": str(etc)}
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=True,
        input="",
    )
    assert found.stdout.splitlines()[-1].strip() == "SLOW", found.stdout

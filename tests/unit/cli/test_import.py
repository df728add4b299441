"""``ekiden import``: the configurations below tests/samples become ours, and no setting is lost without a word.

A sample is a directory: source/ is the other server's tree, expected.cf the main.cf and master.cf that come of it
(``@HERE@`` is their directory), left.txt the settings that the report says were not carried.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.cli.main import main
from ekiden.cli.move_in import exim, qmail, sendmail
from ekiden.cli.move_in.m4 import calls
from ekiden.cli.move_in.moved import Moved, Verdict
from ekiden.config.check import check
from ekiden.config.load import load
from ekiden.config.problem import Level
from support.requirements import ROOT, require_program

SAMPLES = ROOT / "tests" / "samples"
PATHS = {"sendmail": ".", "exim": "exim4", "qmail": "."}
NAMES = sorted(path.name for path in SAMPLES.iterdir())


def imported(name: str, target: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """Run the command on a sample; the findings of its report."""
    server = name.partition("-")[0]
    source = SAMPLES / name / "source" / PATHS[server]
    code = main(["import", server, str(source), "-c", str(target), "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == os.EX_OK
    return lines


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_becomes_what_is_expected(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = imported(name, tmp_path, capsys)
    made = "".join((tmp_path / file).read_text() for file in ("main.cf", "master.cf"))
    lines = [line for line in made.replace(str(tmp_path), "@HERE@").splitlines() if line and not line.startswith("#")]
    assert lines == (SAMPLES / name / "expected.cf").read_text().splitlines()
    left = [finding["setting"] for finding in findings if finding["outcome"] == Verdict.LEFT.value]
    assert left == (SAMPLES / name / "left.txt").read_text().splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_made_can_be_served_and_has_no_unknown_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(name, tmp_path, capsys)
    problems = check(load(tmp_path))
    assert [each for each in problems if each.level is Level.ERROR or "unknown" in each.text] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("sendmail")])
def test_each_macro_has_its_line_in_the_report(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = imported(name, tmp_path, capsys)
    file = SAMPLES / name / "source" / "sendmail.mc"
    told = {finding["place"] for finding in findings}
    assert {f"{file}:{call.line}" for call in calls(file.read_text())} <= told


def test_each_setting_of_exim_has_its_line_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = imported("exim-smarthost", tmp_path, capsys)
    file = SAMPLES / "exim-smarthost" / "source" / "exim4" / "update-exim4.conf.conf"
    told = {finding["place"] for finding in findings}
    assert {f"{file}:{number}" for number in range(1, len(file.read_text().splitlines()) + 1)} <= told


def test_each_control_file_of_qmail_has_its_line_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = imported("qmail-host", tmp_path, capsys)
    told = {finding["place"].partition(":")[0] for finding in findings}
    source = SAMPLES / "qmail-host" / "source"
    assert {str(path) for path in source.rglob("*") if path.is_file()} <= told


def test_postfix_own_configuration_is_carried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_program("postfix")
    source, target = tmp_path / "postfix", tmp_path / "ours"
    source.mkdir()
    shutil.copy("/etc/postfix/master.cf", source)
    (source / "main.cf").write_text(
        "myhostname = mx.example.com\nvirtual_alias_maps = hash:/etc/postfix/virtual\n"
        "milter_protocol = x\nmade_up_name = y\nberkeley_db_read_buffer_size = 1\n"
    )
    (source / "virtual").write_text("a@example.com b@example.com\n")
    (source / "virtual.db").write_bytes(b"\0")
    code = main(["import", "postfix", str(source), "-c", str(target), "--json"])
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == os.EX_OK
    assert (target / "virtual").read_text() == "a@example.com b@example.com\n"
    assert not (target / "virtual.db").exists()
    assert f"hash:{target}/virtual" in (target / "main.cf").read_text()
    outcome = {finding["setting"].partition(" ")[0]: finding["outcome"] for finding in findings}
    assert outcome["myhostname"] == outcome["virtual_alias_maps"] == outcome["smtp"] == "carried"
    assert outcome["made_up_name"] == outcome["milter_protocol"] == "not carried"


def test_a_configuration_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "main.cf").write_text("myhostname = precious.example\n")
    source = str(SAMPLES / "sendmail-textbook" / "source")
    assert main(["import", "sendmail", source, "-c", str(tmp_path)]) == os.EX_CANTCREAT
    assert "has a main.cf already" in capsys.readouterr().err
    assert (tmp_path / "main.cf").read_text() == "myhostname = precious.example\n"
    assert main(["import", "sendmail", source, "-c", str(tmp_path), "--force"]) == os.EX_OK


@pytest.mark.parametrize("move", [sendmail.move, exim.move, qmail.move])
def test_a_path_without_a_configuration_is_told(
    move: Callable[[Path, Moved], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = move.__module__.rpartition(".")[2]
    assert main(["import", server, str(tmp_path), "-c", str(tmp_path / "x")]) == os.EX_NOINPUT
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_an_open_relay_is_not_carried(tmp_path: Path) -> None:
    (tmp_path / "sendmail.mc").write_text("FEATURE(`promiscuous_relay')dnl\n")
    moved = Moved(tmp_path)
    sendmail.move(tmp_path, moved)
    assert [finding.verdict for finding in moved.findings] == [Verdict.LEFT]
    assert not moved.has("mynetworks")
    assert not moved.has("relay_domains")

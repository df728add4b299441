"""What ``ekiden check`` says of certificates and keys: one clear line each, with the place of the parameter."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ekiden.cli.main import main
from ekiden.config.load import build
from ekiden.runtime.keys_check import check_keys
from ekiden.tls.key_files import KeyFiles
from support.certificates import Authority

MASTER = "smtp inet n - n - - smtpd\nsubmissions inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"


def said(directory: Path, main_cf: str, master_cf: str = MASTER) -> list[str]:
    text = main_cf.replace("DIR", str(directory))
    found = check_keys(build(directory, text, master_cf.replace("DIR", str(directory)), hostname="mx.test"))
    return [str(problem).replace(f"{directory}/", "") for problem in found]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    Authority().issue("mx.test").write(tmp_path, "server")
    (tmp_path / "broken.key").write_text("broken")
    return tmp_path


GOOD = "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = DIR/server.pem\nsmtpd_tls_key_file = DIR/server.key\n"


def test_good_ones_are_good(directory: Path) -> None:
    assert said(directory, GOOD) == []


def test_a_key_that_is_not_there_is_an_error_of_its_line(directory: Path) -> None:
    text = GOOD.replace("server.key", "nothing.key")
    assert said(directory, text, MASTER.splitlines()[0]) == [
        "main.cf:3: error: smtpd_tls_key_file = nothing.key: No such file or directory; TLS is not available (smtp)"
    ]


def test_a_service_with_files_of_its_own_is_told_of_in_master_cf(directory: Path) -> None:
    master = MASTER.replace("wrappermode=yes", "wrappermode=yes -o smtpd_tls_key_file=DIR/broken.key")
    (line,) = said(directory, GOOD, master)
    assert line.startswith("master.cf:2: error: smtpd_tls_key_file = broken.key: no private key in it; TLS is not")


def test_tls_without_any_certificate_is_a_warning(directory: Path) -> None:
    (line,) = said(directory, "smtpd_tls_security_level = may\n", MASTER.splitlines()[0])
    assert "warning: smtpd_tls_cert_file: no certificate" in line


def test_wishes_that_have_no_effect_are_told(directory: Path) -> None:
    text = f"{GOOD}smtpd_tls_req_ccert = yes\nrelay_clientcerts = texthash:DIR/known\n"
    lines = said(directory, text, MASTER.splitlines()[0])
    assert [line.partition(": ")[2].partition(" ")[0] for line in lines] == ["warning:", "warning:"]


def test_the_command_fails_with_such_an_error(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "main.cf").write_text(
        GOOD.replace("server.key", "broken.key").replace("DIR", str(directory)) + f"queue_directory = {directory}/q\n"
    )
    (directory / "master.cf").write_text("127.0.0.1:0 inet n - n - - smtpd\n")
    assert main(["check", "-c", str(directory)]) == os.EX_CONFIG
    assert "no private key in it; TLS is not available" in capsys.readouterr().out


def test_who_may_not_read_the_key_is_told_to_check_as_root(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    found = KeyFiles({f"{directory}/server.pem": b""}, {}, {f"{directory}/server.key": os.strerror(errno.EACCES)})
    monkeypatch.setattr("ekiden.runtime.keys_check.key_files_of", lambda _: found)
    assert said(directory, GOOD, MASTER.splitlines()[0]) == [
        "main.cf:3: warning: smtpd_tls_key_file = server.key: Permission denied: you may not read it; where root "
        "starts the server, check as root"
    ]

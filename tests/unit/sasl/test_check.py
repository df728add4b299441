"""What ``ekiden check`` tells of accounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.cli.main import main


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "master.cf").write_text("127.0.0.1:2525 inet n - n - - smtpd\n")
    return tmp_path


def told(etc: Path, capsys: pytest.CaptureFixture[str], *lines: str) -> list[str]:
    head = [
        f"queue_directory = {etc}/queue",
        "myhostname = mx.test",
        "mail_owner = nobody",
        "smtpd_sasl_auth_enable = yes",
        "smtpd_tls_auth_only = no",
    ]
    (etc / "main.cf").write_text("\n".join((*head, *lines)) + "\n")
    main(["check", "-c", str(etc)])
    return [
        line for line in capsys.readouterr().out.splitlines() if "sasl" in line or "accounts" in line or "users" in line
    ]


def test_places_that_are_as_they_should_be(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "accounts").touch(0o600)
    assert told(etc, capsys) == []
    assert told(etc, capsys, "smtpd_sasl_type = dovecot", "smtpd_sasl_path = private/auth") == []


def test_where_nobody_can_log_in_it_is_said(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cyrus = f"cyrus_sasl_config_path = {etc}"
    assert told(etc, capsys, cyrus) == [
        f"{etc}/main.cf:4: info: there are no accounts yet ({etc}/accounts, and no smtpd.conf of Cyrus SASL): make one "
        "with: ekiden user add NAME"
    ]
    (found,) = told(etc, capsys, "smtpd_sasl_type = ekiden")
    assert f"({etc}/accounts): make one" in found


def test_places_that_are_not(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "accounts").write_text('{"name":"anna"}\n')
    (etc / "accounts").chmod(0o644)
    assert told(etc, capsys) == [
        f"{etc}/main.cf:4: warning: {etc}/accounts: others may read it; correct it with: chmod 600 {etc}/accounts"
    ]
    assert told(etc, capsys, "sasl_accounts = passwd-file:/nonexistent/users") == [
        f"{etc}/main.cf:6: warning: /nonexistent/users: No such file or directory"
    ]
    (found,) = told(etc, capsys, "sasl_accounts = passwd:/nonexistent/users")
    assert found.startswith(
        f"{etc}/main.cf:6: error: sasl_accounts: 'passwd:/nonexistent/users' is no place for accounts"
    )
    (found,) = told(etc, capsys, "smtpd_sasl_type = dovecot", "smtpd_sasl_path = inet:x")
    assert found.startswith(f"{etc}/main.cf:7: error: smtpd_sasl_path = inet:x: ")


def test_a_file_of_cyrus_that_cannot_be_used_is_told_with_its_line(
    etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (etc / "smtpd.conf").write_text("pwcheck_method: auxprop\n")
    assert told(etc, capsys, f"cyrus_sasl_config_path = {etc}") == [
        f"{etc}/smtpd.conf:1: error: pwcheck_method: auxprop (sasldb2) is not supported; use saslauthd, or accounts of "
        "Ekiden (sasl_accounts)"
    ]

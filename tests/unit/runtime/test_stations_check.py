"""What would keep the server from starting is found beforehand, with the line to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.load import build
from ekiden.runtime.stations_check import check_stations

_MASTER = "25 inet n - n - - smtpd\n"


def found(main_cf: str, master_cf: str = _MASTER) -> list[str]:
    configuration = build(Path("/etc/x"), f"myhostname = me.example\nalias_maps =\n{main_cf}", master_cf)
    assert not configuration.errors, configuration.errors
    return [str(problem) for problem in check_stations(configuration)]


def test_stations_that_can_be_made() -> None:
    assert found("always_bcc = a@x.example\n", _MASTER + "p unix - n n - - pipe user=nobody argv=/bin/true\n") == []


def test_every_wrong_pipe_service_is_told_with_its_line() -> None:
    lines = (
        "one unix - n n - - pipe\n  flags=R argv=/bin/true\n"
        "two unix - n n - - pipe user=nobody argv=/bin/x ${nobody}\n"
        "good unix - n n - - pipe user=nobody argv=/bin/x ${sender}\n"
    )
    assert found("", _MASTER + lines) == [
        "/etc/x/master.cf:2: error: service one: pipe: user= is missing: write user=name or user=name:group",
        "/etc/x/master.cf:4: error: service two: pipe: there is no $nobody",
    ]


@pytest.mark.parametrize(
    ("main_cf", "expected"),
    [
        (
            "cleanup_service_name = nosuch\n",
            "/etc/x/main.cf:3: error: cleanup_service_name = nosuch: master.cf has no such service that runs cleanup",
        ),
        ("always_bcc = a b\n", "/etc/x/main.cf:3: error: always_bcc = a b: must be one address"),
        (
            "local_header_rewrite_clients = permit_all\n",
            "/etc/x/main.cf:3: error: local_header_rewrite_clients: 'permit_all' is neither a permit_ word nor a table",
        ),
    ],
)
def test_parameters_that_no_station_can_be_made_with(main_cf: str, expected: str) -> None:
    assert expected in found(main_cf)


def test_an_option_of_one_service() -> None:
    master_cf = _MASTER + "26 inet n - n - - smtpd -o cleanup_service_name=smtp\n"
    assert found("", master_cf) == [
        "/etc/x/master.cf:2: error: cleanup_service_name = smtp: master.cf has no such service that runs cleanup"
    ]


@pytest.mark.parametrize(
    ("main_cf", "expected"),
    [
        (
            "smtp_tls_CAfile = /nowhere.pem\n",
            "/etc/x/main.cf:3: warning: smtp_tls_CAfile = /nowhere.pem: No such file or directory",
        ),
        (
            "smtp_tls_security_level = verify\nsmtp_tls_CAfile = /nowhere.pem\n",
            "/etc/x/main.cf:4: error: smtp_tls_CAfile = /nowhere.pem: No such file or directory",
        ),
        (
            "smtp_tls_chain_files = /nowhere.pem\n",
            "/etc/x/main.cf:3: warning: smtp_tls_chain_files = /nowhere.pem: /nowhere.pem: No such file or directory",
        ),
        (
            "smtp_tls_security_level = fingerprint\n",
            "/etc/x/main.cf:3: error: smtp_tls_security_level = fingerprint needs smtp_tls_fingerprint_cert_match",
        ),
        (
            "smtp_tls_verify_cert_match =\n",
            "/etc/x/main.cf:3: error: smtp_tls_verify_cert_match: there is no name to match",
        ),
        (
            "smtp_tls_policy_maps = inline:{ { a = encrypt ciphers=best } }\n",
            "/etc/x/main.cf:3: error: smtp_tls_policy_maps: inline:{ { a = encrypt ciphers=best } }: a: "
            "'best' is no grade of ciphers: the grades are high and medium",
        ),
    ],
)
def test_tls_that_deliveries_cannot_have(main_cf: str, expected: str) -> None:
    assert any(text.startswith(expected) for text in found(main_cf)), found(main_cf)


@pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o600, False)])
def test_a_file_of_passwords_that_everybody_can_read(tmp_path: Path, mode: int, told: bool) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("mx.example user:secret\n")
    passwords.chmod(mode)
    lines = found(f"smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = texthash:{passwords}\n")
    text = f"/etc/x/main.cf:4: warning: smtp_sasl_password_maps: {passwords} has passwords, and everybody can read it"
    assert (text in lines) is told


def test_a_login_without_accounts() -> None:
    assert found("smtp_sasl_auth_enable = yes\n") == [
        "/etc/x/main.cf:3: warning: smtp_sasl_auth_enable = yes: smtp_sasl_password_maps is empty, "
        "so there is no account to log in with"
    ]

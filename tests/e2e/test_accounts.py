"""Accounts of a running server: made and changed beside it, in each place, and guessed at across its workers."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import running_slapd
from support.dovecot_auth import running_dovecot_auth
from support.requirements import require_root
from support.running import RunningServer, open_directory
from support.saslauthd import running_saslauthd

_CONFIGURATION = {
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_tls_auth_only": "no",
    "sasl_failure_delay": "0s",
    "smtpd_auth_failure_sleep_time": "0s",
}
_PLACE = "\n".join(
    (
        "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n",
        "dn: uid=anna,dc=example\nobjectClass: inetOrgPerson\ncn: x\nsn: x\nuid: anna\nuserPassword: secret\n",
    )
)


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with open_directory() as directory:
        server = RunningServer(directory, main_cf=_CONFIGURATION)
        yield server
        server.close()


def user(server: RunningServer, *words: str, given: str = "") -> str:
    command = [sys.executable, "-m", "ekiden.cli.main", "user", *words, "-c", str(server.etc)]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def login(server: RunningServer, name: str, password: str, mechanism: str = "PLAIN", source: str = "127.0.0.1") -> int:
    """The code of the last reply."""
    client = smtplib.SMTP("127.0.0.1", server.port, timeout=60, source_address=(source, 0))
    try:
        client.ehlo("client.example")
        client.user, client.password = name, password
        try:
            code, _ = client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code
        except (smtplib.SMTPException, OSError):
            return -1
        return code
    finally:
        client.close()


def test_what_ekiden_user_does_counts_while_the_server_runs(server: RunningServer) -> None:
    server.start()
    assert login(server, "anna@mx.test", "password-1") == 535
    user(server, "add", "anna@mx.test", given="password-1\n")
    for mechanism in ("PLAIN", "LOGIN"):
        assert login(server, "Anna@MX.test", "password-1", mechanism) == 235
        assert login(server, "anna@mx.test", "password-2", mechanism) == 535
    user(server, "passwd", "anna@mx.test", given="password-2\n")
    assert login(server, "anna@mx.test", "password-1") == 535
    assert login(server, "anna@mx.test", "password-2") == 235
    phone = user(server, "app-password", "add", "anna@mx.test", "phone")
    assert login(server, "anna@mx.test", phone) == 235
    assert "last used 20" in user(server, "app-password", "list", "anna@mx.test")
    user(server, "totp", "on", "anna@mx.test")
    assert login(server, "anna@mx.test", "password-2") == 535
    assert login(server, "anna@mx.test", phone) == 235
    user(server, "disable", "anna@mx.test")
    assert login(server, "anna@mx.test", phone) == 535
    user(server, "enable", "anna@mx.test")
    assert login(server, "anna@mx.test", phone) == 235
    user(server, "app-password", "revoke", "anna@mx.test", "phone")
    assert login(server, "anna@mx.test", phone) == 535
    user(server, "delete", "anna@mx.test")
    (server.etc / "accounts").write_text("broken\n")
    assert login(server, "anna@mx.test", "x") == 454
    for secret in ("password-1", "password-2", phone):
        assert secret not in server.log + server.output


def test_a_client_that_guesses_is_refused_by_all_workers(server: RunningServer) -> None:
    server.main_cf |= {
        "smtpd_auth_failure_limit": "6", "smtpd_auth_failure_time": "86400s", "smtpd_client_event_limit_exceptions": "",
        "smtpd_auth_account_failure_limit": "20",
    }  # fmt: skip
    server.write_configuration()
    server.start()
    user(server, "add", "anna", given="password-1\n")
    assert login(server, "anna", "password-1", source="127.0.0.2") == 235
    assert [login(server, "anna", f"guess-{number}") for number in range(6)] == [535] * 6
    with socket.create_connection(("127.0.0.1", server.port), 60) as sock:
        lines = sock.makefile("rb")
        lines.readline()
        sock.sendall(b"EHLO client.example\r\n")
        while lines.readline()[3:4] == b"-":
            pass
        sock.sendall(b"AUTH PLAIN AGFubmEAcGFzc3dvcmQtMQ==\r\n")
        assert lines.readline().startswith(b"421 4.7.0 ")
        assert lines.readline() == b""
    for number in range(3, 8):  # other clients, who guess at the same account
        for guess in range(4):
            login(server, "anna", f"guess-{guess}", source=f"127.0.0.{number}")
    assert login(server, "anna", "password-1", source="127.0.0.9") == 454
    assert login(server, "anna", "guess", source="127.0.0.10") == 454
    assert login(server, "anna", "password-1", source="127.0.0.2") == 235  # who was in before stays in


def test_dovecot_checks_logins(server: RunningServer) -> None:
    with running_dovecot_auth("anna:{PLAIN}secret::::::\n") as dovecot:
        server.main_cf |= {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": str(dovecot.socket)}
        server.write_configuration()
        server.start()
        for mechanism in ("PLAIN", "LOGIN"):
            assert login(server, "anna", "secret", mechanism) == 235
            assert login(server, "anna", "wrong", mechanism) == 535
        dovecot.stop()
        server.reload()
        assert login(server, "anna", "secret") != 235
        dovecot.start()
        assert login(server, "anna", "secret") == 235


def test_saslauthd_checks_logins_for_the_file_of_cyrus_sasl(server: RunningServer, tmp_path: Path) -> None:
    require_root()
    with tempfile.TemporaryDirectory() as folder:
        # The mail owner reaches it as a member of its group would.
        Path(folder).chmod(0o755)
        with running_saslauthd(Path(folder), "-a", "shadow") as socket_path:
            (server.etc / "smtpd.conf").write_text(
                f"pwcheck_method: saslauthd\nmech_list: PLAIN\nsaslauthd_path: {socket_path}\n"
            )
            server.main_cf |= {"cyrus_sasl_config_path": str(server.etc)}
            server.write_configuration()
            server.start()
            assert login(server, "root", "certainly not the password") == 535
            assert login(server, "root", "x", "LOGIN") == 504  # it is not in mech_list
        assert login(server, "root", "x") == 454


def test_places_are_asked_in_order(server: RunningServer) -> None:
    with running_slapd(_PLACE) as slapd:
        (server.etc / "ldap.cf").write_text(
            f"server_host = ldap://127.0.0.1:{slapd.port}\nuser_dn = uid=%u,dc=example\n"
        )
        (server.etc / "users").write_text("bert:$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.\n")
        server.main_cf["sasl_accounts"] = (
            "file:$config_directory/accounts passwd-file:$config_directory/users ldap:$config_directory/ldap.cf"
        )
        server.write_configuration()
        server.start()
        user(server, "add", "carol", given="password-1\n")
        assert login(server, "anna", "secret") == 235
        assert login(server, "carol", "password-1") == login(server, "bert", "secret") == 235
        for name in ("anna", "bert", "carol", "nobody"):
            assert login(server, name, "wrong") == 535
        slapd.stop()
        assert login(server, "carol", "password-1") == login(server, "bert", "secret") == 235
        assert login(server, "carol", "wrong") == 535
        assert login(server, "anna", "secret") == 454

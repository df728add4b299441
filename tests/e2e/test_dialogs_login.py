"""Every dialog of tests/dialogs/login against the running server, over a socket: RFC 4954 as conversations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.dialogs import Dialog, load_dialogs, play
from support.running import RunningServer, free_port, open_directory
from support.smtp_socket import SmtpSocket

DIALOGS = load_dialogs("login")
Settings = tuple[tuple[str, str], ...]

# docs/dialogs.md: as for the others, and bob@here.example may log in with secret-1, in clear text.
WORLD = {
    "myhostname": "mail.here.example",
    "mydestination": "",
    "mynetworks": "192.0.2.1/32",
    "relay_domains": "here.example",
    "relay_transport": "discard:",
    "default_transport": "discard:",
    "local_transport": "discard:",
    "smtpd_peername_lookup": "no",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_sasl_type": "ekiden",
    "smtpd_tls_auth_only": "no",
    "smtpd_auth_failure_sleep_time": "0s",
    "sasl_failure_delay": "0s",
    "sasl_scram_hashes": "sha256",
}


def settings_of(dialog: Dialog) -> Settings:
    return tuple(sorted(dialog.settings.items()))


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[Settings, int]]:
    wanted = {settings_of(dialog) for dialog in DIALOGS} - {()}
    found = {settings: free_port() for settings in sorted(wanted)}
    lines = [
        f"127.0.0.1:{port} inet n - n - - smtpd " + " ".join(f"-o {{ {name} = {value} }}" for name, value in settings)
        for settings, port in found.items()
    ]
    with open_directory() as directory:
        server = RunningServer(directory, main_cf=WORLD, master_cf=lines)
        try:
            command = [
                sys.executable,
                "-m",
                "ekiden.cli.main",
                "user",
                "add",
                "bob@here.example",
                "-c",
                str(server.etc),
            ]
            subprocess.run(command, input=b"secret-1\n", capture_output=True, check=True, timeout=60)
            server.start()
            yield {(): server.port, **found}
            assert "Traceback" not in server.output + server.log
            assert " error: " not in server.log
        finally:
            server.close()


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)
def test_the_server_holds_the_dialog(dialog: Dialog, ports: dict[Settings, int]) -> None:
    with SmtpSocket(ports[settings_of(dialog)]) as client:
        said = play(dialog, client.send, client.line)
        if said[-1] != "<closed>":
            assert client.say("NOOP").startswith(("250 2.0.0", "421 4.7.0")), "\n".join(said)

"""Every dialog of tests/dialogs/smtp against the running server, over a socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.certificates import self_signed
from support.dialogs import Dialog, load_dialogs, play
from support.running import free_port, running_server
from support.smtp_socket import SmtpSocket

DIALOGS = load_dialogs("smtp")
Settings = tuple[tuple[str, str], ...]

# docs/dialogs.md: all of here.example is taken, nothing is relayed for the client.
WORLD = {
    "myhostname": "mail.here.example",
    "mydestination": "",
    "mynetworks": "192.0.2.1/32",
    "relay_domains": "here.example",
    "relay_transport": "discard:",
    "local_transport": "discard:",
    # Odd local parts are names here; that they are no way to elsewhere is tested with the server's own default.
    "allow_untrusted_routing": "yes",
    "smtpd_peername_lookup": "no",
}


def settings_of(dialog: Dialog) -> Settings:
    return tuple(sorted(dialog.settings.items()))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Settings, int]]:
    """The port for each set of settings that dialogs want: lines of master.cf, all of one server."""
    wanted = {settings_of(dialog) for dialog in DIALOGS} - {()}
    found = {settings: free_port() for settings in sorted(wanted)}
    lines = [
        f"127.0.0.1:{port} inet n - n - - smtpd " + " ".join(f"-o {name}={value}" for name, value in settings)
        for settings, port in found.items()
    ]
    certificate, key = self_signed(WORLD["myhostname"]).write(tmp_path_factory.mktemp("tls"), "server")
    tls = {"smtpd_tls_cert_file": str(certificate), "smtpd_tls_key_file": str(key)}
    with running_server(main_cf={**WORLD, **tls}, master_cf=lines) as server:
        yield {(): server.port, **found}
        assert "Traceback" not in server.output + server.log
        assert " error: " not in server.log


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)
def test_the_server_holds_the_dialog(dialog: Dialog, ports: dict[Settings, int]) -> None:
    with SmtpSocket(ports[settings_of(dialog)]) as client:
        said = play(dialog, client.send, client.line)
        # The server must have nothing more to say: what answers next answers this.
        if said[-1] != "<closed>" and not dialog.steps[-1].expect[-1][1].startswith(
            ("220 2.0.0 Ready", "221", "354", "421")
        ):
            assert client.say("NOOP").startswith(("250 2.0.0", "421 4.7.0")), "\n".join(said)

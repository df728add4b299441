"""Mail in both directions between us and a real Postfix, a real Exim and swaks, over every extension that both know.

Each exchange goes over a wire that is listened to: an extension counts when the sender used it on the wire, the
receiver took it, and the message came. The test prints the matrix (pytest -s, or with a failure).
"""

from __future__ import annotations

import contextlib
import re
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support.certificates import Authority
from support.dovecot_auth import running_dovecot_auth
from support.peers import Peer, running_exim, running_postfix
from support.requirements import require_program
from support.running import RunningServer, free_port, open_directory, running_server, wait_for
from support.wire_tap import Conversation, WireTap, wire_tap

EXTENSIONS = ("STARTTLS", "AUTH", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE", "PIPELINING")
COLUMNS = ("Postfix to us", "us to Postfix", "Exim to us", "us to Exim", "swaks to us")
# What the other side does not know to do.
UNKNOWN = {
    ("Postfix to us", "CHUNKING"): "Postfix takes BDAT and never sends it",
    ("Exim to us", "8BITMIME"): "Exim sends 8-bit content as it is, and never says BODY=8BITMIME",
    **{
        ("swaks to us", extension): "swaks has no option for it"
        for extension in ("CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE")
    },
}
PASSWORD = "secret-word"
NAME = "ann@mx.test"
SENDER, RECIPIENT = "a@b.test", "c@here.test"
UTF8_SENDER, UTF8_RECIPIENT = "jürgen@b.test", "pelé@here.test"
BODY = "Grüße, ein Stück Text\r\n.mit Punkt\r\n"
CONTENT = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: plain\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{BODY}"  # noqa: E501
UTF8_CONTENT = (
    CONTENT.replace(SENDER, UTF8_SENDER).replace(RECIPIENT, UTF8_RECIPIENT).replace("plain\r\n", "öffentlich\r\n", 1)
)

# What a sender uses on the wire when it uses the extension.
EVIDENCE: dict[str, Callable[[Conversation], bool]] = {
    "STARTTLS": lambda wire: re.search(rb"\r\nSTARTTLS\r\n\x16\x03", wire.client) is not None,
    "AUTH": lambda wire: b"\r\nAUTH " in wire.client and b"\r\n235 " in wire.server,
    "CHUNKING": lambda wire: re.search(rb"\r\nBDAT \d+ LAST\r\n", wire.client) is not None,
    "8BITMIME": lambda wire: (
        re.search(rb"\r\nMAIL FROM:[^\r\n]* BODY=8BITMIME", wire.client) is not None
        and BODY.split("\r\n")[0].encode() in wire.client
    ),
    "SMTPUTF8": lambda wire: re.search(rb"\r\nMAIL FROM:<j\xc3\xbcrgen@[^\r\n]* SMTPUTF8", wire.client) is not None,
    "DSN": lambda wire: (
        re.search(rb"RCPT TO:[^\r\n]* NOTIFY=(?:SUCCESS|FAILURE)", wire.client) is not None
        and re.search(rb"MAIL FROM:[^\r\n]* RET=HDRS[^\r\n]* ENVID=QQ123|ENVID=QQ123[^\r\n]* RET=HDRS", wire.client)
        is not None
    ),
    "SIZE": lambda wire: re.search(rb"\r\nMAIL FROM:[^\r\n]* SIZE=\d+", wire.client) is not None,
    "PIPELINING": lambda wire: not wire.answered_between(b"\r\nMAIL FROM:", b"\r\nRCPT TO:"),
}
OF_PLAIN = ("CHUNKING", "8BITMIME", "DSN", "SIZE", "PIPELINING")
RESULTS: dict[tuple[str, str], bool] = {}


def inject(port: int, *, utf8: bool = False) -> None:
    """One message, with everything that extensions may say of it."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=30) as client:
        client.command_encoding = "utf-8"
        client.ehlo()
        sender, recipient = (UTF8_SENDER, UTF8_RECIPIENT) if utf8 else (SENDER, RECIPIENT)
        content = (UTF8_CONTENT if utf8 else CONTENT).encode()
        options = " SMTPUTF8" if utf8 else " RET=HDRS ENVID=QQ123"
        notify = "" if utf8 else f" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{RECIPIENT}"
        for command, arguments in (
            ("MAIL", f"FROM:<{sender}> BODY=8BITMIME SIZE={len(content)}{options}"),
            ("RCPT", f"TO:<{recipient}>{notify}"),
        ):
            code, text = client.docmd(command, arguments)
            assert code == 250, text
        code, text = client.data(content)
        assert code == 250, text


class Us:
    """Our server, and the ways into it: plain, with STARTTLS, with AUTH in clear text."""

    def __init__(self, server: RunningServer, ports: Mapping[str, int]) -> None:
        self.server, self.ports = server, ports


@pytest.fixture(scope="module")
def us() -> Iterator[Us]:
    ports = {kind: free_port() for kind in ("plain", "tls", "auth")}
    with open_directory() as directory:
        Authority().issue("mx.test").write(directory, "server")
        with running_server(
            main_cf={
                "mydestination": "",
                "default_transport": "discard:",
                "mynetworks": "127.0.0.0/8",
                "smtpd_peername_lookup": "no",
                "smtpd_tls_cert_file": str(directory / "server.pem"),
                "smtpd_tls_key_file": str(directory / "server.key"),
            },
            master_cf=[
                f"127.0.0.1:{ports['plain']} inet n - n - - smtpd",
                f"127.0.0.1:{ports['tls']} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt",
                f"127.0.0.1:{ports['auth']} inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes"
                " -o smtpd_tls_auth_only=no -o smtpd_sasl_security_options=noanonymous"
                " -o smtpd_relay_restrictions=permit_sasl_authenticated,reject",
            ],
        ) as server:
            made = subprocess.run(
                ["env", f"EKIDEN_CONFIG={server.etc}", *server.program, "user", "add", NAME],
                input=f"{PASSWORD}\n", text=True, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr + made.stdout
            yield Us(server, ports)
            assert "Traceback" not in server.output + server.log


def judge(column: str, tap: WireTap, extensions: tuple[str, ...]) -> None:
    """The exchange is over: what was used on the wire, of what both know."""
    (wire,) = tap.conversations
    for extension in extensions:
        if (column, extension) not in UNKNOWN:
            RESULTS[column, extension] = EVIDENCE[extension](wire)


def all_used(column: str, extensions: tuple[str, ...]) -> None:
    missing = [name for name in extensions if (column, name) not in UNKNOWN and not RESULTS.get((column, name))]
    assert not missing, f"{column}: {missing}"


# From them to us.


@contextlib.contextmanager
def sending_postfix(port: int, kind: str) -> Iterator[Peer]:
    settings = {
        "plain": {},
        "tls": {"smtp_tls_security_level": "encrypt"},
        "auth": {
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": f"static:{NAME}:{PASSWORD}",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_sasl_mechanism_filter": "plain, login",
        },
    }[kind]
    with running_postfix(
        settings, next_hop=f"127.0.0.1:{port}", master_cf=["tlsmgr unix - - n 1000? 1 tlsmgr"]
    ) as peer:
        yield peer


@contextlib.contextmanager
def sending_exim(port: int, kind: str) -> Iterator[Peer]:
    transport = {"plain": [], "tls": ["hosts_require_tls = *"], "auth": ["hosts_require_auth = *"]}[kind]
    login = ["plain:", "  driver = plaintext", "  public_name = PLAIN", f"  client_send = ^{NAME}^{PASSWORD}"]
    with running_exim(
        next_hop=f"127.0.0.1:{port}", transport=transport, authenticators=login if kind == "auth" else ()
    ) as peer:
        yield peer


@pytest.mark.parametrize("kind", ["plain", "utf8", "tls", "auth"])
@pytest.mark.parametrize("name", ["Postfix", "Exim"])
def test_they_send_to_us(us: Us, name: str, kind: str) -> None:
    column = f"{name} to us"
    sending = sending_postfix if name == "Postfix" else sending_exim
    way = "plain" if kind == "utf8" else kind
    with wire_tap(us.ports[way]) as tap:
        before = us.server.log.count("status=sent (")
        with sending(tap.port, way) as peer:
            inject(peer.port, utf8=kind == "utf8")
            wait_for(lambda: us.server.log.count("status=sent (") > before, f"a message:\n{peer.log}\n{us.server.log}")
    extensions = {"plain": OF_PLAIN, "utf8": ("SMTPUTF8",), "tls": ("STARTTLS",), "auth": ("AUTH",)}[kind]
    judge(column, tap, extensions)
    all_used(column, extensions)


@pytest.mark.parametrize("kind", ["plain", "tls", "auth"])
def test_swaks_sends_to_us(us: Us, kind: str) -> None:
    require_program("swaks")
    options = {
        "plain": ["--pipeline"],
        "tls": ["-tls"],
        "auth": ["--auth", "PLAIN", "--auth-user", NAME, "--auth-password", PASSWORD],
    }[kind]
    with wire_tap(us.ports[kind]) as tap:
        command = ["swaks", "--server", "127.0.0.1", "--port", str(tap.port), "--from", SENDER, "--to", RECIPIENT]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert "queued as" in done.stdout, done.stdout
    extensions = {"plain": ("PIPELINING",), "tls": ("STARTTLS",), "auth": ("AUTH",)}[kind]
    judge("swaks to us", tap, extensions)
    all_used("swaks to us", extensions)


# From us to them.


@contextlib.contextmanager
def receiving_postfix(directory: Path, kind: str) -> Iterator[Peer]:
    settings = {"smtpd_relay_restrictions": "permit_mynetworks, reject", "smtputf8_enable": "yes"}
    with contextlib.ExitStack() as stack:
        if kind == "tls":
            certificate, key = Authority().issue("mx.here.test", key="rsa").write(directory, "peer")
            settings |= {
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": str(certificate),
                "smtpd_tls_key_file": str(key),
            }
        if kind == "auth":
            dovecot = stack.enter_context(running_dovecot_auth(f"{NAME}:{{PLAIN}}{PASSWORD}::::::\n"))
            settings |= {
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_type": "dovecot",
                "smtpd_sasl_path": f"inet:127.0.0.1:{dovecot.port}",
                "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
                "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
            }
        yield stack.enter_context(running_postfix(settings, master_cf=["tlsmgr unix - - n 1000? 1 tlsmgr"]))


@contextlib.contextmanager
def receiving_exim(directory: Path, kind: str) -> Iterator[Peer]:
    main = []
    if kind == "tls":
        certificate, key = Authority().issue("exim.test", key="rsa").write(directory, "peer")
        for path in (certificate, key):
            shutil.chown(path, "Debian-exim")
        main = ["tls_advertise_hosts = *", f"tls_certificate = {certificate}", f"tls_privatekey = {key}"]
    login = [
        "plain:", "  driver = plaintext", "  public_name = PLAIN", "  server_prompts = :",
        f"  server_condition = ${{if and{{{{eq{{$auth2}}{{{NAME}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}",
        "  server_set_id = $auth2",
    ]  # fmt: skip
    with running_exim(main or ["tls_advertise_hosts ="], authenticators=login if kind == "auth" else ()) as peer:
        yield peer


@pytest.mark.parametrize("kind", ["plain", "utf8", "tls", "auth"])
@pytest.mark.parametrize("name", ["Postfix", "Exim"])
def test_we_send_to_them(name: str, kind: str) -> None:
    column = f"us to {name}"
    receiving = receiving_postfix if name == "Postfix" else receiving_exim
    with open_directory() as directory, receiving(directory, kind) as peer, wire_tap(peer.port) as tap:
        settings = {
            "relayhost": f"[127.0.0.1]:{tap.port}",
            "smtpd_peername_lookup": "no",
            "mynetworks": "127.0.0.0/8",
            "worker_processes": "1",
        }
        if kind == "tls":
            settings["smtp_tls_security_level"] = "encrypt"
        if kind == "auth":
            settings |= {
                "smtp_sasl_auth_enable": "yes",
                "smtp_sasl_password_maps": f"static:{NAME}:{PASSWORD}",
                "smtp_sasl_security_options": "noanonymous",
            }
        recipient = UTF8_RECIPIENT if kind == "utf8" else RECIPIENT
        with running_server(main_cf=settings) as server:
            inject(server.port, utf8=kind == "utf8")
            wait_for(lambda: re.search(r"status=(?:sent|bounced|deferred)", server.log), f"a delivery:\n{server.log}")
            assert "status=sent" in server.log, server.log
            server.stop()
        (mail,) = peer.wait_for_mail(recipient)
        assert BODY.replace("\r\n", "\n").encode() in mail
    extensions = {"plain": OF_PLAIN, "utf8": ("SMTPUTF8",), "tls": ("STARTTLS",), "auth": ("AUTH",)}[kind]
    judge(column, tap, extensions)
    all_used(column, extensions)


def test_the_matrix_is_full(request: pytest.FixtureRequest) -> None:
    """Prints it; a cell that nobody filled is a test that was not run."""
    if len(request.session.items) < 20:
        pytest.skip("only a part of this file was run")
    print()
    print(f"{'':12}" + "".join(f"{column:>15}" for column in COLUMNS))
    for extension in EXTENSIONS:
        cells = []
        for column in COLUMNS:
            used = RESULTS.get((column, extension))
            cells.append("-" if (column, extension) in UNKNOWN else "yes" if used else "NO" if used is False else "?")
        print(f"{extension:12}" + "".join(f"{cell:>15}" for cell in cells))
    for (column, extension), reason in UNKNOWN.items():
        print(f"- {column}, {extension}: {reason}")
    wanted = {(column, extension) for column in COLUMNS for extension in EXTENSIONS} - set(UNKNOWN)
    assert {cell for cell, used in RESULTS.items() if used} == wanted

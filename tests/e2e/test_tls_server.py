"""TLS of the running server, as others see it: openssl, swaks, smtplib, and a scan of protocols and ciphers.

RFC 3207 (STARTTLS), RFC 8314 §3.3 (implicit TLS), RFC 8446, RFC 8996.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import smtplib
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from ekiden.tls.facts import certificate_of
from support.certificates import Authority, self_signed
from support.honours import honours
from support.requirements import require_program, require_root, require_that
from support.running import RunningServer, free_port, open_directory, wait_for
from support.smtp_socket import SmtpSocket
from support.tls_peers import client_context

WEAK = ("ADH", "AECDH", "NULL", "RC4", "RC2", "DES", "EXP", "MD5", "PSK", "SRP", "SEED", "IDEA")
KINDS = ("smtp", "submission", "submissions")


class Host:
    """A server with the three services that mail hosts have, an authority, and what it has issued."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority("The Root")
        self.root = directory / "root.pem"
        self.root.write_bytes(self.authority.pem)
        self.issue("mx.test", "server")
        names = directory / "names"
        for name in ("one.test", "two.test"):
            pair = self.authority.issue(name)
            (directory / f"{name}.pem").write_bytes(pair.key_pem + pair.pem)
        names.write_text("".join(f"{name} {directory}/{name}.pem\n" for name in ("one.test", "two.test")))
        names.chmod(0o600)
        self.client = self_signed("client.example")
        self.client_files = self.client.write(directory, "client")
        (directory / "known").write_text(f"{certificate_of(self.client.der, 'sha256').fingerprint} client.example\n")
        self.ports = {"submission": free_port(), "submissions": free_port(), "certified": free_port()}
        self.server = RunningServer(
            directory,
            main_cf={
                "mydestination": "mx.test",
                "local_transport": "discard:",
                "default_transport": "discard:",
                "mynetworks": "192.0.2.1/32",
                "smtpd_peername_lookup": "no",
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": str(directory / "server.pem"),
                "smtpd_tls_key_file": str(directory / "server.key"),
                "smtpd_tls_loglevel": "1",
                "smtpd_tls_received_header": "yes",
                "smtpd_starttls_timeout": "2s",
                "tls_server_sni_maps": f"texthash:{names}",
                "tls_certificate_check_interval": "1s",
            },
            master_cf=[
                f"127.0.0.1:{self.ports['submission']} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt",
                f"127.0.0.1:{self.ports['submissions']} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes",
                f"127.0.0.1:{self.ports['certified']} inet n - n - - smtpd -o smtpd_tls_ask_ccert=yes"
                f" -o relay_clientcerts=texthash:{directory}/known"
                " -o smtpd_relay_restrictions=permit_tls_clientcerts,reject_unauth_destination",
            ],
        )
        self.ports["smtp"] = self.server.port

    def issue(self, name: str, files: str) -> None:
        self.authority.issue(name).write(self.directory, files)

    def openssl(
        self, kind: str, *options: str, say: bytes = b"QUIT\n", waits: bool = True
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        start = [] if kind == "submissions" else ["-starttls", "smtp"]
        done = subprocess.run(
            [require_program("openssl"), "s_client", "-connect", f"127.0.0.1:{self.ports[kind]}", *start,
             "-CAfile", str(self.root), "-crlf", *(["-ign_eof"] if waits else []), *options],
            input=say, capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        text = subprocess.CompletedProcess(done.args, done.returncode, "", "")
        text.stdout = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
        return text

    def connect(
        self, kind: str, context: ssl.SSLContext, name: str = "mx.test", session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        """An encrypted connection whose banner, or second EHLO, is still to come. Raises ssl.SSLError, OSError."""
        raw = socket.create_connection(("127.0.0.1", self.ports[kind]), timeout=20)
        try:
            if kind != "submissions":
                for line in (b"", b"EHLO client.example\r\n", b"STARTTLS\r\n"):
                    raw.sendall(line)
                    while (answer := _line(raw))[3:4] == b"-":
                        pass
                assert answer.startswith(b"220 2.0.0"), answer
            return context.wrap_socket(raw, server_hostname=name, session=session)
        except BaseException:
            raw.close()
            raise

    def shown(self, name: str = "mx.test") -> str:
        """Common name of the certificate that a client gets that asks for ``name``."""
        with self.connect("smtp", client_context(), name) as client:
            der = client.getpeercert(binary_form=True)
        assert der is not None
        return certificate_of(der, "sha256").name


def _line(raw: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = raw.recv(1)
        if not byte:
            raise ConnectionError("closed")
        line += byte
    return line


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_directory() as directory:
        made = Host(directory)
        try:
            made.server.start()
            yield made
            assert made.server.stop() == 0
            assert made.server.output == ""
            assert "Traceback" not in made.server.log
            errors = [line for line in made.server.log.splitlines() if " error: " in line]
            assert all("died: killed by SIGKILL" in line for line in errors), errors
        finally:
            made.server.close()


# What clients of others say.


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_gets_tls_13_and_a_chain_that_it_trusts(host: Host, kind: str) -> None:
    said = host.openssl(kind, "-verify_return_error", "-verify_hostname", "mx.test").stdout
    assert "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384" in said
    assert "Verify return code: 0 (ok)" in said
    assert "221 2.0.0 Bye" in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("option", "works"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
def test_openssl_gets_no_version_before_12(host: Host, kind: str, option: str, works: bool) -> None:
    said = host.openssl(kind, option, "-cipher", "ALL:@SECLEVEL=0").stdout
    assert ("221 2.0.0 Bye" in said) is works
    assert ("Cipher is (NONE)" in said) is not works


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_finds_no_weak_protocol_and_no_weak_cipher(host: Host, kind: str) -> None:
    found: dict[str, list[str]] = {}
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    everything.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        names = [
            c["name"] for c in everything.get_ciphers() if (c["protocol"] == "TLSv1.3") == (version.name == "TLSv1_3")
        ]
        for name in ["ALL"] if version.name == "TLSv1_3" else names:
            context = client_context()
            context.set_ciphers(f"{name}:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            try:
                with host.connect(kind, context) as client:
                    cipher = client.cipher()
                    assert cipher is not None
                    found.setdefault(str(client.version()), []).append(cipher[0])
            except (ssl.SSLError, ConnectionError):
                continue
    for protocol, ciphers in found.items():
        print(f"{kind}: {protocol}: {', '.join(ciphers)}")
    assert set(found) == {"TLSv1.2", "TLSv1.3"}
    assert "ECDHE-ECDSA-AES256-GCM-SHA384" in found["TLSv1.2"]
    assert not [name for name in found["TLSv1.2"] if any(word in name for word in WEAK)]


def test_nobody_may_have_the_handshake_repeated(host: Host) -> None:
    """Renegotiation of TLS 1.2 by the client: costs the server more than the client (CVE-2011-1473)."""
    said = host.openssl("submission", "-tls1_2", say=b"R\nQUIT\n", waits=False).stdout
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["--tls"], "smtp"),
        (["--tls"], "submission"),
        (["--tls-on-connect"], "submissions"),
        (["--tls-optional"], "smtp"),
    ],
)
def test_swaks(host: Host, options: list[str], kind: str) -> None:
    done = subprocess.run(
        [require_program("swaks"), *options, "--server", f"127.0.0.1:{host.ports[kind]}", "--from", "a@b.example",
         "--to", "postmaster@mx.test"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    require_that("TLS not available" not in done.stderr + done.stdout, "swaks lacks Net::SSLeay (libnet-ssleay-perl)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TLS started with cipher TLSv1.3" in done.stdout
    assert "queued as" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_smtplib(host: Host, kind: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@b.example", "postmaster@mx.test", "over TLS"
    message.set_content("x" * 100_000)
    context = client_context(host.root)
    if kind == "submissions":
        client: smtplib.SMTP = _SmtpSsl("127.0.0.1", host.ports[kind], context=context, timeout=20)
    else:
        client = smtplib.SMTP("127.0.0.1", host.ports[kind], timeout=20)
        client._host = "mx.test"  # type: ignore[attr-defined]
    with client:
        if kind != "submissions":
            assert client.starttls(context=context)[0] == 220
        assert client.send_message(message) == {}


class _SmtpSsl(smtplib.SMTP_SSL):
    """Connects to an address and checks the name."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        raw = socket.create_connection((host, port), timeout)
        return self.context.wrap_socket(raw, server_hostname="mx.test")


def test_what_must_be_encrypted_is_refused_in_the_clear(host: Host) -> None:
    with SmtpSocket(host.ports["submission"]) as client:
        client.hear()
        assert "STARTTLS" in client.say("EHLO client.example")
        assert client.say("MAIL FROM:<a@b.example>") == "530 5.7.0 Must issue a STARTTLS command first"
        assert client.say("QUIT").startswith("221 ")


# Names and certificates.


@honours("tls_server_sni_maps")
def test_server_names(host: Host) -> None:
    for name in ("one.test", "two.test"):
        said = host.openssl("submissions", "-servername", name, "-verify_hostname", name, "-verify_return_error").stdout
        assert f"subject=CN = {name}" in said
        assert "Verify return code: 0 (ok)" in said
    assert "subject=CN = mx.test" in host.openssl("smtp", "-servername", "elsewhere.test").stdout
    assert "subject=CN = mx.test" in host.openssl("smtp", "-noservername").stdout


@honours("relay_clientcerts", "smtpd_tls_ask_ccert")
def test_a_known_certificate_opens_the_relay(host: Host) -> None:
    certificate, key = host.client_files
    say = b"EHLO client.example\r\n"
    envelope = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@elsewhere.example>\r\nQUIT\r\n"
    known = client_context(host.root)
    known.load_cert_chain(certificate, key)
    for context, answer in ((known, b"250 2.1.5"), (client_context(host.root), b"554 5.7.1")):
        with host.connect("certified", context) as client:
            client.sendall(say)
            while _line(client)[3:4] == b"-":
                pass
            client.sendall(envelope)
            _line(client)
            assert _line(client).startswith(answer)
    said = host.openssl("certified", "-cert", str(certificate), "-key", str(key)).stdout
    assert "221 2.0.0 Bye" in said
    host.server.wait_for_log("Untrusted TLS connection established from unknown[127.0.0.1]: TLSv1.3")
    host.server.wait_for_log("Anonymous TLS connection established from unknown[127.0.0.1]: TLSv1.3")


# Sessions.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_taken_up_by_every_worker_and_after_a_restart(host: Host, version: ssl.TLSVersion) -> None:
    context = client_context(host.root, lowest=version, highest=version)

    def talk(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
        with host.connect("submissions", context, session=session) as client:
            assert _line(client).startswith(b"220 ")  # the ticket has come with it
            found = client.session
            assert found is not None
            return bool(client.session_reused), found

    reused, session = talk(None)
    assert not reused
    assert [talk(session)[0] for _ in range(12)] == [True] * 12
    before = host.server.children()
    os.kill(before["worker 0"], signal.SIGKILL)

    def is_back() -> bool:
        pid = host.server.children().get("worker 0")
        return pid not in (None, before["worker 0"]) and len(host.server.status()) == 2

    wait_for(is_back, "worker 0")
    assert [talk(session)[0] for _ in range(12)] == [True] * 12


# Files that change.


@honours("tls_certificate_check_interval")
def test_certificates_change_without_a_reload_and_broken_ones_are_told_once(host: Host) -> None:
    with host.connect("smtp", client_context(host.root)) as old:
        host.issue("mx.test", "kept")  # for the end
        host.issue("renewed.test", "server")
        wait_for(lambda: host.shown() == "renewed.test", "the new certificate")
        for _ in range(8):  # by whichever worker
            assert host.shown() == "renewed.test"
        pair = host.authority.issue("one.test", "again.one.test")
        (host.directory / "one.test.pem").write_bytes(pair.key_pem + pair.pem)
        host.server.wait_for_log("the certificates have changed and are used from now on")
        old.sendall(b"NOOP\r\n")  # who has a session keeps it
        assert _line(old).startswith(b"250 ")
    (host.directory / "server.key").write_text("broken")
    host.server.wait_for_log("no private key in it; the old certificates stay")
    assert host.shown() == "renewed.test"
    os.utime(host.directory / "server.key")
    host.issue("mx.test", "server")
    wait_for(lambda: host.shown() == "mx.test", "the repaired certificate")
    lines = [line for line in host.server.log.splitlines() if "the old certificates stay" in line]
    assert len(lines) == len({line.partition("]: ")[2] for line in lines}), "\n".join(lines)


def test_a_reload_takes_up_files_that_are_named_anew(host: Host) -> None:
    host.issue("elsewhere.test", "elsewhere")
    before = dict(host.server.main_cf)
    try:
        host.server.main_cf["smtpd_tls_cert_file"] = str(host.directory / "elsewhere.pem")
        host.server.main_cf["smtpd_tls_key_file"] = str(host.directory / "elsewhere.key")
        host.server.reload()
        assert host.shown() == "elsewhere.test"
    finally:
        host.server.main_cf.clear()
        host.server.main_cf.update(before)
        host.server.reload()
    assert host.shown() == "mx.test"


@contextlib.contextmanager
def another(**settings: str) -> Iterator[tuple[RunningServer, Path]]:
    with open_directory() as directory:
        Authority().issue("mx.test").write(directory, "server")
        server = RunningServer(
            directory,
            main_cf={
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": str(directory / "server.pem"),
                "smtpd_tls_key_file": str(directory / "server.key"),
                "tls_certificate_check_interval": "1s",
                **settings,
            },
        )
        try:
            yield server, directory
        finally:
            server.close()


def test_without_the_key_it_serves_in_the_clear_and_takes_up_tls_when_it_comes() -> None:
    with another() as (server, directory):
        key = directory / "server.key"
        key.rename(directory / "away")
        server.start()
        server.wait_for_log(f"smtpd_tls_key_file = {key}: No such file or directory; TLS is not available")
        with SmtpSocket(server.port) as client:
            client.hear()
            assert "STARTTLS" not in client.say("EHLO client.example")
            assert client.say("STARTTLS") == "454 4.7.0 TLS not available due to local problem"
        (directory / "away").rename(key)

        def offered() -> bool:
            with SmtpSocket(server.port) as client:
                client.hear()
                return "STARTTLS" in client.say("EHLO client.example")

        wait_for(offered, "STARTTLS")
        assert server.stop() == 0


def test_a_key_that_only_root_may_read_is_seen_by_the_supervisor_and_handed_to_workers_alone() -> None:
    require_root()
    with another() as (server, directory):
        (directory / "server.key").chmod(0o600)
        assert (directory / "server.key").stat().st_uid == 0
        server.start()
        context = client_context()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            for line in (b"", b"STARTTLS\r\n"):
                raw.sendall(line)
                _line(raw)
            with context.wrap_socket(raw) as client:
                assert client.version() == "TLSv1.3"
        children = server.children()
        for role, pid in children.items():
            uid = int(Path(f"/proc/{pid}/status").read_text().partition("Uid:\t")[2].split()[0])
            assert (uid == 0) is (role == "deliverer")
            # A worker has read what was handed to it; no child keeps the file.
            names = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            assert not [name for name in names if "memfd:keys" in name], role
        # New keys reach workers that could not read them.
        Authority().issue("renewed.test").write(directory, "server")
        server.wait_for_log("the certificates have changed and are used from now on")
        assert server.stop() == 0


# Clients that mean harm.


@pytest.mark.parametrize(
    "behind", [b"RSET\r\n", b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<x@mx.test>\r\nDATA\r\n", b"\x16\x03"]
)
def test_commands_behind_starttls_end_the_session(host: Host, behind: bytes) -> None:
    """CVE-2011-0411."""
    with SmtpSocket(host.ports["smtp"]) as client:
        client.hear()
        client.say("EHLO client.example")
        client.send(b"STARTTLS\r\n" + behind)
        assert client.hear() == "554 5.5.0 Error: SMTP protocol synchronization"
        assert client.line() == b""


@pytest.mark.parametrize("kind", ["smtp", "submissions"])
@pytest.mark.parametrize("pace", ["silent", "dripping"])
@honours("smtpd_starttls_timeout")
def test_a_slow_handshake_is_dropped_at_its_time(host: Host, kind: str, pace: str) -> None:
    began = time.monotonic()
    with SmtpSocket(host.ports[kind]) as client:
        if kind == "smtp":
            client.hear()
            client.say("STARTTLS")
        client.socket.settimeout(0.2)
        hello = iter(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500)
        while True:
            try:
                if pace == "dripping":
                    client.socket.sendall(bytes([next(hello)]))
                if not client.socket.recv(100):
                    break
            except TimeoutError:
                assert time.monotonic() < began + 10
                continue
            except ConnectionError:
                break
    assert 1.5 <= time.monotonic() - began < 10


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_garbage_costs_neither_memory_nor_the_others_their_turn(host: Host) -> None:
    dice = random.Random(1)
    pids = [pid for role, pid in host.server.children().items() if role.startswith("worker")]
    hello = _client_hello()

    def attack(count: int) -> None:
        for _ in range(count):
            with SmtpSocket(host.ports["submissions"], deadline_s=5) as client:
                data = bytearray(hello)
                match dice.randrange(4):
                    case 0:
                        data = bytearray(dice.randbytes(dice.randrange(1, 3000)))
                    case 1:
                        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                    case 2:
                        del data[dice.randrange(len(data)) :]
                    case 3:
                        data[3:5] = b"\xff\xff"
                client.send(bytes(data))
                client.socket.shutdown(socket.SHUT_WR)
                while client.socket.recv(65536):
                    pass

    attack(50)
    before = max(resident_kib(pid) for pid in pids)
    attack(400)
    assert max(resident_kib(pid) for pid in pids) < before + 8 * 1024
    assert host.shown() == "mx.test"


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(incoming, outgoing, server_hostname="mx.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_handshakes_leave_nothing_behind(host: Host) -> None:
    pids = [pid for role, pid in host.server.children().items() if role.startswith("worker")]
    context = client_context(host.root)

    def shake(count: int) -> None:
        for _ in range(count):
            host.connect("submissions", context).close()

    shake(100)
    before = max(resident_kib(pid) for pid in pids)
    shake(600)
    assert max(resident_kib(pid) for pid in pids) < before + 6 * 1024


def test_plain_smtp_on_the_port_of_tls_hears_nothing(host: Host) -> None:
    with SmtpSocket(host.ports["submissions"]) as client:
        client.send(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n")
        answer = b""
        while piece := client.socket.recv(1000):
            answer += piece
        assert b"220" not in answer
        assert b"250" not in answer
    host.server.wait_for_log("SSL_accept error from unknown[127.0.0.1]: ")


def test_a_tls_hello_on_the_plain_port_is_told_at_once(host: Host) -> None:
    with SmtpSocket(host.ports["smtp"]) as client:
        client.hear()
        client.send(_client_hello())
        assert client.hear() == "221 2.7.0 Error: this is an SMTP server"
        assert client.line() == b""


@honours("smtpd_tls_wrappermode")
def test_a_proxy_header_comes_before_the_handshake_even_in_one_piece() -> None:
    port = free_port()
    line = (
        f"127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
        " -o smtpd_upstream_proxy_protocol=haproxy -o smtpd_upstream_proxy_clients=127.0.0.1"
    )
    with another(smtpd_tls_loglevel="1", smtpd_peername_lookup="no") as (server, _):
        server.services.append(line)
        server.write_configuration()
        server.start()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context().wrap_bio(incoming, outgoing, server_hostname="mx.test")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 465\r\n"
            said = b""
            while not said:
                try:
                    client.do_handshake()
                    said = client.read(1000)
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        raw.sendall(header + outgoing.read())
                        header = b""
                    incoming.write(raw.recv(65536))
            assert said.startswith(b"220 mx.test")
        server.wait_for_log("Anonymous TLS connection established from unknown[192.0.2.7]: TLSv1.3")

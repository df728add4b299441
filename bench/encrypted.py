"""Work over TLS: submission with STARTTLS and AUTH PLAIN, and relaying to a next hop that offers STARTTLS.

smtp-source and smtp-sink know no TLS, so both ends are tls_peer.c, built here: it costs so little that the server
is what is measured. It needs a C compiler and the headers of OpenSSL (gcc, libssl-dev).
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.servers import SBIN, Server, free_port, wait_for_banner
from bench.work import DEADLINE_S, Measured, measure

_SOURCE = Path(__file__).with_name("tls_peer.c")
_ACCOUNT, _PASSWORD = "bench@bench.example", "a-password-of-22-chars"


class NoCompiler(Exception):
    """This machine cannot build the other end."""


@cache
def _peer(base: Path) -> Path:
    program = base / "tls_peer"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("gcc and libssl-dev are needed")
    built = subprocess.run(
        [compiler, "-O2", "-o", program, _SOURCE, "-lssl", "-lcrypto", "-lpthread"], capture_output=True, text=True
    )
    if built.returncode:
        raise NoCompiler(f"tls_peer.c cannot be built (libssl-dev?): {built.stderr.strip()[-300:]}")
    return program


@cache
def _certificate(base: Path) -> tuple[Path, Path]:
    """An RSA certificate of 2048 bits and its key, which every server can read."""
    certificate, key = base / "cert.pem", base / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=bench.example"),
            *("-addext", "subjectAltName=DNS:bench.example", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def _until_received(receiver: list[str | Path], sender: list[str | Path], port: int) -> None:
    """Run both; the receiver, at ``port``, ends when it has all."""
    receiving = subprocess.Popen(receiver, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_banner(port)
        subprocess.run(sender, check=True, timeout=DEADLINE_S)
        receiving.wait(DEADLINE_S)
    finally:
        receiving.kill()


def submission(server: Server, *, messages: int, size: int = 4096, connections: int = 50) -> Measured:
    """A client that logs in for each message, over TLS with resumed sessions, until smtp-sink has them all."""
    base = server.directory.parent
    certificate, key = _certificate(base)
    port = free_port()

    def run(count: int) -> None:
        _until_received(
            [SBIN / "smtp-sink", "-u", "nobody", "-M", str(count), f"127.0.0.1:{port}", "1000"],
            [
                *(_peer(base), "source", str(server.port), str(count), str(connections), str(size)),
                *(_ACCOUNT, _PASSWORD),
            ],
            port,
        )

    server.start(
        {
            "relayhost": f"[127.0.0.1]:{port}",
            "message_size_limit": "0",
            "mynetworks": "192.0.2.1/32",  # nobody: who relays has logged in
            "smtpd_client_connection_count_limit": "0",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_cert_file": str(certificate),
            "smtpd_tls_key_file": str(key),
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            **server.account(_ACCOUNT, _PASSWORD),
        }
    )
    try:
        run(200)
        return measure(server, messages, lambda: run(messages))
    finally:
        server.stop()


def relay(server: Server, *, messages: int, size: int = 4096, connections: int = 50) -> Measured:
    """smtp-source -> server -> a sink that is spoken to over TLS, until the last message has arrived."""
    base = server.directory.parent
    certificate, key = _certificate(base)
    port = free_port()

    def run(count: int) -> None:
        _until_received(
            [_peer(base), "sink", str(port), str(count), certificate, key],
            [
                *(SBIN / "smtp-source", "-s", str(connections), "-m", str(count), "-l", str(size)),
                *("-f", "sender@client.example", "-t", "recipient@next.example", f"127.0.0.1:{server.port}"),
            ],
            port,
        )

    server.start({"relayhost": f"[127.0.0.1]:{port}", "message_size_limit": "0", "smtp_tls_security_level": "encrypt"})
    try:
        run(200)
        return measure(server, messages, lambda: run(messages))
    finally:
        server.stop()

"""Mail of a stranger, checked with SPF, DKIM and DMARC on its way in: the same records, messages and clients for all.

The messages are signed here, with 2048 bits. Before it is measured, each server shows by the Authentication-Results of
one message that it has done all three checks, and that they passed.

Who sends and who takes the mail is on other machines in life, and here on the server's processors: so both cost a
fraction of what they measure, and neither interrupts the server (SCHED_BATCH).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bench.authenticating import NameServer
from bench.encrypted import NoCompiler
from bench.footprint import Large, peak_memory
from bench.servers import SBIN, Ekiden, Server, free_port, wait_for_banner
from bench.work import DEADLINE_S, Measured, measure
from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import SigningKey, new_private_key, signing_key
from ekiden.auth.dkim.sign import DkimSigning


class NotChecked(Exception):
    """The server does less than it should, so that its speed says nothing."""


STRANGER, OWN = "127.0.0.2", "127.0.0.3"  # addresses of clients
DOMAIN, SELECTOR = "mail.example", "bench"
RECIPIENT = "recipient@next.example"
# A process that is woken under this policy waits until the processor is free: what comes over a network is no sooner.
_PATIENT = ("chrt", "--batch", "0")
_MESSAGES = 16  # different ones, sent in turn
_LINE = "The quick brown fox jumps over the lazy dog, and runs on. "


@cache
def _pem() -> bytes:
    return new_private_key("rsa-sha256", bits=2048)


def _key() -> SigningKey:
    return signing_key(DOMAIN, SELECTOR, _pem())


def names(base: Path) -> NameServer:
    """What the DNS says of the sender."""
    public = _key().record
    strings = " ".join(f'"{public[at : at + 250]}"' for at in range(0, len(public), 250))
    reverse = ".".join(reversed(STRANGER.split(".")))
    return NameServer(
        base / "unbound",
        [
            f'{DOMAIN}. 3600 IN TXT "v=spf1 ip4:{STRANGER} -all"',
            f"{DOMAIN}. 3600 IN MX 10 client.{DOMAIN}.",
            f"{DOMAIN}. 3600 IN A {STRANGER}",
            f"client.{DOMAIN}. 3600 IN A {STRANGER}",
            f'client.{DOMAIN}. 3600 IN TXT "v=spf1 ip4:{STRANGER} -all"',
            f"{reverse}.in-addr.arpa. 3600 IN PTR client.{DOMAIN}.",
            f'_dmarc.{DOMAIN}. 3600 IN TXT "v=DMARC1; p=reject; rua=mailto:reports@{DOMAIN}"',
            f"{SELECTOR}._domainkey.{DOMAIN}. 3600 IN TXT {strings}",
        ],
    )


def _message(number: int, size: int, *, signed: bool) -> bytes:
    header = (
        f"From: Some One <some.one@{DOMAIN}>\r\nTo: {RECIPIENT}\r\nSubject: message {number}\r\n"
        f"Date: Sun, 29 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{number}@{DOMAIN}>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
    ).encode()
    line = f"{number} {_LINE}\r\n".encode()
    body = line * (size // len(line))
    if signed:
        hashes = BodyHashes()
        signing = DkimSigning(header, hashes, [_key()], now=time.time())
        hashes.feed(body)
        hashes.finish()
        header = signing.fields() + header
    return header + b"\r\n" + body


def _messages(folder: Path, size: int, count: int, *, signed: bool) -> list[Path]:
    """Whole messages; no line begins with a dot."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.eml" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(_message(number, size, signed=signed))
    return paths


@cache
def _built(base: Path, name: str) -> Path:
    program = base / name
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("gcc is needed")
    subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name(f"{name}.c")], check=True)
    return program


def _send(server: Server, client: str, count: int, connections: int, messages: list[Path]) -> subprocess.Popen[bytes]:
    program = _built(server.directory.parent, "mail_client")
    work = (client, str(server.port), str(count), str(min(connections, count)))
    envelope = (f"client.{DOMAIN}", f"bounces@{DOMAIN}", RECIPIENT)
    return subprocess.Popen([*_PATIENT, program, *work, *envelope, *messages])


def _settings(port: int) -> dict[str, str]:
    """For every server: the client is a stranger, and what it sends goes on to ``port``."""
    return {
        "relay_domains": "next.example",
        "relayhost": f"[127.0.0.1]:{port}",
        "mynetworks": "192.0.2.1/32",
        "message_size_limit": "0",
        "smtpd_client_connection_count_limit": "0",
    }


def _sink(base: Path, port: int, count: int, kept: Path | None = None) -> subprocess.Popen[bytes]:
    """A next hop, until it has ``count`` messages; in the folder ``kept`` if that is named."""
    if kept is None:
        command: list[str | Path] = [*_PATIENT, _built(base, "mail_sink"), str(port), str(count)]
    else:
        command = [
            *(SBIN / "smtp-sink", "-u", "nobody", "-d", kept / "%M."),
            *("-M", str(count), f"127.0.0.1:{port}", "1000"),
        ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_banner(port)
    return process


def _until_received(sink: subprocess.Popen[bytes], senders: Iterable[subprocess.Popen[bytes]]) -> None:
    try:
        for sender in senders:
            if sender.wait(DEADLINE_S):
                raise NotChecked("a message was refused")
        sink.wait(DEADLINE_S)
    finally:
        sink.kill()


def _received(base: Path) -> Path:
    folder = base / "received"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def inbound(server: Server, *, messages: int, size: int = 10_240, connections: int = 50) -> Measured:
    """mail_client -> server with its checks -> mail_sink, until the last message has arrived. names() run already."""
    base = server.directory.parent
    paths = _messages(base / "signed", size, _MESSAGES, signed=True)
    port = free_port()

    def run(count: int, kept: Path | None = None) -> None:
        sink = _sink(base, port, count, kept)
        _until_received(sink, [_send(server, STRANGER, count, connections, paths)])

    # The others count nothing for reports to the owners of domains.
    ours = {"dmarc_aggregate_reports": "no"} if isinstance(server, Ekiden) else {}
    server.start({**_settings(port), **ours})
    try:
        received = _received(base)
        run(1, received)
        for path in received.iterdir():
            prove_checked(path)
        run(200)
        return measure(server, messages, lambda: run(messages))
    finally:
        server.stop()


def large(server: Ekiden, *, clients: int = 4, size: int = 50_000_000) -> Large:
    """Memory that a worker takes while strangers' large messages are verified and as many of our own are signed."""
    base = server.directory.parent
    theirs = _messages(base / "signed", size, 1, signed=True)
    ours = _messages(base / "unsigned", size, 1, signed=False)
    keys = base / "keys"
    shutil.rmtree(keys, ignore_errors=True)
    keys.mkdir()
    (keys / "bench.pem").write_bytes(_pem())
    port = free_port()

    def run(count: int, kept: Path | None = None) -> None:
        sink = _sink(base, port, 2 * count, kept)
        senders = [_send(server, STRANGER, count, count, theirs), _send(server, OWN, count, count, ours)]
        _until_received(sink, senders)

    signing = {
        "mynetworks": f"{OWN}/32",
        "dkim_signing_table": f"inline:{{{DOMAIN}={DOMAIN}:{SELECTOR}:bench.pem}}",
        "dkim_key_directory": str(keys),
    }
    server.start({**_settings(port), **signing})
    try:
        received = _received(base)
        run(1, received)
        found = [_header(path) for path in received.iterdir()]
        checked = [header for header in found if b"authentication-results:" in header.lower()]
        if len(found) != 2 or len(checked) != 1 or any(b"DKIM-Signature:" not in header for header in found):
            raise NotChecked("one message should be checked, and both signed")
        prove_checked_header(checked[0])
        shutil.rmtree(received)
        start = time.monotonic()
        added = peak_memory(server, lambda: run(clients))
        return Large(2 * clients, size, added, time.monotonic() - start)
    finally:
        server.stop()


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        # smtp-sink writes LF.
        return file.read(65536).replace(b"\r\n", b"\n").partition(b"\n\n")[0]


def prove_checked(path: Path) -> None:
    prove_checked_header(_header(path))


def prove_checked_header(header: bytes) -> None:
    """Raises NotChecked unless the server says that all three have passed."""
    unfolded = re.sub(rb"\n[ \t]+", b" ", header)
    said = b"\n".join(re.findall(rb"(?im)^authentication-results:.*$", unfolded)).decode(errors="replace")
    missing = [method for method in ("spf", "dkim", "dmarc") if not re.search(rf"\b{method}=pass\b", said)]
    if missing:
        raise NotChecked(f"no {', '.join(missing)} that passes in what the server says: {said or 'nothing'}")

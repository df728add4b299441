"""Every TLS level towards every kind of server, as one table: the running server sends to services of a real Postfix.

One recipient for each cell: the next hop of r@LEVEL.KIND.test is [LEVEL.KIND.test] at the port of that kind.
"""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ekiden.tls.facts import fingerprint_of
from support.certificates import Authority, Pair, self_signed
from support.honours import honours
from support.peers import Peer, running_postfix
from support.running import RunningServer, free_port, open_directory, running_server, wait_for

LEVELS = ("none", "may", "encrypt", "known", "unknown", "verify", "secure")  # known, unknown: fingerprints

_NOT_OFFERED = "TLS is required, but was not offered by host"
_DECLINED = "refused to start TLS: 454 4.7.0"
_NO_HANDSHAKE = "Cannot start TLS: handshake failure"
_UNTRUSTED = "Server certificate not trusted: "
_UNVERIFIED = "Server certificate not verified: "

# What becomes of mail, by kind of server: for the levels none, may, encrypt, known, unknown, verify, secure.
S, T, R = "sent", "sent with TLS", "sent without TLS, when it had waited"
TABLE = {
    "right": (S, T, T, T, _UNVERIFIED, T, T),
    "misnamed": (S, T, T, T, _UNVERIFIED, _UNVERIFIED, _UNVERIFIED),
    "expired": (S, T, T, T, _UNVERIFIED, _UNTRUSTED + "certificate has expired", _UNTRUSTED),
    "selfsigned": (S, T, T, T, _UNVERIFIED, _UNTRUSTED + "self-signed certificate", _UNTRUSTED),
    "stranger": (S, T, T, T, _UNVERIFIED, _UNTRUSTED + "unable to get local issuer certificate", _UNTRUSTED),
    "plain": (S, S, _NOT_OFFERED, _NOT_OFFERED, _NOT_OFFERED, _NOT_OFFERED, _NOT_OFFERED),
    "declining": (S, S, _DECLINED, _DECLINED, _DECLINED, _DECLINED, _DECLINED),
    "old": (S, R, _NO_HANDSHAKE, _NO_HANDSHAKE, _NO_HANDSHAKE, _NO_HANDSHAKE, _NO_HANDSHAKE),
    # TLS from the first byte on, which makes encrypt of what is less.
    "implicit": (T, T, T, T, _UNVERIFIED, T, T),
}
CELLS = [(kind, level) for kind in TABLE for level in LEVELS]


def certificates(root: Authority) -> dict[str, Pair]:
    return {
        "right": root.issue("*.right.test", key="rsa"),
        "misnamed": root.issue("mx.other.test"),
        "expired": root.issue("*.expired.test", days=(-20, -2)),
        "selfsigned": self_signed("*.selfsigned.test"),
        "stranger": Authority("Nobody's Root").issue("*.stranger.test"),
        "old": root.issue("*.old.test"),
        "implicit": root.issue("*.implicit.test"),
    }


class Cell(NamedTuple):
    lines: list[str]  # of the log, for this recipient
    mails: list[bytes]


class World(NamedTuple):
    server: RunningServer
    postfix: Peer

    def cell(self, kind: str, level: str) -> Cell:
        address = f"r@{level}.{kind}.test"
        lines = [line for line in self.server.log.splitlines() if f"to=<{address}>" in line]
        return Cell(lines, self.postfix.mails(address))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    root = Authority()
    with open_directory() as directory:
        ports = {kind: free_port() for kind in TABLE}
        pairs = certificates(root)
        services = list(_services(directory, ports, pairs))
        (directory / "root.pem").write_bytes(root.pem)
        (directory / "hosts").write_text("".join(f"127.0.0.1 {level}.{kind}.test\n" for kind, level in CELLS))
        main_cf = {"smtpd_tls_received_header": "yes", "smtpd_client_connection_count_limit": "0"}
        with (
            running_postfix(main_cf, master_cf=services) as postfix,
            running_server(
                main_cf=_main_cf(directory, ports, pairs), master_cf=["smtps unix - - - - - smtp",
                "  -o smtp_tls_wrappermode=yes"],
            ) as server,
        ):  # fmt: skip
            with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
                recipients = [f"r@{level}.{kind}.test" for kind, level in CELLS]
                for start in range(0, len(recipients), 40):
                    client.sendmail("a@b.test", recipients[start : start + 40], b"Subject: x\r\n\r\nx\r\n")
            yield World(server, postfix)


def _services(directory: Path, ports: dict[str, int], pairs: dict[str, Pair]) -> Iterator[str]:
    yield "tlsmgr unix - - n 1000? 1 tlsmgr"
    for kind, port in ports.items():
        options = ["smtpd_tls_security_level=may"]
        if kind in pairs:
            certificate, key = pairs[kind].write(directory, kind)
            options += [f"smtpd_tls_cert_file={certificate}", f"smtpd_tls_key_file={key}"]
        match kind:
            case "plain":
                options = ["smtpd_tls_security_level=none"]
            case "declining":
                options += ["smtpd_tls_cert_file=/nowhere/cert.pem", "smtpd_tls_key_file=/nowhere/key.pem"]
            case "old":
                options += ["smtpd_tls_protocols=TLSv1", "smtpd_tls_mandatory_protocols=TLSv1"]
            case "implicit":
                options += ["smtpd_tls_wrappermode=yes"]
        yield f"127.0.0.1:{port} inet n - n - - smtpd " + " ".join(f"-o {option}" for option in options)


def _main_cf(directory: Path, ports: dict[str, int], pairs: dict[str, Pair]) -> dict[str, str]:
    transports, policies = [], []
    for kind, level in CELLS:
        next_hop = f"[{level}.{kind}.test]:{ports[kind]}"
        transports.append(f"{level}.{kind}.test {'smtps' if kind == 'implicit' else 'smtp'}:{next_hop}\n")
        policy = level
        if level in ("known", "unknown"):
            known = pairs["stranger" if level == "unknown" or kind not in pairs else kind]
            digest = fingerprint_of(known.der, "sha256" if level == "known" else "sha512")
            policy = f"fingerprint match={digest}"
        policies.append(f"{next_hop} {policy}\n")
    (directory / "transport").write_text("".join(transports))
    (directory / "policy").write_text("".join(policies))
    return {
        "transport_maps": f"texthash:{directory}/transport",
        "smtp_tls_policy_maps": f"texthash:{directory}/policy",
        "smtp_tls_CAfile": f"{directory}/root.pem",
        "smtp_tls_loglevel": "1",
        "smtp_host_lookup": "native",
        "native_hosts_file": f"{directory}/hosts",
        "minimal_backoff_time": "2s",
        "maximal_backoff_time": "2s",
        "queue_run_delay": "1s",
    }


@honours("smtp_tls_policy_maps", "smtp_tls_security_level", "smtp_tls_wrappermode")
@pytest.mark.parametrize(("kind", "level"), CELLS)
def test_the_table(world: World, kind: str, level: str) -> None:
    expected = TABLE[kind][LEVELS.index(level)]
    if expected in (S, T, R):
        wait_for(lambda: world.cell(kind, level).mails, f"{level} {kind}: mail\n{world.cell(kind, level).lines}")
        [mail] = world.cell(kind, level).mails
        encrypted = re.search(rb"\(using TLSv1\.[23] with cipher", mail) is not None
        assert encrypted is (expected == T)
        wait_for(lambda: "status=sent" in str(world.cell(kind, level).lines), "the result")
        early = [line for line in world.cell(kind, level).lines if "status=deferred" in line]
        assert not early or expected == R, early  # on a slow machine the first attempt may come late enough
        return
    wait_for(lambda: world.cell(kind, level).lines, f"{level} {kind}: a result\n{world.server.log}")
    cell = world.cell(kind, level)
    assert all("status=deferred" in line and expected in line for line in cell.lines), cell.lines
    assert re.search(r"dsn=4\.7\.[045],", cell.lines[0]) is not None
    assert not cell.mails


def test_what_is_put_off_stays_so(world: World) -> None:
    """Mail that has waited goes without TLS only where TLS is a wish: no other cell changes with time."""
    expected = [(kind, level) for kind, level in CELLS if TABLE[kind][LEVELS.index(level)] not in (S, T, R)]
    wait_for(lambda: all(len(world.cell(*each).lines) > 1 for each in expected), "a second attempt for each")
    assert not any(world.cell(*each).mails for each in expected)


def test_the_log_says_how_far_each_server_is_trusted(world: World) -> None:
    def said(word: str, cell: str) -> bool:
        line = rf"{word} TLS connection established to {cell}\[127\.0\.0\.1\]:\d+: TLSv1\.3 with cipher TLS_AES_256"
        return re.search(line, world.server.log) is not None

    for word, cell in (
        ("Verified", "verify.right.test"), ("Verified", "known.selfsigned.test"), ("Trusted", "may.right.test"),
        ("Untrusted", "may.selfsigned.test"), ("Untrusted", "encrypt.expired.test"),
    ):  # fmt: skip
        wait_for(lambda: said(word, cell), f"{word} {cell}\n{world.server.log}")  # noqa: B023
    assert "SSL_connect error to encrypt.old.test[127.0.0.1]:" in world.server.log
    assert "certificate verification failed for verify.expired.test[127.0.0.1]:" in world.server.log


def test_the_table_is_printed(world: World) -> None:
    """For people who read the output of the tests."""
    time_limit = time.monotonic() + 30
    rows = [f"{'':12}" + "".join(f"{level:>12}" for level in LEVELS)]
    for kind in TABLE:
        words = []
        for level in LEVELS:
            wait_for(lambda: world.cell(kind, level).lines, "a result", time_limit - time.monotonic())  # noqa: B023
            cell = world.cell(kind, level)
            is_tls = bool(cell.mails) and b"(using TLS" in cell.mails[0]
            words.append(("TLS" if is_tls else "plain") if cell.mails else "deferred")
        rows.append(f"{kind:12}" + "".join(f"{word:>12}" for word in words))
    print("\n".join(rows))

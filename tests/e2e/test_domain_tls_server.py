"""The running server follows DANE and REQUIRETLS, counts how TLS went, reports it and keeps the reports of others."""

from __future__ import annotations

import hashlib
import json
import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.message.host import Host
from ekiden.tls.dane import key_of
from ekiden.tls.policy import Problem, TlsOutcome
from ekiden.tls.tlsrpt import day_of
from ekiden.tls.tlsrpt_store import TlsrptStore
from support.certificates import Authority, self_signed
from support.peers import Peer, running_postfix
from support.requirements import require_conformance
from support.running import RunningServer, free_port, running_server, wait_for
from support.signed_dns import running_signed_dns
from support.tls_reports import report_in

ROOT = Authority()
RIGHT = self_signed("mx.signed.test")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Peer]]:
    """A server of ours, and a Postfix with a certificate that only DNS vouches for."""
    port = free_port()
    directory = tmp_path_factory.mktemp("domain-tls")
    chain = directory / "chain"
    chain.write_bytes(RIGHT.key_pem + RIGHT.pem)
    tlsa = f"3 1 1 {hashlib.sha256(key_of(RIGHT.der) or b'').hexdigest()}"
    zone = f"""\
@ MX 10 mx
bad MX 10 other
mx A 127.0.3.1
other A 127.0.3.1
_{port}._tcp.mx TLSA {tlsa}
_{port}._tcp.other TLSA 3 1 1 {"00" * 32}
_smtp._tls TXT "v=TLSRPTv1; rua=mailto:reports@signed.test"
_smtp._tls.bad TXT "v=TLSRPTv1; rua=mailto:reports@signed.test"
"""
    lines = (
        f"127.0.3.1:{port} inet n - n - - smtpd -o smtpd_tls_security_level=may -o smtpd_tls_chain_files={chain}",
        "tlsmgr unix - - n 1000? 1 tlsmgr",
    )
    settings = {
        "mynetworks": "127.0.0.0/8",
        "mydomain": "our.test",
        "inet_protocols": "ipv4",
        "smtp_tcp_port": str(port),
        "smtp_tls_security_level": "dane",
        "smtp_dns_support_level": "dnssec",
        "smtp_mta_sts_policy": "none",
        "smtp_tls_loglevel": "1",
        "smtp_tlsrpt_enable": "yes",
        "transport_maps": "inline:{ { tls@our.test = tlsrpt: } }",
        "smtpd_tls_security_level": "may",
    }
    with (
        running_signed_dns(
            directory / "dns", {"signed.test": zone}, unsigned={"plain.test": "@ MX 10 mx\nmx A 127.0.3.1"}
        ) as resolver,
        running_postfix(master_cf=lines) as postfix,
        running_server(main_cf={**settings, "dns_resolvers": resolver}, start=False) as server,
    ):
        certificate, key = ROOT.issue("mx.test").write(server.etc, "own")
        for path in (certificate, key):
            path.chmod(0o644)
        server.main_cf |= {"smtpd_tls_cert_file": str(certificate), "smtpd_tls_key_file": str(key)}
        server.write_configuration()
        server.start()
        yield server, postfix


def send(server: RunningServer, recipient: str, *options: str, header: str = "") -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.starttls(context=ssl._create_unverified_context())
        client.sendmail("s@plain.test", [recipient], f"Subject: x\r\n{header}\r\nHello\r\n", mail_options=options)


def status_of(server: RunningServer, recipient: str, status: str) -> str:
    """The log's line on how the last attempt for a recipient ended."""
    wait_for(
        lambda: any(f"to=<{recipient}>" in line and status in line for line in server.log.splitlines()),
        f"status={status} for {recipient}:\n{server.log}",
    )
    return next(line for line in server.log.splitlines() if f"to=<{recipient}>" in line and status in line)


def test_a_server_that_dns_vouches_for(world: tuple[RunningServer, Peer]) -> None:
    server, postfix = world
    send(server, "good@signed.test")
    status_of(server, "good@signed.test", "status=sent")
    assert "Verified TLS connection established to mx.signed.test[127.0.3.1]" in server.log
    (mail,) = postfix.wait_for_mail("good@signed.test")
    assert b"with ESMTPS id" in mail


def test_a_server_that_dns_does_not_know(world: tuple[RunningServer, Peer]) -> None:
    server, postfix = world
    send(server, "bad@bad.signed.test")
    assert "dsn=4.7.5" in status_of(server, "bad@bad.signed.test", "status=deferred")
    assert not postfix.mails("bad@bad.signed.test")
    # RFC 8689 §3: whoever sent this one would rather have it arrive.
    send(server, "urgent@bad.signed.test", header="TLS-Required: No\r\n")
    status_of(server, "urgent@bad.signed.test", "status=sent")
    postfix.wait_for_mail("urgent@bad.signed.test")


def test_requiretls_goes_back_from_where_it_cannot_be_had(world: tuple[RunningServer, Peer]) -> None:
    """Postfix does not offer it; and nobody proves the MX records of the other domain (RFC 8689 §4.2.1)."""
    server, postfix = world
    for recipient in ("secret@signed.test", "secret@plain.test"):
        send(server, recipient, "REQUIRETLS")
        assert "dsn=5.7.30" in status_of(server, recipient, "status=bounced")
        assert not postfix.mails(recipient)
    # The resolver knows no root here: as one that does not validate, for all that the server can see.
    server.wait_for_log("warning: DNSSEC validation may be unavailable: dnssec_probe 'ns:.' received a response")


def test_how_tls_went_is_counted_and_shown(world: tuple[RunningServer, Peer]) -> None:
    server, _ = world
    send(server, "counted@signed.test")
    status_of(server, "counted@signed.test", "status=sent")
    send(server, "counted@bad.signed.test")
    status_of(server, "counted@bad.signed.test", "status=deferred")
    assert server.command("tlsrpt", "send").stdout == "0 reports sent\n"  # the day is not over
    shown = server.command("tlsrpt", "show", "--json")
    reports = {
        result["policy"]["policy-domain"]: result
        for report in map(json.loads, shown.stdout.splitlines())
        for result in report["policies"]
        if result["policy"]["policy-type"] == "tlsa"
    }
    good, bad = reports["signed.test"], reports["bad.signed.test"]
    assert good["summary"]["total-successful-session-count"] >= 1
    assert good["policy"]["policy-string"][0].startswith("3 1 1 ")
    assert bad["summary"]["total-failure-session-count"] >= 1
    assert bad["failure-details"][0]["receiving-mx-hostname"] == "other.signed.test"
    assert "signed.test: tlsa signed.test: " in server.command("tlsrpt", "show").stdout


def test_a_report_reaches_whoever_asked_for_it(world: tuple[RunningServer, Peer]) -> None:
    """Two days of counts, of which one is over; the mail passes the queue and TLS as any other."""
    server, postfix = world
    yesterday = time.time() - 86_400
    path = server.queue / "tls" / "tlsrpt.sqlite"
    store = TlsrptStore(path, limit=100, time=lambda: yesterday, warn=pytest.fail)
    host = Host("mx.signed.test", "127.0.3.1", 25)
    store.none("signed.test", host, TlsOutcome())
    store.none("signed.test", host, TlsOutcome(Problem.EXPIRED))
    store.none("plain.test", host, TlsOutcome())  # asks for none
    store.close()
    assert server.command("tlsrpt", "send").stdout == "1 reports sent\n"
    (mail,) = postfix.wait_for_mail("reports@signed.test")
    report = report_in(mail)
    assert report.date_range.start_datetime == f"{day_of(yesterday)}T00:00:00Z"
    assert report.policies[0].summary.total_successful_session_count == 1
    assert report.policies[0].failure_details[0].result_type == "certificate-expired"
    assert b"\nTLS-Required: No\n" in mail
    assert server.command("tlsrpt", "send").stdout == "0 reports sent\n"
    assert {entry.stat().st_uid for entry in path.parent.iterdir()} == {path.stat().st_uid}


def test_reports_of_others_are_kept(world: tuple[RunningServer, Peer]) -> None:
    server, _ = world
    path: Path = require_conformance("mta-sts-tlsrpt-dane", "tlsrpt-reports", "mail-auth", "rpt01.eml")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.sendmail("reporter@plain.test", ["tls@our.test"], b"\r\n".join(path.read_bytes().splitlines()))
    status_of(server, "tls@our.test", "status=sent")
    done = server.command("tlsrpt", "received", "--json")
    (line,) = done.stdout.splitlines()
    kept = json.loads(line)
    assert kept["sender"] == "reporter@plain.test"
    assert kept["report"]["policies"]
    assert "from " in server.command("tlsrpt", "received").stdout

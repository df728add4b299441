"""LMTP to a real Dovecot: over a unix socket and TCP, for virtual and local users, with a mailbox that fills up."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.dovecot import Dovecot, running_dovecot
from support.honours import honours
from support.running import running_server, wait_for

BODY = "Subject: %s\r\nFrom: s@sender.test\r\n\r\n%s\r\n"


def send(port: int, subject: str, *recipients: str, size: int = 10) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("s@sender.test", recipients, BODY % (subject, "x" * 70 + ("\r\n" + "y" * 70) * (size // 72)))


@pytest.fixture
def dovecot(reachable_path: Path) -> Iterator[Dovecot]:
    with running_dovecot(reachable_path / "dovecot") as started:
        yield started


@pytest.mark.parametrize("over", ["unix", "tcp"])
def test_mail_for_virtual_and_local_users(dovecot: Dovecot, over: str) -> None:
    way = f"lmtp:unix:{dovecot.socket}" if over == "unix" else f"lmtp:inet:127.0.0.1:{dovecot.port}"
    settings = {
        "virtual_mailbox_domains": "v.test",
        "virtual_transport": way,
        "mydestination": "here.test, mx.test",
        "local_recipient_maps": "",
        "alias_maps": "inline:{ { team = root, carol } }",
        "mailbox_transport": way,
        "default_transport": "discard",
    }
    with running_server(main_cf=settings) as server:
        send(server.port, "several", "a@v.test", "b@v.test", "team@here.test")
        wait_for(lambda: all(len(dovecot.mails(user)) == 1 for user in ("a", "b", "root", "carol")), server.log)
        for user, recipient in (("a", "a@v.test"), ("root", "team@here.test")):
            [mail] = dovecot.mails(user)
            assert b"Subject: several\n" in mail.replace(b"\r\n", b"\n"), recipient
        wait_for(lambda: server.log.count("status=sent") == 3, "a result for each of three recipients")


def test_a_full_mailbox_is_told_to_the_sender(dovecot: Dovecot) -> None:
    """A9.13: 552 5.2.2 of the mailbox server becomes a notification with status 5.2.2; the others get their mail."""
    settings = {
        "virtual_mailbox_domains": "v.test, sender.test",
        "virtual_transport": f"lmtp:unix:{dovecot.socket}",
    }
    with running_server(main_cf=settings) as server:
        send(server.port, "big", "full@v.test", size=15_000)
        wait_for(lambda: len(dovecot.mails("full")) == 1, server.log)
        send(server.port, "too much", "full@v.test", "empty@v.test", size=15_000)
        wait_for(lambda: dovecot.mails("s") and dovecot.mails("empty"), f"the notification:\n{server.log}")
        server.wait_for_log("dsn=5.2.2, status=bounced")
        assert "552 5.2.2 <full@v.test> Quota exceeded" in server.log
        [report] = dovecot.mails("s")
        assert b"Status: 5.2.2" in report
        assert b"full@v.test" in report
        assert len(dovecot.mails("full")) == 1


@honours("lmtp_tls_security_level", "lmtp_tls_CAfile")
@pytest.mark.parametrize(("name", "arrives"), [("localhost", True), ("other.test", False)])
def test_lmtp_through_tls_to_the_server_that_is_meant(reachable_path: Path, name: str, arrives: bool) -> None:
    root = Authority()
    authority = reachable_path / "root.pem"
    authority.write_bytes(root.pem)
    certificate = root.issue(name).write(reachable_path, "server")
    with running_dovecot(reachable_path / "dovecot", certificate) as dovecot:
        settings = {
            "virtual_mailbox_domains": "v.test",
            "virtual_transport": f"lmtp:inet:localhost:{dovecot.port}",
            "inet_protocols": "ipv4",
            "lmtp_host_lookup": "native",
            "lmtp_tls_security_level": "verify",
            "lmtp_tls_CAfile": str(authority),
            "lmtp_tls_loglevel": "1",
        }
        with running_server(main_cf=settings) as server:
            send(server.port, "sealed", "a@v.test")
            if arrives:
                wait_for(lambda: dovecot.mails("a"), f"mail:\n{server.log}")
                server.wait_for_log(
                    f"Verified TLS connection established to localhost[127.0.0.1]:{dovecot.port}: TLSv1.3"
                )
            else:
                server.wait_for_log("status=deferred (Server certificate not verified: its names are other.test,")
                assert not dovecot.mails("a")

"""LMTP to a real Cyrus over a unix socket: virtual and local users, unknown users, a mailbox that fills up."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cyrus import Cyrus, running_cyrus
from support.running import running_server, wait_for

BODY = "Subject: %s\r\nFrom: s@sender.test\r\n\r\n%s\r\n"
USERS = ("a@v.test", "b@v.test", "full@v.test", "s@sender.test", "carol")


def send(port: int, subject: str, *recipients: str, size: int = 10) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("s@sender.test", recipients, BODY % (subject, "x" * 70 + ("\r\n" + "y" * 70) * (size // 72)))


def settings(cyrus: Cyrus) -> dict[str, str]:
    way = f"lmtp:unix:{cyrus.socket}"
    return {
        "virtual_mailbox_domains": "v.test, sender.test",
        "virtual_transport": way,
        "mydestination": "here.test, mx.test",
        "local_recipient_maps": "",
        "alias_maps": "",
        "mailbox_transport": way,
        "default_transport": "discard",
    }


@pytest.fixture
def cyrus(reachable_path: Path) -> Iterator[Cyrus]:
    with running_cyrus(reachable_path / "cyrus", USERS, "here.test") as started:
        yield started


def test_mail_for_virtual_and_local_users(cyrus: Cyrus) -> None:
    with running_server(main_cf=settings(cyrus)) as server:
        send(server.port, "several", "A@v.test", "b@v.test", "carol@here.test")
        wait_for(lambda: server.log.count("status=sent (250 2.1.5") == 3, f"three results:\n{server.log}")
        for user in ("a@v.test", "b@v.test", "carol"):
            [mail] = cyrus.mails(user)
            assert b"Subject: several\r\n" in mail, user
            assert mail.endswith(b"x\r\n"), user


def test_an_unknown_user_is_told_to_the_sender_and_the_other_recipient_gets_the_mail(cyrus: Cyrus) -> None:
    """One transaction, a reply of several lines for one recipient of two: 550 5.1.1 becomes a notification."""
    with running_server(main_cf=settings(cyrus)) as server:
        send(server.port, "half", "nobody@v.test", "a@v.test")
        wait_for(lambda: cyrus.mails("s@sender.test"), f"the notification:\n{server.log}")
        [mail] = cyrus.mails("a@v.test")
        assert b"Subject: half\r\n" in mail
        server.wait_for_log("to=<nobody@v.test>")
        [line] = [line for line in server.log.splitlines() if "to=<nobody@v.test>" in line]
        assert "dsn=5.1.1, status=bounced" in line
        assert "said: 550 5.1.1 Mailbox unknown." in line
        assert "User unknown (in reply to RCPT TO command)" in line
        [report] = cyrus.mails("s@sender.test")
        assert b"Final-Recipient: rfc822; nobody@v.test\r\n" in report
        assert b"Status: 5.1.1\r\n" in report
        assert b"a@v.test" not in report
        assert not cyrus.mails("nobody@v.test")


@pytest.mark.parametrize("permanent", [False, True])
def test_a_full_mailbox_is_full_for_now_or_for_good_as_cyrus_says(reachable_path: Path, permanent: bool) -> None:
    """452 4.2.2, Cyrus's default, keeps the mail in the queue; 552 5.2.2 returns it. Others get theirs at once."""
    with (
        running_cyrus(reachable_path / "cyrus", USERS, "here.test", full_is_permanent=permanent) as cyrus,
        running_server(main_cf=settings(cyrus)) as server,
    ):
        send(server.port, "big", "full@v.test", size=15_000)
        wait_for(lambda: len(cyrus.mails("full@v.test")) == 1, server.log)
        send(server.port, "too much", "full@v.test", "a@v.test", size=15_000)
        result = "dsn=5.2.2, status=bounced" if permanent else "dsn=4.2.2, status=deferred"
        server.wait_for_log(result)
        wait_for(lambda: len(cyrus.mails("a@v.test")) == 1, server.log)
        [line] = [line for line in server.log.splitlines() if result in line]
        assert "to=<full@v.test>" in line
        assert ("552 5.2.2 Over quota" if permanent else "452 4.2.2 Over quota") in line
        if permanent:
            wait_for(lambda: cyrus.mails("s@sender.test"), f"the notification:\n{server.log}")
            [report] = cyrus.mails("s@sender.test")
            assert b"Status: 5.2.2\r\n" in report
        else:
            assert not cyrus.mails("s@sender.test")
        assert len(cyrus.mails("full@v.test")) == 1

"""BINARYMIME (RFC 3030 §3) from a client to a mailbox: not a byte of the binary part changes on the way."""

from __future__ import annotations

import email
import os
import smtplib
from pathlib import Path

import pytest

from support.requirements import require_root
from support.running import RunningServer, running_server, wait_for

HEAD = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n"


@pytest.mark.parametrize("size", [2_000, 2_000_000])
def test_binary_mail_reaches_a_mailbox_whole(reachable_path: Path, size: int) -> None:
    require_root()
    mail = reachable_path / "mail"
    mail.mkdir()
    os.chown(mail, 65534, 65534)
    settings = {
        "virtual_mailbox_domains": "v.test", "virtual_mailbox_maps": "static:all/", "virtual_mailbox_base": str(mail),
        "virtual_uid_maps": "static:65534", "virtual_gid_maps": "static:65534", "virtual_minimum_uid": "100",
    }  # fmt: skip
    body = (bytes(range(256)) + b"\r\n\n\r.\r\n") * (size // 263)
    with running_server(main_cf=settings) as server:
        _send(server, HEAD + body)
        wait_for(lambda: list(mail.glob("all/new/*")), f"the message:\n{server.log}")
        [found] = mail.glob("all/new/*")
        message = email.message_from_bytes(found.read_bytes())
        assert message["Content-Transfer-Encoding"] == "base64"
        assert message.get_payload(decode=True) == body
        server.wait_for_log(": removed")
        assert not list(server.queue.glob("shards/*/content/*"))


def _send(server: RunningServer, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.ehlo("client.example")
        client.mail("ann@one.example", ["BODY=BINARYMIME"])
        client.rcpt("bob@v.test")
        client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        assert client.getreply()[0] == 250

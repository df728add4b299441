"""The real Postfix and the real Exim take mail from a running server, and send it to one."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from support.peers import Peer, running_exim, running_postfix
from support.recording_sink import recording_sink
from support.running import running_server

RunningPeer = Callable[..., AbstractContextManager[Peer]]

MAIL = b"Subject: hello\r\nFrom: a@b.test\r\n\r\nbody\r\n"


@pytest.mark.parametrize("peer", [running_postfix, running_exim])
def test_mail_goes_to_a_peer(peer: RunningPeer) -> None:
    with peer() as next_hop, running_server(main_cf={"relayhost": f"[127.0.0.1]:{next_hop.port}"}) as server:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
            client.sendmail("a@b.test", ["c@d.test"], MAIL)
        [mail] = next_hop.wait_for_mail("c@d.test")
        assert b"Subject: hello\n" in mail
        server.wait_for_log("status=sent (250 ")


@pytest.mark.parametrize("peer", [running_postfix, running_exim])
def test_mail_comes_from_a_peer(peer: RunningPeer) -> None:
    with recording_sink() as sink, running_server(main_cf={"relayhost": sink.next_hop}) as server:
        with peer(next_hop=f"127.0.0.1:{server.port}") as sender:
            with smtplib.SMTP("127.0.0.1", sender.port, timeout=20) as client:
                client.sendmail("a@b.test", ["c@d.test"], MAIL)
            [mail] = sink.messages(1)
        assert mail.sender == "a@b.test"
        assert mail.recipients == ("c@d.test",)
        assert mail.field("Subject") == "hello"

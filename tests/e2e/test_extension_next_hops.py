"""Each extension that a real Postfix and a real Exim know, as next hops: offered, and not offered.

The messages go in by SMTP as a client would send them, and what the peer took is read from its mailbox and its log.
"""

from __future__ import annotations

import contextlib
import email
import smtplib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import pytest

from support.peers import Peer, running_exim, running_postfix
from support.running import RunningServer, running_server, wait_for

SENDER, RECIPIENT = "ann@one.example", "bob@two.example"
PLAIN = b"Subject: hello\r\nFrom: ann@one.example\r\nTo: bob@two.example\r\n\r\nbody\r\n"
EIGHT_BIT = (
    "Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\ngr\u00fc\u00dfe and much plain text around it\r\n"
).encode()
UTF8_HEADER = PLAIN.replace(b"hello", "gr\u00fc\u00dfe".encode())

Running = Callable[[Sequence[str]], AbstractContextManager[Peer]]


def postfix(without: Sequence[str] = ()) -> AbstractContextManager[Peer]:
    settings = {"smtpd_discard_ehlo_keywords": ", ".join(without), "message_size_limit": "100000"}
    if "smtputf8" in without:
        settings["smtputf8_enable"] = "no"
    return running_postfix(settings)


_EXIM_OPTIONS = {
    "8bitmime": "accept_8bitmime = false",
    "chunking": "chunking_advertise_hosts =",
    "dsn": "dsn_advertise_hosts =",
    "smtputf8": "smtputf8_advertise_hosts =",
    "pipelining": "pipelining_advertise_hosts =",
}


def exim(without: Sequence[str] = ()) -> AbstractContextManager[Peer]:
    return running_exim(["message_size_limit = 100000", *(_EXIM_OPTIONS[word] for word in without)])


both = pytest.mark.parametrize("peer", [postfix, exim])


@contextlib.contextmanager
def relaying(peer: Running, without: Sequence[str] = (), **settings: str) -> Iterator[tuple[RunningServer, Peer]]:
    with peer(without) as next_hop:
        main_cf = {"relayhost": f"[127.0.0.1]:{next_hop.port}", "myhostname": "relay.example", **settings}
        with running_server(main_cf=main_cf) as server:
            yield server, next_hop
            assert "Traceback" not in server.output + server.log


def send(
    server: RunningServer, content: bytes = PLAIN, *, to: str = RECIPIENT, sender: str = SENDER,
    mail: Sequence[str] = (), rcpt: Sequence[str] = (),
) -> None:  # fmt: skip
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.ehlo("client.example")
        client.sendmail(sender, [to], content, mail_options=mail, rcpt_options=rcpt)


def chunked(next_hop: Peer) -> bool:
    """Postfix counts commands when a client goes; Exim marks a message that came by BDAT."""
    return "bdat=1" in next_hop.log or " K S=" in next_hop.log


@both
def test_chunking(peer: Running) -> None:
    with relaying(peer) as (server, next_hop):
        send(server)
        send(server, PLAIN + b"x" * 70 + (b"\r\n.\r\n" + b"y" * 70) * 900 + b"\r\n", to="large@two.example")
        [mail] = next_hop.wait_for_mail(RECIPIENT)
        assert mail.endswith(b"\n\nbody\n") or mail.endswith(b"\n\nbody\n\n")
        [mail] = next_hop.wait_for_mail("large@two.example")
        assert mail.count(b"\n.\n" + b"y" * 70) == 900
        assert server.stop() == 0
        wait_for(lambda: chunked(next_hop), f"BDAT in the log:\n{next_hop.log}")


@both
def test_without_chunking_or_pipelining(peer: Running) -> None:
    with relaying(peer, ["chunking", "pipelining"]) as (server, next_hop):
        send(server)
        next_hop.wait_for_mail(RECIPIENT)
        assert server.stop() == 0
        wait_for(lambda: "data=1" in next_hop.log or "Completed" in next_hop.log, "the end of the session")
        assert not chunked(next_hop)


@both
def test_8_bit_content_goes_as_it_is(peer: Running) -> None:
    with relaying(peer) as (server, next_hop):
        send(server, EIGHT_BIT, mail=["BODY=8BITMIME"])
        [mail] = next_hop.wait_for_mail(RECIPIENT)
        assert "gr\u00fc\u00dfe and much".encode() in mail


@both
def test_8_bit_content_for_a_server_without_8bitmime(peer: Running) -> None:
    with relaying(peer, ["8bitmime"]) as (server, next_hop):
        send(server, EIGHT_BIT, mail=["BODY=8BITMIME"])
        [mail] = next_hop.wait_for_mail(RECIPIENT)
        assert mail.isascii()
        message = email.message_from_bytes(mail)
        assert message["Content-Transfer-Encoding"] == "quoted-printable"
        assert "gr\u00fc\u00dfe and much plain text" in message.get_payload(decode=True).decode()  # type: ignore[union-attr]


@both
def test_binary_content(peer: Running) -> None:
    """Neither knows BINARYMIME: it arrives as base64."""
    head = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    body = bytes(range(256)) * 5
    with relaying(peer) as (server, next_hop):
        with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
            client.ehlo("client.example")
            client.mail(SENDER, ["BODY=BINARYMIME"])
            client.rcpt(RECIPIENT)
            content = head + body
            client.send(b"BDAT %d LAST\r\n" % len(content) + content)
            assert client.getreply()[0] == 250
        [mail] = next_hop.wait_for_mail(RECIPIENT)
        assert email.message_from_bytes(mail).get_payload(decode=True) == body


@both
def test_international_addresses(peer: Running) -> None:
    with relaying(peer) as (server, next_hop):
        send(server, UTF8_HEADER, to="j\u00f6rg@b\u00fccher.example", mail=["SMTPUTF8", "BODY=8BITMIME"])
        wait_for(lambda: "status=" in server.log, "a result")
        assert "status=sent" in server.log, server.log
        wait_for(lambda: any("gr\u00fc\u00dfe".encode() in mail for mail in next_hop.all_mails()), next_hop.log)


@both
def test_international_mail_for_a_server_without_smtputf8(peer: Running) -> None:
    """A domain goes in A-labels; what needs more comes back, in a report that its sender can read."""
    with relaying(peer, ["smtputf8"]) as (server, next_hop):
        send(server, to="bob@b\u00fccher.example", mail=["SMTPUTF8"])
        next_hop.wait_for_mail("bob@xn--bcher-kva.example")
        send(server, to="j\u00f6rg@b\u00fccher.example", mail=["SMTPUTF8"])
        server.wait_for_log("dsn=5.6.7, status=bounced (SMTPUTF8 is required, but was not offered by host")


@both
def test_reports_of_success_are_the_next_systems_where_it_knows_dsn(peer: Running) -> None:
    with relaying(peer) as (server, next_hop):
        send(server, mail=["RET=HDRS", "ENVID=QQ+2B1"], rcpt=["NOTIFY=SUCCESS", "ORCPT=rfc822;robert+2Bx@two.example"])
        next_hop.wait_for_mail(RECIPIENT)
        server.wait_for_log(": removed")
        assert "notification" not in server.log
        if peer is postfix:  # Exim keeps quiet about what it put into a file
            [report] = next_hop.wait_for_mail(SENDER)
            assert b"\nOriginal-Envelope-Id: QQ+1\n" in report
            assert b"\nAction: delivered\n" in report
            assert b"robert+x@two.example" in report or b"robert+2Bx@two.example" in report


@both
def test_reports_of_success_are_ours_where_the_next_system_knows_no_dsn(peer: Running) -> None:
    """RFC 3461 §5.2.2: "relayed"."""
    with relaying(peer, ["dsn"]) as (server, next_hop):
        send(server, mail=["RET=FULL", "ENVID=QQ+2B1"], rcpt=["NOTIFY=SUCCESS", "ORCPT=rfc822;robert@two.example"])
        [report] = next_hop.wait_for_mail(SENDER)
        assert b"\nOriginal-Envelope-Id: QQ+1\n" in report
        assert b"\nOriginal-Recipient: rfc822; robert@two.example\n" in report
        assert b"\nAction: relayed\n" in report
        assert b"\nbody\n" not in report  # RET speaks of failures only
        send(server, to="carl@two.example", rcpt=["NOTIFY=NEVER"])
        next_hop.wait_for_mail("carl@two.example")
        assert server.log.count("notification") == 1


@both
def test_a_message_that_is_larger_than_the_server_takes_is_not_sent(peer: Running) -> None:
    with relaying(peer) as (server, next_hop):
        send(server, PLAIN + b"x" * 70 * 2000 + b"\r\n")
        server.wait_for_log("exceeds size limit 100000 of server")
        [report] = next_hop.wait_for_mail(SENDER)
        assert b"\nStatus: 5.3.4\n" in report

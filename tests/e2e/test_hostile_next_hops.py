"""Next hops that stall, reset, talk nonsense and refuse; DNS that fails: the message stays, or its sender is told."""

from __future__ import annotations

import contextlib
import email
import json
import os
import re
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from support.fake_peer import Act, Answer, Script
from support.peer_thread import peer_in_thread
from support.running import RunningServer, free_port, running_server, wait_for
from support.smtp_socket import SmtpSocket

PATIENCE = {
    f"smtp_{step}_timeout": "1s"
    for step in (
        "connect", "helo", "mail", "rcpt", "data_init", "data_xfer", "data_done", "rset", "quit",
    )
}  # fmt: skip
SENDER, RECIPIENT = "ann@one.example", "bob@two.example"


@contextlib.contextmanager
def server_with(**settings: str) -> Iterator[RunningServer]:
    """The sender's mailbox is here, so that what comes back can be read: mailboxes/ann/."""
    uid, gid = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    with running_server(start=False) as server:
        mailboxes = server.directory / "mailboxes"
        mailboxes.mkdir()
        os.chown(mailboxes, uid, gid)
        server.main_cf |= {
            "myhostname": "mail.one.example",
            "worker_processes": "1",
            "virtual_mailbox_domains": "one.example",
            "virtual_mailbox_maps": "inline:{ {ann@one.example=ann/} }",
            "virtual_mailbox_base": str(mailboxes),
            "virtual_uid_maps": f"static:{uid}",
            "virtual_gid_maps": f"static:{gid}",
            "virtual_minimum_uid": "1",
            **PATIENCE,
            **settings,
        }
        server.write_configuration()
        yield server.start()
        assert server.stop() == 0
        assert "Traceback" not in server.output + server.log
        assert " error: " not in server.log


def send(server: RunningServer, *recipients: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> str:
    with SmtpSocket(server.port) as client:
        client.greet()
        answer = client.mail(SENDER, *(recipients or (RECIPIENT,)), content=content)
        assert answer.startswith("250 2.0.0 Ok: queued as "), answer
        return answer.rsplit(" ", 1)[1]


def queued(server: RunningServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.command("mailq", "--json").stdout.splitlines()]


def returned(server: RunningServer) -> list[Message]:
    new = server.directory / "mailboxes" / "ann" / "new"
    return [email.message_from_bytes(path.read_bytes()) for path in sorted(new.iterdir())] if new.exists() else []


def reports(message: Message) -> list[dict[str, str]]:
    """The per-recipient fields of a delivery status notification (RFC 3464 §2.3)."""
    assert message.get_content_type() == "multipart/report"
    parts = message.get_payload()
    assert isinstance(parts, list)
    status = parts[1]
    assert isinstance(status, Message)
    assert status.get_content_type() == "message/delivery-status"
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    return [{name.lower(): str(value) for name, value in block.items()} for block in blocks[1:]]  # type: ignore[union-attr]


MEGABYTE_OF_LINES = b"250-" + b"x" * 500 + b"\r\n"

STAYS: dict[str, tuple[Script, str]] = {
    "stalls before its greeting": ({"GREETING": Act.STALL}, r"timed out|timeout"),
    "stalls at EHLO": ({"EHLO": Act.STALL}, r"timed out|timeout"),
    "stalls at MAIL": ({"MAIL": Act.STALL}, r"timed out|timeout"),
    "stalls at the dot": ({"DOT": Act.STALL}, r"timed out|timeout"),
    "resets at the greeting": ({"GREETING": Act.RESET}, r"lost connection|reset"),
    "resets at RCPT": ({"RCPT": Act.RESET}, r"lost connection|reset"),
    "closes at DATA": ({"DATA": Act.CLOSE}, r"lost connection|closed"),
    "closes after the dot": ({"DOT": Act.CLOSE}, r"lost connection|closed"),
    "greets with nonsense": ({"GREETING": b"\x16\x03\x01\x02\x00\r\n"}, r"protocol|malformed|reply|greeting"),
    "answers with nonsense": ({"MAIL": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, r"protocol|malformed|reply"),
    "a line without end": ({"EHLO": (b"250 " + b"y" * 100_000, Act.STALL)}, r"protocol|too long|reply"),
    "a megabyte of reply": ({"EHLO": (MEGABYTE_OF_LINES * 2000, Act.STALL)}, r"protocol|too l|reply"),
    "half a reply": ({"MAIL": (b"250-half\r\n", Act.STALL)}, r"timed out|timeout"),
    "mixed codes": ({"MAIL": b"250-one\r\n550 two\r\n"}, r"protocol|malformed|reply|said"),
    "a status without text": ({"RCPT": b"450 4.2.0\r\n"}, r"450 4\.2\.0"),
    "421 at RCPT": ({"RCPT": (b"421 4.3.2 going down\r\n", Act.CLOSE)}, r"421 4\.3\.2 going down"),
    "terminal escapes": ({"RCPT": b"451 4.0.0 \x1b[2J\x07\xff\xfe\r\n"}, r"451 4\.0\.0"),
}


@pytest.fixture(scope="module")
def slow_hops() -> Iterator[RunningServer]:
    """One server for all of them: each has a domain, and a way, of its own."""
    with contextlib.ExitStack() as stack:
        ways: list[str] = []
        for number, (script, _) in enumerate(STAYS.values()):
            peer = stack.enter_context(peer_in_thread(script))
            ways.append(f"{{hop{number}.example=smtp:[127.0.0.1]:{peer.port}}}")
        server = stack.enter_context(server_with(transport_maps="inline:{ " + " ".join(ways) + " }"))
        started = time.monotonic()
        for number in range(len(STAYS)):
            send(server, f"bob@hop{number}.example")
        wait_for(
            lambda: all(message["queue_name"] == "deferred" for message in queued(server)), "all to be deferred", 30
        )
        assert time.monotonic() - started < 30
        yield server


@pytest.mark.parametrize("name", STAYS)
def test_the_message_stays_with_a_reason(name: str, slow_hops: RunningServer) -> None:
    number, (_, words) = list(STAYS).index(name), STAYS[name]
    (entry,) = [
        message for message in queued(slow_hops) if message["recipients"][0]["address"] == f"bob@hop{number}.example"
    ]
    reason = entry["recipients"][0]["delay_reason"]
    assert re.search(words, reason), reason
    assert len(reason) < 2000
    assert re.search(
        rf"{entry['queue_id']}: to=<bob@hop{number}\.example>, .*dsn=4\.\d\.\d, status=deferred \(", slow_hops.log
    )


def test_the_listing_of_what_waits_is_plain_text(slow_hops: RunningServer) -> None:
    listing = slow_hops.command("mailq").stdout
    assert f"in {len(STAYS)} Requests." in listing
    assert all(char.isprintable() or char == "\n" for char in listing)
    assert not returned(slow_hops)


def test_memory_is_bounded(slow_hops: RunningServer) -> None:
    status = Path(f"/proc/{slow_hops.children()['worker 0']}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    assert int(found[1]) < 100_000


# -- refused for good


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ({"MAIL": b"550 5.7.1 not from you\r\n"}, "5.7.1", "550 5.7.1 not from you"),
        ({"RCPT": b"550-5.1.1 no such\r\n550 5.1.1 user here\r\n"}, "5.1.1", "550"),
        ({"DATA": b"554 5.6.0 no\r\n"}, "5.6.0", "554 5.6.0 no"),
        ({"DOT": b"552 5.3.4 too large\r\n"}, "5.3.4", "552 5.3.4 too large"),
        ({"RCPT": b"550\r\n"}, "5.0.0", "550"),
    ],
    ids=["MAIL", "RCPT", "DATA", "DOT", "without words"],
)
def test_a_refusal_comes_back_to_the_sender(script: Script, status: str, words: str) -> None:
    with peer_in_thread(script) as peer, server_with(relayhost=f"[127.0.0.1]:{peer.port}") as server:
        queue_id = send(server)
        wait_for(lambda: returned(server), "the notification")
        (notification,) = returned(server)
        assert notification["Return-Path"] == "<>"
        assert notification["To"] == SENDER
        (report,) = reports(notification)
        assert report["action"] == "failed"
        assert report["status"] == status
        assert report["final-recipient"].replace(" ", "") == f"rfc822;{RECIPIENT}"
        assert words in report["diagnostic-code"]
        wait_for(lambda: not queued(server), "an empty queue")
        server.wait_for_log(f"{queue_id}: sender non-delivery notification: ")
        assert re.search(rf"{queue_id}: to=<{RECIPIENT}>, .*dsn={re.escape(status)}, status=bounced \(", server.log)


def test_each_recipient_has_a_fate_of_its_own() -> None:
    def rcpt(line: bytes) -> Answer:
        return (
            b"550 5.1.1 no\r\n"
            if b"<no" in line
            else b"450 4.2.1 later\r\n"
            if b"<later" in line
            else b"250 2.1.5 Ok\r\n"
        )

    with peer_in_thread({"RCPT": rcpt}) as peer, server_with(relayhost=f"[127.0.0.1]:{peer.port}") as server:
        names = [f"{kind}{number}@two.example" for kind in ("yes", "no", "later") for number in range(3)]
        send(server, *names)
        wait_for(lambda: returned(server), "the notification")
        assert sorted(report["final-recipient"].split(";")[1].strip() for report in reports(returned(server)[0])) == [
            f"no{number}@two.example" for number in range(3)
        ]
        wait_for(lambda: [message["queue_name"] for message in queued(server)] == ["deferred"], "the rest to wait")
        (entry,) = queued(server)
        assert sorted(recipient["address"] for recipient in entry["recipients"]) == [
            f"later{number}@two.example" for number in range(3)
        ]
        assert len(peer.contents) == 1


def test_the_lost_reply_is_the_only_way_to_a_second_copy() -> None:
    """The next hop took it, and the connection ended before its 250: sent again, never lost."""
    script: Script = {"DOT": [Act.CLOSE, b"250 2.0.0 Ok\r\n"]}
    with peer_in_thread(script) as peer, server_with(relayhost=f"[127.0.0.1]:{peer.port}") as server:
        send(server)
        wait_for(lambda: [message["queue_name"] for message in queued(server)] == ["deferred"], "a deferral")
        assert server.command("flush").returncode == 0
        wait_for(lambda: len(peer.contents) == 2, "the second copy")
        wait_for(lambda: not queued(server), "an empty queue")
        assert peer.contents[0] == peer.contents[1]


def test_a_next_hop_that_is_not_there_is_left_alone_for_a_while() -> None:
    with server_with(relayhost=f"[127.0.0.1]:{free_port()}") as server:
        for _ in range(3):
            send(server)
        wait_for(lambda: [message["queue_name"] for message in queued(server)] == ["deferred"] * 3, "deferrals")
        assert "Connection refused" in queued(server)[0]["recipients"][0]["delay_reason"]


# -- DNS


def test_mail_stays_when_dns_fails() -> None:
    with server_with(dns_resolvers=f"127.0.0.1:{free_port()}", dns_timeout="1s", dns_tries="1") as server:
        send(server)
        wait_for(lambda: [message["queue_name"] for message in queued(server)] == ["deferred"], "a deferral")
        reason = queued(server)[0]["recipients"][0]["delay_reason"]
        assert "two.example" in reason, reason
        assert re.search(r"dsn=4\.4\.3, status=deferred", server.log), server.log
        assert not returned(server)


def test_old_mail_goes_back() -> None:
    settings = {"maximal_queue_lifetime": "0", "relayhost": f"[127.0.0.1]:{free_port()}"}
    with server_with(**settings) as server:
        send(server)
        wait_for(lambda: returned(server), "the notification")
        (report,) = reports(returned(server)[0])
        assert report["action"] == "failed"
        assert report["status"].startswith("4.4.")
        wait_for(lambda: not queued(server), "an empty queue")


def test_a_late_message_is_told_of() -> None:
    settings = {
        "delay_warning_time": "1s", "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
        "queue_run_delay": "1s", "relayhost": f"[127.0.0.1]:{free_port()}",
    }  # fmt: skip
    with server_with(**settings) as server:
        send(server)
        wait_for(lambda: returned(server), "the warning")
        (report,) = reports(returned(server)[0])
        assert report["action"] == "delayed"
        assert [message["sender"] for message in queued(server)] == [SENDER]

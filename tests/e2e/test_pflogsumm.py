"""pflogsumm, which knows nothing of Ekiden, counts our mail log right."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.delivery import DeliveryResult, deferred, delivered, expanded, failed, relayed
from ekiden.message.envelope import Client
from ekiden.message.status import Status
from ekiden.observe.events import (
    Accepting,
    Activated,
    Attempted,
    Connected,
    Disconnected,
    Event,
    Expired,
    MessageId,
    Note,
    Notified,
    PickedUp,
    Rejected,
    Removed,
)
from ekiden.observe.log import MailLog
from support.requirements import require_program

CLIENT = Client("mail.client.example", "192.0.2.7", "mail.client.example", "ESMTP")
SPAMMER = Client("unknown", "198.51.100.9", "x reject: RCPT from y: 1 z", "ESMTP")
SENT = relayed(Status(2, 0, 0), "250 2.0.0 Ok: queued as 5F", relay="mx.far.example[203.0.113.5]:25")
STORED = delivered(Status(2, 0, 0), "delivered to maildir", relay="virtual")
LATER = deferred(Status(4, 4, 1), "connect to mx.slow.example[203.0.113.6]:25: Connection timed out")
# A next hop that tries to forge the beginning of another message in its reply.
NO = failed(
    Status(5, 1, 1),
    "host mx.far.example[203.0.113.5] said: 550 5.1.1 from=<forged@x.example>, size=99999999 (in reply to RCPT TO)",
    relay="mx.far.example[203.0.113.5]:25",
)


def message(
    queue_id: str, sender: str, size: int, *results: tuple[str, str, DeliveryResult], done: bool = True
) -> Iterator[Event]:
    """A message by SMTP: (transport, recipient, result) for each of its attempts."""
    yield Connected(CLIENT)
    yield Accepting(queue_id, CLIENT)
    yield MessageId(queue_id, f"<{queue_id}@client.example>")
    yield Activated(queue_id, sender, size, len(results))
    yield Disconnected(
        CLIENT, {"ehlo": (1, 1), "mail": (1, 1), "rcpt": (1, 1), "data": (1, 1), "quit": (1, 1)}, received=1
    )
    for transport, recipient, result in results:
        yield Attempted(queue_id, transport, recipient, result, 1.5, (0.2, 0.01, 0.3, 0.99))
    if done:
        yield Removed(queue_id)


def day() -> Iterator[Event]:
    yield from message(
        "4Q0001", "ann@one.example", 1000, ("smtp", "a@far.example", SENT), ("smtp", "b@far.example", SENT)
    )
    yield from message("4Q0002", "bob@two.example", 2500, ("virtual", "c@here.example", STORED))
    yield from message("4Q0003", "ann@one.example", 500, ("smtp", "d@slow.example", LATER), done=False)
    yield Attempted("4Q0003", "smtp", "d@slow.example", LATER, 400.0, (399.0, 0, 1.0, 0))
    yield from message("4Q0004", "bob@two.example", 700, ("smtp", "nobody@far.example", NO))
    yield Notified("4Q0004", "non-delivery", "4Q0005")
    yield Activated("4Q0005", "", 3000, 1)
    yield Attempted("4Q0005", "smtp", "bob@two.example", SENT, 0.1, (0, 0, 0.05, 0.05))
    yield Removed("4Q0005")
    # A message of the sendmail command to an alias that forwards.
    yield PickedUp("4Q0006", 1000, "carl")
    yield MessageId("4Q0006", "<x reject: header y: z@client.example>")
    yield Activated("4Q0006", "carl@here.example", 300, 1)
    yield Attempted(
        "4Q0006", "local", "root@here.example", expanded(Status(2, 0, 0), "forwarded as 4Q0007", relay="local"),
        0.02, (0.01, 0, 0, 0.01),
    )  # fmt: skip
    yield Removed("4Q0006")
    yield Expired("4Q0003", "ann@one.example")
    for number in range(3):
        recipient = f"victim{number}@elsewhere.example"
        yield Rejected(
            SPAMMER, "RCPT", f"554 5.7.1 <{recipient}>: Relay access denied", "relay-denied",
            "spam@bad.example", recipient,
        )  # fmt: skip
    yield Rejected(SPAMMER, "RCPT", "550 5.1.1 <u@here.example>: Recipient address rejected: User unknown",
                   "unknown-user", "", "u@here.example")  # fmt: skip
    yield Note("smtpd", "hostname wrong.example does not resolve to address 192.0.2.1", "warning")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = require_program("pflogsumm")
    path = tmp_path_factory.mktemp("log") / "mail.log"
    log = MailLog(Parameters({"maillog_file": str(path)}), hostname="mx", pid=4711, clock_time=lambda: 1_795_000_000.5)
    for event in day():
        log.emit(event)
    log.close()
    return _summed_up(program, path)


def _summed_up(program: str, path: Path) -> str:
    command = [program, "--smtpd-stats", "--verbose-msg-detail", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return done.stdout


def total(report: str, what: str) -> str:
    found = re.search(rf"^ +(\d+k?m?) +{re.escape(what)}(?: .*)?$", report, re.MULTILINE)
    assert found is not None, f"no {what!r} in:\n{report}"
    return found[1]


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("received", "5"),
        ("delivered", "4"),
        ("forwarded", "1"),
        ("deferred", "1"),
        ("bounced", "1"),
        ("rejected", "4"),
        ("held", "0"),
        ("discarded", "0"),
        ("bytes received", "5000"),
        ("bytes delivered", "7500"),
        ("senders", "3"),
        ("sending hosts/domains", "3"),
        ("recipients", "4"),
        ("recipient hosts/domains", "3"),
        ("connections", "4"),
    ],
)
def test_totals(report: str, what: str, count: str) -> None:
    assert total(report, what) == count


def section(report: str, title: str) -> str:
    begin = report.index(title)
    return report[begin : report.find("\n\n", report.index("\n", report.index("\n", begin) + 1) + 1)]


def test_who_sent_how_much(report: str) -> None:
    by_size = section(report, "Senders by message size")
    assert re.findall(r"(\d+) +(\S+@\S+)", by_size) == [
        ("3200", "bob@two.example"),
        ("1500", "ann@one.example"),
        ("300", "carl@here.example"),
    ]


def test_why_not(report: str) -> None:
    assert "Connection timed out" in section(report, "message deferral detail")
    assert "550 5.1.1" in section(report, "message bounce detail")
    rejects = section(report, "message reject detail")
    assert "Relay access denied" in rejects
    assert "User unknown" in report
    assert "does not resolve to address" in section(report, "Warnings")


def test_nothing_was_forged(report: str) -> None:
    assert "forged@" not in section(report, "Senders by message count")
    assert "Messages with no size data" not in report

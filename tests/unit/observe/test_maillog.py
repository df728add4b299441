"""Golden lines: people and programs parse them, so a change here is a change of interface."""

from __future__ import annotations

import re

import pytest

from ekiden.message.delivery import DeliveryResult, deferred, delivered, expanded, failed, relayed
from ekiden.message.envelope import Client
from ekiden.message.status import Status
from ekiden.observe.events import (
    Accepting,
    Activated,
    Administered,
    Attempted,
    Connected,
    ConnectionLost,
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
from ekiden.observe.maillog import MailLogRenderer, seconds
from support.honours import honours
from support.log_lines import rendered

CLIENT = Client("localhost", "127.0.0.1", "test", "ESMTP")
STRANGER = Client("unknown", "192.0.2.1", "test", "ESMTP")
SENT = relayed(Status(2, 0, 0), "250 2.0.0 Ok", relay="h[1.2.3.4]:25")


def attempt(result: DeliveryResult, transport: str = "smtp", recipient: str = "x@y", original: str = "") -> Attempted:
    return Attempted("4XyZ", transport, recipient, result, 0.1, (0, 0, 0.05, 0.05), original)


class Unheard(Event, frozen=True, tag="unheard-of"):
    queue_id: str
    what: str


GOLDEN: list[tuple[Event, str]] = [
    (Connected(CLIENT), "postfix/smtpd[123]: connect from localhost[127.0.0.1]"),
    (Connected(CLIENT, "submission/smtpd"), "postfix/submission/smtpd[123]: connect from localhost[127.0.0.1]"),
    (
        Disconnected(CLIENT, {"EHLO": (1, 1), "mail": (1, 1), "rcpt": (0, 1), "quit": (1, 1)}),
        "postfix/smtpd[123]: disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4",
    ),
    (
        Disconnected(CLIENT, {"ehlo": (1, 1), "quit": (1, 1)}, received=2),
        "postfix/smtpd[123]: disconnect from localhost[127.0.0.1] ehlo=1 quit=1 received=2 commands=2",
    ),
    (Disconnected(CLIENT), "postfix/smtpd[123]: disconnect from localhost[127.0.0.1] commands=0"),
    (
        ConnectionLost(CLIENT, "lost connection", "DATA"),
        "postfix/smtpd[123]: lost connection after DATA from localhost[127.0.0.1]",
    ),
    (Accepting("4XyZ", CLIENT), "postfix/smtpd[123]: 4XyZ: client=localhost[127.0.0.1]"),
    (
        Rejected(STRANGER, "RCPT", "554 5.7.1 <x@y>: Relay access denied", "relay-denied", "a@b", "x@y"),
        "postfix/smtpd[123]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; "
        "from=<a@b> to=<x@y> proto=ESMTP helo=<test>",
    ),
    (
        Rejected(STRANGER, "RCPT", "550 5.1.1 <x@y>: No", "unknown-user", "", "x@y", queue_id="4XyZ"),
        "postfix/smtpd[123]: 4XyZ: reject: RCPT from unknown[192.0.2.1]: 550 5.1.1 <x@y>: No; "
        "from=<> to=<x@y> proto=ESMTP helo=<test>",
    ),
    (
        Rejected(Client("unknown", "192.0.2.1"), "CONNECT", "421 4.7.0 Too many", "too-many"),
        "postfix/smtpd[123]: NOQUEUE: reject: CONNECT from unknown[192.0.2.1]: 421 4.7.0 Too many",
    ),
    (PickedUp("4XyZ", 1000, "me"), "postfix/pickup[123]: 4XyZ: uid=1000 from=<me>"),
    (MessageId("4XyZ", "<a@b>"), "postfix/cleanup[123]: 4XyZ: message-id=<a@b>"),
    (MessageId("4XyZ", ""), "postfix/cleanup[123]: 4XyZ: message-id=<>"),
    (
        Activated("4XyZ", "a@b", 4321, 1),
        "postfix/qmgr[123]: 4XyZ: from=<a@b>, size=4321, nrcpt=1 (queue active)",
    ),
    (
        attempt(SENT, original="z@y"),
        "postfix/smtp[123]: 4XyZ: to=<x@y>, orig_to=<z@y>, relay=h[1.2.3.4]:25, delay=0.1, delays=0/0/0.05/0.05, "
        "dsn=2.0.0, status=sent (250 2.0.0 Ok)",
    ),
    (
        attempt(deferred(Status(4, 4, 1), "connect to h[1.2.3.4]:25: Connection refused"), "relay"),
        "postfix/relay/smtp[123]: 4XyZ: to=<x@y>, relay=none, delay=0.1, delays=0/0/0.05/0.05, dsn=4.4.1, "
        "status=deferred (connect to h[1.2.3.4]:25: Connection refused)",
    ),
    (
        attempt(failed(Status(5, 1, 1), "unknown user", relay="local"), "local"),
        "postfix/local[123]: 4XyZ: to=<x@y>, relay=local, delay=0.1, delays=0/0/0.05/0.05, dsn=5.1.1, "
        "status=bounced (unknown user)",
    ),
    (
        attempt(delivered(Status(2, 0, 0), "delivered to maildir", relay="virtual"), "virtual"),
        "postfix/virtual[123]: 4XyZ: to=<x@y>, relay=virtual, delay=0.1, delays=0/0/0.05/0.05, dsn=2.0.0, "
        "status=sent (delivered to maildir)",
    ),
    (
        attempt(expanded(Status(2, 0, 0), "forwarded as 5A", relay="local"), "local"),
        "postfix/local[123]: 4XyZ: to=<x@y>, relay=local, delay=0.1, delays=0/0/0.05/0.05, dsn=2.0.0, "
        "status=sent (forwarded as 5A)",
    ),
    (Expired("4XyZ", "a@b"), "postfix/qmgr[123]: 4XyZ: from=<a@b>, status=expired, returned to sender"),
    (
        Notified("4XyZ", "non-delivery", "5A"),
        "postfix/bounce[123]: 4XyZ: sender non-delivery notification: 5A",
    ),
    (
        Notified("4XyZ", "non-delivery", "5A", to_postmaster=True),
        "postfix/bounce[123]: 4XyZ: postmaster non-delivery notification: 5A",
    ),
    (Removed("4XyZ"), "postfix/qmgr[123]: 4XyZ: removed"),
    (Administered("4XyZ", "hold"), "postfix/postsuper[123]: 4XyZ: placed on hold"),
    (Note("smtpd", "hello"), "postfix/smtpd[123]: hello"),
    (Note("qmgr", "no space", "warning", "4XyZ"), "postfix/qmgr[123]: warning: 4XyZ: no space"),
    (Unheard("4XyZ", "a b"), "postfix/ekiden[123]: 4XyZ: unheard-of: what=<a\\x20b>"),
]


@pytest.mark.parametrize(
    ("event", "line"), GOLDEN, ids=[f"{type(event).__name__}-{at}" for at, (event, _) in enumerate(GOLDEN)]
)
def test_each_event_has_its_line(event: Event, line: str) -> None:
    assert rendered(event) == [line]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-3, "0"), (0.0049, "0"), (0.005, "0.01"), (0.05, "0.05"), (0.1, "0.1"), (0.123, "0.12"),
        (0.99, "0.99"), (0.994, "0.99"), (0.999, "1"), (1.04, "1"), (1.25, "1.2"), (3.4, "3.4"), (9.94, "9.9"),
        (9.96, "10"), (12.4, "12"), (12345.6, "12346"), (100.0, "100"),
    ],
)  # fmt: skip
def test_durations_have_two_significant_digits(value: float, text: str) -> None:
    assert seconds(value) == text


HOSTILE = [
    'a"> , size=1',
    "x\nNov  5 06:07:08 mx postfix/qmgr[1]: 4XyZ: removed",
    "x\r\nforged",
    "x>, size=9, nrcpt=9 (queue active)",
    "from=<evil@e>, size=999",
    "\x00\x1b[2J\x7f\x85\u2028\u202e",
    "\udcff\udc80",
    "x reject: RCPT from y: 554 z",
    "[1]: a: client=forged",
]


@pytest.mark.parametrize("bad", HOSTILE)
def test_a_peer_makes_neither_a_line_nor_a_field(bad: str) -> None:
    client = Client(bad, "192.0.2.1", bad, "ESMTP")
    lines = rendered(
        MessageId("4XyZ", bad),
        Activated("4XyZ", bad, 5, 1),
        attempt(failed(Status(5, 0, 0), f"host said: {bad}"), recipient=bad, original=bad),
        Rejected(Client("h", "192.0.2.1", bad), "RCPT", f"554 5.7.1 <{bad}>: denied", "relay", bad, bad),
        Connected(client),
        Note("smtpd", bad),
    )
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    # As log tools look for them, wherever in a line.
    sizes = [re.findall(r"from=<[^>]*>, size=(\d+)", line) for line in lines]
    assert sizes == [[], ["5"], [], [], [], []]
    results = [re.findall(r"to=<[^>]*>, (?:orig_to=<[^>]*>, )?relay=[^,]+, .*status=(\S+)", line) for line in lines]
    assert results == [[], [], ["bounced"], [], [], []]
    assert lines[1].count(">, ") == 1
    assert lines[2].partition("status=")[0].count(">, ") == 2
    assert lines[3].count("]: a: client=") == 0
    assert lines[3].count(" reject: ") == 1


def test_long_lines_are_cut() -> None:
    [line] = rendered(Note("smtp", "x" * 10_000), maillog_line_limit="500")
    assert line.endswith("x...")
    assert len(line) < 600


@honours("syslog_name")
def test_the_name_and_the_programs_can_be_set() -> None:
    assert rendered(Removed("4XyZ"), syslog_name="ekiden") == ["ekiden/qmgr[123]: 4XyZ: removed"]


def test_a_transport_may_have_a_program_of_another_name() -> None:
    renderer = MailLogRenderer({"mailman": "pipe"})
    assert [renderer.render(attempt(SENT, name))[0] for name in ("mailman", "relay", "retry", "own", "smtp")] == [
        "pipe", "relay/smtp", "error", "own", "smtp",
    ]  # fmt: skip

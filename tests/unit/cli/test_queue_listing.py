"""mailq's output, against what postqueue -p of Postfix 3.7 printed for the same messages (enable_long_queue_ids)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from ekiden.cli.queue_listing import json_line, postfix_listing
from ekiden.message.queued import QueueState
from ekiden.runtime.requests import MessageLine, RecipientLine

POSTFIX = """\
----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------
4jXdXy3qB5zJ9FX        247 Sun Nov 22 18:54:42 sender@x.example
                                                          (deferred transport)
                                               one@y.example
                                               two@y.example

4jXdXy47XfzJ9FT!      3296 Sun Nov 22 18:54:42 MAILER-DAEMON
                                                          (deferred transport)
                                               three@z.example

-- 3 Kbytes in 2 Requests.
"""
MESSAGES = [
    MessageLine(
        "4jXdXy3qB5zJ9FX", QueueState.DEFERRED, "sender@x.example", 247, 1795373682.0,
        (RecipientLine("one@y.example", "deferred transport"), RecipientLine("two@y.example", "deferred transport")),
    ),
    MessageLine(
        "4jXdXy47XfzJ9FT", QueueState.HOLD, "", 3296, 1795373682.0,
        (RecipientLine("three@z.example", "deferred transport"),),
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def test_a_listing_is_what_postfix_prints() -> None:
    assert "\n".join(postfix_listing(MESSAGES)) + "\n" == POSTFIX


def test_an_empty_queue() -> None:
    assert list(postfix_listing([])) == ["Mail queue is empty"]


def test_an_active_message_and_the_singular() -> None:
    lines = list(postfix_listing([MessageLine("Q1", QueueState.ACTIVE, "a@b.example", 5 * 1024, 0.0)]))
    assert lines[1] == "Q1*                   5120 Thu Jan  1 00:00:00 a@b.example"
    assert lines[-1] == "-- 5 Kbytes in 1 Request."


def test_each_reason_stands_above_the_recipients_that_share_it() -> None:
    people = (
        RecipientLine("a@x", "one"),
        RecipientLine("b@x", "two"),
        RecipientLine("c@x", "two"),
        RecipientLine("d@x"),
    )
    lines = list(postfix_listing([MessageLine("Q1", QueueState.DEFERRED, "s@x", 1, 0.0, people)]))
    assert [line.strip() for line in lines[2:-2]] == ["(one)", "a@x", "(two)", "b@x", "c@x", "d@x"]


def test_what_a_peer_said_does_not_reach_the_terminal_raw() -> None:
    line = MessageLine("Q1", QueueState.DEFERRED, "s@x", 1, 0.0, (RecipientLine("a@x", "\x1b[31mred\r\n"),))
    assert all(text.isprintable() for text in postfix_listing([line]))


def test_json_has_the_members_of_postqueue_j() -> None:
    facts = json.loads(json_line(MESSAGES[1]))
    assert {name: facts[name] for name in ("queue_name", "queue_id", "arrival_time", "message_size", "sender")} == {
        "queue_name": "hold",
        "queue_id": "4jXdXy47XfzJ9FT",
        "arrival_time": 1795373682,
        "message_size": 3296,
        "sender": "MAILER-DAEMON",
    }
    assert facts["recipients"] == [{"address": "three@z.example", "delay_reason": "deferred transport"}]

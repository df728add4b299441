"""The same queue in Postfix and in Ekiden: the parsers that read the output of Postfix's tools read ours.

Every parser here is made of the regular expressions and commands that known tools use (mailq | awk of postsuper(1),
pfqueue, qshape's idea of the states), and is run on both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.classic import Classic
from support.postfix_queue import PostfixQueue, postfix_queue
from support.running import free_port, running_server, wait_for

MESSAGES = (
    (("-i", "-f", "ann@one.example", "bob@two.example", "carl@two.example"), "Subject: one\n\nhello\n  indented\n"),
    (("-i", "-f", "", "user@example.com"), "Subject: two\n long\nFrom: x@y.example\n\n\nbody: no header\n"),
    (("-t", "-f", "ann@one.example", "-N", "success,failure"), "To: dora@three.example\nSubject: three\n\nx\n"),
)


class Mine:
    """Ekiden with the same messages."""

    def __init__(self, classic: Classic) -> None:
        self.run = classic.run

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("postqueue", "-j").stdout.splitlines()]


Tools = PostfixQueue | Mine


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Tools, Tools]]:
    settings = {"relayhost": f"[127.0.0.1]:{free_port()}", "myhostname": "mx.origin.example", "worker_processes": "1"}
    with postfix_queue() as postfix, running_server(main_cf=settings) as server:
        mine = Mine(Classic(server))
        assert mine.run("mailq").stdout == postfix.run("mailq").stdout == "Mail queue is empty\n"
        assert mine.run("postqueue", "-j").stdout == postfix.run("postqueue", "-j").stdout == ""
        for number, (options, text) in enumerate(MESSAGES, 1):
            postfix.submit(*options, text=text)
            assert mine.run("sendmail", *options, text=text).returncode == 0
            wait_for(lambda n=number: _deferred(mine) == n, "our deferred message")  # type: ignore[misc]
        yield postfix, mine


def _deferred(tools: Tools) -> int:
    return [entry["queue_name"] for entry in tools.entries()].count("deferred")


def mailq_entries(text: str) -> list[tuple[str, str, list[str]]]:
    """(status character, sender, recipients) of each message, by pfqueue's idea of the lines."""
    lines = text.splitlines()
    assert re.fullmatch(r"-+Queue ID-+ -+Size-+ -+Arrival Time-+ -+Sender/Recipient-+", lines[0])
    found: list[tuple[str, str, list[str]]] = []
    for line in lines[1:-2]:
        head = re.match(r"^([0-9A-Za-z]{10,})([*!#]?)\s+(\d+)\s+(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d)\s+(\S+)$", line)
        if head is not None:
            found.append((head[2], head[5], []))
        elif re.match(r"^\s*\(.*\)$", line):
            continue
        elif line.strip():
            assert line.startswith(" " * 47)
            found[-1][2].append(line.strip())
    assert re.fullmatch(r"-- (\d+) Kbytes in (\d+) Requests?\.", lines[-1])
    return found


def test_mailq_reads_alike(both: tuple[Tools, Tools]) -> None:
    read = [sorted(mailq_entries(tools.run("mailq").stdout)) for tools in both]
    assert read[0] == read[1]
    assert len(read[0]) == 3
    totals = [tools.run("postqueue", "-p").stdout.splitlines()[-1] for tools in both]
    assert [re.sub(r"\d+ K", "N K", total) for total in totals] == ["-- N Kbytes in 3 Requests."] * 2


def test_json_has_the_same_members_in_the_same_order(both: tuple[Tools, Tools]) -> None:
    theirs, ours = (sorted(tools.entries(), key=lambda entry: entry["recipients"][0]["address"]) for tools in both)
    for their, our in zip(theirs, ours, strict=True):
        assert list(our)[: len(their)] == list(their)
        for name in ("queue_name", "forced_expire", "sender"):
            assert our[name] == their[name]
        assert [each["address"] for each in our["recipients"]] == [each["address"] for each in their["recipients"]]
        assert all(list(each) == ["address", "delay_reason"] for each in our["recipients"])
    # What people grep for has the blanks of Postfix.
    for tools in both:
        line = tools.run("postqueue", "-j").stdout.splitlines()[0]
        assert re.match(
            r'\{"queue_name": "deferred", "queue_id": "\w+", "arrival_time": \d+, "message_size": \d+', line
        )


SECTIONS = ["ENVELOPE RECORDS", "MESSAGE CONTENTS", "HEADER EXTRACTED", "MESSAGE FILE END"]


def records(text: str) -> list[tuple[str, str]]:
    """(name, value) of the envelope lines; ``contents`` for each line of content."""
    found: list[tuple[str, str]] = []
    part = ""
    for line in text.splitlines():
        marker = re.fullmatch(rf"\*\*\* ({'|'.join(SECTIONS)}) (\S+) \*\*\*", line)
        if marker is not None:
            part = marker[1]
            assert re.fullmatch(r"deferred/(?:./)*\w+", marker[2])
            found.append((part, ""))
        elif part == "MESSAGE CONTENTS":
            found.append(("contents", line))
        else:
            name, colon, value = line.partition(": ")
            assert colon or line.endswith(":"), line
            found.append((name.rstrip(":"), value))
    return found


def by_first_recipient(tools: Tools) -> list[str]:
    return [entry["queue_id"] for entry in sorted(tools.entries(), key=lambda entry: entry["recipients"][0]["address"])]


def test_postcat_reads_alike(both: tuple[Tools, Tools]) -> None:
    """Sender, recipients, notifications, content; what Postfix alone notes (its rewriting context) may be missing."""
    for their_id, our_id in zip(*map(by_first_recipient, both), strict=True):
        their, our = (
            records(tools.run("postcat", "-q", queue_id).stdout)
            for tools, queue_id in zip(both, (their_id, our_id), strict=True)
        )
        for name in ("sender", "original_recipient", "recipient", "done_recipient"):
            assert sorted(value for key, value in our if key == name) == sorted(
                value for key, value in their if key == name
            ), name
        for wanted in ("named_attribute", "message_size", "message_arrival_time", "create_time"):
            assert wanted in dict(our)
        assert re.fullmatch(r"(?: *\d+){6}", dict(our)["message_size"])
        for attribute in ("dsn_orig_rcpt=", "notify_flags="):
            assert sorted(value for key, value in our if value.startswith(attribute)) == sorted(
                value for key, value in their if value.startswith(attribute)
            )
        assert [key for key, _ in our if key.isupper()] == [key for key, _ in their if key.isupper()] == SECTIONS
        bodies = []
        for found in (their, our):
            content = [value for key, value in found if key == "contents"]
            bodies.append(content[content.index("") :])
        assert bodies[0] == bodies[1]


PARTS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("-qb", lambda text: text),
    ("-qe", lambda text: [line.partition(" ")[0] for line in text.splitlines() if line.startswith("***")]),
    ("-qde", lambda text: sorted(re.findall(r"^ (67|84|83|79|82|77|69) ", text, re.MULTILINE))),
    ("-qh", lambda text: [line for line in text.splitlines() if line.startswith(("Subject", " long", "***"))]),
)


@pytest.mark.parametrize(("option", "view"), PARTS)
def test_postcat_shows_the_parts_that_are_asked_for(
    both: tuple[Tools, Tools], option: str, view: Callable[[str], object]
) -> None:
    for ids in zip(*map(by_first_recipient, both), strict=True):
        texts = [tools.run("postcat", option, queue_id).stdout for tools, queue_id in zip(both, ids, strict=True)]
        assert view(texts[0]) == view(texts[1])


@pytest.mark.parametrize(
    "line",
    [
        ("postcat", "-q", "NOPE"), ("postcat", "-x"), ("postqueue",), ("postqueue", "-x"), ("postqueue", "-i", "a/b"),
        ("postqueue", "-s", "two.example"), ("postqueue", "-s", "a b"), ("postsuper", "-Z"), ("postsuper", "-d"),
        ("postsuper", "-d", "ALL", "nosuch"), ("postsuper", "-h", "NOPE"), ("postsuper", "-d", "../x"),
        ("postsuper", "-H", "ALL"), ("postsuper", "-d", "ALL", "incoming"), ("postsuper", "-s"), ("postfix", "fly"),
        ("postfix", "status"), ("postfix",), ("postqueue", "-i", "NOPE"), ("postqueue", "-p", "more"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_exit_codes_and_reports_are_the_same(both: tuple[Tools, Tools], line: tuple[str, ...]) -> None:
    theirs, ours = (tools.run(*line) for tools in both)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), ours.stderr

    def shape(text: str) -> list[str]:
        """What a script looks at: the program, the level, the first words."""
        lines = [re.sub(r"usage: .*", "usage", each.removeprefix("/usr/sbin/")) for each in text.splitlines()]
        return [each.partition(" (fast_flush")[0] for each in lines]

    if line[0] != "postfix":
        assert shape(ours.stderr) == shape(theirs.stderr)


def test_the_known_pipes_work_on_both(both: tuple[Tools, Tools]) -> None:
    """The recipe of postsuper(1) for all mail with exactly one recipient, on hold and back."""
    for tools in both:
        listing = tools.run("mailq").stdout
        kept = [line for line in listing.splitlines()[1:] if not re.match(r" *\(", line)]
        paragraphs = [block.split() for block in "\n".join(kept).split("\n\n")]
        ids = [words[0] for words in paragraphs if len(words) == 8 and words[7] == "user@example.com"]
        assert len(ids) == 1
        held = tools.run("postsuper", "-h", "-", text="\n".join(ids) + "\n")
        assert held.stderr.splitlines() == [
            f"postsuper: {ids[0]}: placed on hold", "postsuper: Placed on hold: 1 message",
        ]  # fmt: skip
        assert f"\n{ids[0]}!" in tools.run("postqueue", "-p").stdout
        assert tools.run("postsuper", "-e", ids[0]).stderr.splitlines()[-1] == "postsuper: Force-expired: 1 message"
        assert f"\n{ids[0]}!" in tools.run("postqueue", "-p").stdout
        assert next(each for each in tools.entries() if each["queue_id"] == ids[0])["forced_expire"] is True
        assert tools.run("postsuper", "-d", ids[0]).stderr.splitlines()[-1] == "postsuper: Deleted: 1 message"

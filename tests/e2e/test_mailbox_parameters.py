"""The parameters of mbox mailboxes, through the real deliverer process: limits, locks, ownership, user numbers."""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import Answer, Outcome, Transport
from ekiden.message.content import InlineContent
from support.deliverer_process import reachable_directory, running_deliverer, with_channel
from support.honours import honours
from support.requirements import require_root

CONTENT = InlineContent(b"Subject: hi\r\n\r\n" + b"x" * 4000 + b"\r\n")
USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
# The recipient of each transport whose mailbox is the file spool/USER.
RECIPIENTS = {Transport.LOCAL: USER.pw_name, Transport.VIRTUAL: "a@x.example"}
both = pytest.mark.parametrize("transport", RECIPIENTS, ids=["local", "virtual"])


@pytest.fixture
def spool() -> Iterator[Path]:
    with reachable_directory() as base:
        directory = base / "spool"
        directory.mkdir()
        os.chown(directory, USER.pw_uid, USER.pw_gid)
        yield directory


def deliver(spool: Path, transport: Transport, settings: Mapping[str, str]) -> Answer:
    """One message to the one mailbox, under ``settings``."""
    base = {
        "mail_spool_directory": str(spool),
        "virtual_mailbox_base": str(spool),
        "virtual_mailbox_maps": f"static:{USER.pw_name}",
        "virtual_uid_maps": f"static:{USER.pw_uid}",
        "virtual_gid_maps": f"static:{USER.pw_gid}",
        "deliver_lock_attempts": "1",
    }

    async def one(channel: MailboxChannel) -> Answer:
        return await channel.submit(transport, RECIPIENTS[transport].encode(), b"s@y.example", b"", CONTENT)

    with running_deliverer({**base, **settings}) as process:
        return with_channel(process, one)


def own(path: Path) -> Path:
    """``path`` as a file of the recipient, empty unless it is there."""
    path.touch()
    os.chown(path, USER.pw_uid, USER.pw_gid)
    return path


@honours("mailbox_size_limit", "virtual_mailbox_limit")
@both
def test_a_mailbox_holds_no_more_than_its_limit(spool: Path, transport: Transport) -> None:
    name = {Transport.LOCAL: "mailbox_size_limit", Transport.VIRTUAL: "virtual_mailbox_limit"}[transport]
    answer = deliver(spool, transport, {name: "4000", "message_size_limit": "4000"})
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.FAILED, 2, 2)
    assert deliver(spool, transport, {name: "0"}).outcome is Outcome.DELIVERED


@honours("mailbox_delivery_lock", "virtual_mailbox_lock")
@both
def test_only_the_locks_that_are_named_count(spool: Path, transport: Transport) -> None:
    name = {Transport.LOCAL: "mailbox_delivery_lock", Transport.VIRTUAL: "virtual_mailbox_lock"}[transport]
    own(spool / f"{USER.pw_name}.lock")
    assert "lock" in deliver(spool, transport, {name: "dotlock"}).text
    assert deliver(spool, transport, {name: "flock"}).outcome is Outcome.DELIVERED
    with own(spool / USER.pw_name).open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = deliver(spool, transport, {name: "flock"})
        assert (answer.outcome, "flock" in answer.text) == (Outcome.DEFERRED, True)
        assert deliver(spool, transport, {name: "fcntl"}).outcome is Outcome.DELIVERED


@honours("deliver_lock_attempts", "deliver_lock_delay")
@both
def test_a_held_lock_is_tried_again_so_often_and_so_late(spool: Path, transport: Transport) -> None:
    own(spool / f"{USER.pw_name}.lock")
    began = time.monotonic()
    answer = deliver(spool, transport, {"deliver_lock_attempts": "3", "deliver_lock_delay": "1s"})
    assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 2)
    assert time.monotonic() - began >= 2.0  # two waits between three attempts
    began = time.monotonic()
    answer = deliver(spool, transport, {"deliver_lock_attempts": "3", "deliver_lock_delay": "0s"})
    assert answer.outcome is Outcome.DEFERRED
    assert time.monotonic() - began < 2.0


@honours("stale_lock_time")
@both
def test_an_old_lock_file_is_no_lock(spool: Path, transport: Transport) -> None:
    lock = own(spool / f"{USER.pw_name}.lock")
    os.utime(lock, (time.time() - 1000,) * 2)
    assert deliver(spool, transport, {"stale_lock_time": "1h"}).outcome is Outcome.DEFERRED
    assert deliver(spool, transport, {"stale_lock_time": "10m"}).outcome is Outcome.DELIVERED
    assert not lock.exists()


@honours("strict_mailbox_ownership")
@both
def test_a_mailbox_of_somebody_else(spool: Path, transport: Transport) -> None:
    require_root()
    mailbox = spool / USER.pw_name
    mailbox.touch()
    mailbox.chmod(0o666)
    answer = deliver(spool, transport, {"strict_mailbox_ownership": "yes"})
    assert (answer.outcome, "not owned by the recipient" in answer.text) == (Outcome.DEFERRED, True)
    assert deliver(spool, transport, {"strict_mailbox_ownership": "no"}).outcome is Outcome.DELIVERED


@honours("virtual_minimum_uid")
def test_the_smallest_user_number_of_a_virtual_mailbox(spool: Path) -> None:
    require_root()
    answer = deliver(spool, Transport.VIRTUAL, {"virtual_minimum_uid": str(USER.pw_uid + 1)})
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 5)
    assert deliver(spool, Transport.VIRTUAL, {"virtual_minimum_uid": "1"}).outcome is Outcome.DELIVERED

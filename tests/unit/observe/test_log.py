"""How lines are gathered, written, kept back and lost; and the targets."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import msgspec
import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.delivery import relayed
from ekiden.message.envelope import Client
from ekiden.message.status import Status
from ekiden.observe.events import Activated, Attempted, Connected, Note, Removed
from ekiden.observe.log import MailLog, open_target
from ekiden.observe.target import FileTarget, StreamTarget, SyslogTarget
from support.honours import honours
from support.log_lines import MOMENT, ListTarget, mail_log

EVENT = Removed("4XyZ")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_time_is_local_and_the_day_has_two_places() -> None:
    target = ListTarget()
    mail_log(target).emit(EVENT)
    assert target.lines == [b"Nov  5 06:07:08 mx postfix/qmgr[123]: 4XyZ: removed\n"]


def test_a_new_second_has_a_new_stamp() -> None:
    target, times = ListTarget(), iter([MOMENT, MOMENT + 0.5, MOMENT + 1])
    log = MailLog(
        Parameters({"maillog_file": "/x"}), hostname="mx", pid=1, clock_time=lambda: next(times), target=target
    )
    for _ in range(3):
        log.emit(EVENT)
    assert [line[:15] for line in target.lines] == [b"Nov  5 06:07:08", b"Nov  5 06:07:08", b"Nov  5 06:07:09"]


def test_without_a_loop_lines_are_written_at_once() -> None:
    target = ListTarget()
    log = mail_log(target)
    log.emit(EVENT)
    log.emit(EVENT)
    assert (len(target.lines), target.writes) == (2, 2)


def test_in_a_loop_lines_are_written_together() -> None:
    target = ListTarget()

    async def main() -> None:
        log = mail_log(target, maillog_flush_milliseconds="1")
        for _ in range(100):
            log.emit(EVENT)
        assert target.writes == 0
        async with asyncio.timeout(5):
            while not target.lines:
                await asyncio.sleep(0)

    asyncio.run(main())
    assert (len(target.lines), target.writes) == (100, 1)


def test_what_waits_together_has_each_its_own_time_and_its_own_line() -> None:
    target, times = ListTarget(), iter([MOMENT, MOMENT + 1, MOMENT])
    hostile = Activated("4XyZ", "a\nNov  5 06:07:08 mx postfix/qmgr[1]: 4XyZ: removed\r\u2028\udc80@b", 1, 1)

    async def main() -> None:
        log = MailLog(
            Parameters({"maillog_file": "/x"}), hostname="mx", pid=1, clock_time=lambda: next(times), target=target
        )
        for event in (EVENT, hostile, EVENT):
            log.emit(event)
        log.close()

    asyncio.run(main())
    assert target.lines == [
        b"Nov  5 06:07:08 mx postfix/qmgr[1]: 4XyZ: removed\n",
        b"Nov  5 06:07:09 mx postfix/qmgr[1]: 4XyZ: "
        b"from=<a\\x0aNov\\x20\\x205\\x2006:07:08\\x20mx\\x20postfix/qmgr[1]:\\x204XyZ:\\x20removed"
        b"\\x0d\\u2028\\x80@b>, size=1, nrcpt=1 (queue active)\n",
        b"Nov  5 06:07:08 mx postfix/qmgr[1]: 4XyZ: removed\n",
    ]


@pytest.mark.parametrize("number", [255, 256, 257, 1000])
def test_no_event_that_waits_is_forgotten_and_what_waits_is_bounded(number: int) -> None:
    target = ListTarget()

    async def main(limit: int) -> None:
        log = mail_log(target, maillog_buffer_limit=str(limit), maillog_flush_milliseconds="10000")
        for at in range(number):
            log.emit(Removed(f"{at:04}"))
        log.close()

    asyncio.run(main(1_000_000))
    assert [line[-14:] for line in target.lines] == [f"{at:04}: removed\n".encode() for at in range(number)]
    size = len(target.lines[0])
    target.lines.clear()
    asyncio.run(main(4096))
    kept = next(at for at in range(number) if at * size > 4096)
    assert [line[-14:] for line in target.lines[:-1]] == [f"{at:04}: removed\n".encode() for at in range(kept)]
    assert f" {number - kept} lines of the mail log were lost".encode() in target.lines[-1]


def test_warnings_do_not_wait_and_take_the_others_with_them() -> None:
    target = ListTarget()

    async def main() -> None:
        log = mail_log(target, maillog_flush_milliseconds="10000")
        log.emit(EVENT)
        log.emit(Note("qmgr", "hm"))
        assert target.writes == 0
        log.emit(Note("qmgr", "oh", "warning"))
        assert (len(target.lines), target.writes) == (3, 1)
        log.emit(EVENT)
        log.close()
        assert len(target.lines) == 4

    asyncio.run(main())
    assert target.closed


def test_what_a_target_does_not_take_is_kept_bounded_and_the_loss_is_told() -> None:
    target = ListTarget(room=2)
    log = mail_log(target, maillog_buffer_limit="4096")
    for _ in range(1000):
        log.emit(EVENT)
    assert len(target.lines) == 2
    target.room = None
    log.flush()
    kept = len(target.lines) - 3
    assert 4096 // 60 < kept < 4096 // 50 + 3
    assert target.lines[-1].endswith(
        f"warning: {1000 - kept - 2} lines of the mail log were lost: it could not be written\n".encode()
    )


def test_an_event_that_cannot_be_shown_costs_a_line_and_nothing_else() -> None:
    target = ListTarget()
    log = mail_log(target)
    log.emit(Activated("4XyZ", None, 1, 1))  # type: ignore[arg-type]
    assert b"postfix/log[123]: error: a Activated event cannot be shown" in target.lines[0]


def test_json_lines() -> None:
    target = ListTarget()
    log = mail_log(target, maillog_format="json")
    result = relayed(Status(2, 0, 0), "250 Ok \udcff\n", relay="h[1.2.3.4]:25")
    log.emit(Connected(Client("h", "192.0.2.1")))
    log.emit(Attempted("4XyZ", "smtp", "x@y", result, 0.1, (0, 0, 0.05, 0.05)))
    log.emit(Removed("4X\udc80"))
    first, second, third = (msgspec.json.decode(line) for line in target.lines)
    assert first["type"] == "connect"
    assert first["client"]["address"] == "192.0.2.1"
    assert (first["time"], first["host"], first["pid"]) == ("2026-11-05T06:07:08.250Z", "mx", 123)
    assert (second["dsn"], second["action"], second["delays_s"]) == ("2.0.0", "relayed", [0, 0, 0.05, 0.05])
    assert second["text"] == "250 Ok \\xff\n"
    assert third["queue_id"] == "4X\\x80"
    assert all(line.count(b"\n") == 1 for line in target.lines)


def test_file_target_appends_and_goes_on_after_rotation(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"old\n")
    target = FileTarget(str(path), 0o640)
    assert target.write([b"one\n", b"two\n"]) == 2
    path.rename(tmp_path / "mail.log.1")
    target.write([b"three\n"])
    target.reopen()
    target.write([b"four\n"])
    target.close()
    assert (tmp_path / "mail.log.1").read_bytes() == b"old\none\ntwo\nthree\n"
    assert path.read_bytes() == b"four\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_file_target_that_cannot_be_reopened_goes_on_in_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    target = FileTarget(str(folder / "mail.log"), 0o600)
    folder.rename(tmp_path / "moved")
    target.reopen()
    target.write([b"still\n"])
    target.close()
    assert (tmp_path / "moved" / "mail.log").read_bytes() == b"still\n"


def test_full_disk_is_told_and_not_raised() -> None:
    target = FileTarget("/dev/full", 0o600)
    assert target.write([b"x\n"]) == 0
    target.close()


def test_stream_target_does_not_wait_for_a_reader_that_stalls() -> None:
    reader, writer = os.pipe()
    target = StreamTarget(writer)
    lines = [b"x" * 999 + b"\n"] * 1000
    taken = target.write(lines)
    assert 0 < taken < 1000
    assert target.write(lines) == 0
    assert os.read(reader, 1 << 20) == b"".join(lines[:taken])
    assert target.write(lines[:3]) == 3
    os.close(reader)
    assert target.write(lines[:3]) == 0
    os.close(writer)


def test_syslog_target_sends_datagrams_with_facility_and_severity(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(path)
    daemon.settimeout(5)
    parameters = Parameters({"syslog_socket": path})
    log = MailLog(parameters, hostname="mx", pid=123, clock_time=lambda: MOMENT)
    log.emit(EVENT)
    log.emit(Note("qmgr", "oh", "warning"))
    assert daemon.recv(4096) == b"<22>Nov  5 06:07:08 postfix/qmgr[123]: 4XyZ: removed"
    assert daemon.recv(4096) == b"<20>Nov  5 06:07:08 postfix/qmgr[123]: warning: oh"
    # The daemon is restarted.
    daemon.close()
    os.unlink(path)
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(path)
    daemon.settimeout(5)
    log.emit(EVENT)
    assert daemon.recv(4096).endswith(b"removed")
    log.close()
    daemon.close()


def test_syslog_that_is_not_there_is_standard_error(tmp_path: Path) -> None:
    fallback = ListTarget()
    target = SyslogTarget(str(tmp_path / "none"), fallback)
    assert target.write([b"one\n", b"two\n"]) == 2
    assert fallback.lines == [b"one\n", b"two\n"]


def test_syslog_that_is_behind_does_not_block(tmp_path: Path) -> None:
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.bind(str(tmp_path / "log"))
    target = SyslogTarget(str(tmp_path / "log"))
    taken = target.write([b"line\n"] * 10_000)
    assert 0 < taken < 10_000
    target.close()
    daemon.close()


def test_the_target_follows_maillog_file(tmp_path: Path) -> None:
    assert isinstance(open_target(Parameters()), SyslogTarget)
    assert isinstance(open_target(Parameters({"maillog_file": "/dev/stdout"})), StreamTarget)
    target = open_target(Parameters({"maillog_file": str(tmp_path / "x")}))
    assert isinstance(target, FileTarget)
    target.close()


@honours("syslog_facility")
@pytest.mark.parametrize(("facility", "number"), [("mail", 2), ("local3", 19)])
def test_the_facility_of_syslog_lines(facility: str, number: int) -> None:
    target = ListTarget()
    log = mail_log(target, maillog_file="", syslog_facility=facility)
    log.emit(EVENT)
    log.emit(Note("smtp", "trouble", "warning"))
    log.close()
    assert [line.partition(b">")[0] for line in target.lines] == [b"<%d" % (number * 8 + level) for level in (6, 4)]


@honours("maillog_file", "maillog_file_permissions")
@pytest.mark.parametrize(("permissions", "mode"), [("0600", 0o600), ("0640", 0o640), ("0644", 0o644)])
def test_the_log_file_and_its_permissions(permissions: str, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    before = os.umask(0)
    try:
        log = MailLog(
            Parameters({"maillog_file": str(path), "maillog_file_permissions": permissions}),
            hostname="mx", pid=123, clock_time=lambda: MOMENT,
        )  # fmt: skip
    finally:
        os.umask(before)
    log.emit(EVENT)
    log.close()
    assert path.read_bytes() == b"Nov  5 06:07:08 mx postfix/qmgr[123]: 4XyZ: removed\n"
    assert path.stat().st_mode & 0o777 == mode

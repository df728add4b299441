"""The deliverer as real processes: as an ordinary user and as root; writers and deliverers that are killed."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.deliver.mailbox_channel import MailboxChannel
from ekiden.deliver.mailbox_jobs import Answer, Outcome, Transport
from ekiden.message.content import InlineContent
from ekiden.runtime import control
from ekiden.runtime.control import Reload
from support.deliverer_process import (
    DelivererProcess,
    mails,
    reachable_directory,
    running_deliverer,
    until,
    with_channel,
)
from support.honours import honours
from support.requirements import require_program, require_root, require_that

CONTENT = InlineContent(b"Subject: hi\r\n\r\n" + b"x" * 4000 + b"\r\n")
SIZE_AS_DELIVERED = CONTENT.size - 3


@pytest.fixture
def base() -> Iterator[Path]:
    with reachable_directory() as path:
        yield path


def settings(base: Path, uid: int, gid: int, **more: str) -> dict[str, str]:
    return {
        "virtual_mailbox_base": str(base),
        "virtual_mailbox_maps": f"inline:{{a@x.example=v{uid}/a/, b@x.example=v{uid}/b/, m@x.example=v{uid}/m}}",
        "virtual_uid_maps": f"static:{uid}",
        "virtual_gid_maps": f"static:{gid}",
        **more,
    }


def room_for(base: Path, uid: int, gid: int) -> Path:
    directory = base / f"v{uid}"
    directory.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(directory, uid, gid)
    return directory


def ask(channel: MailboxChannel, recipient: str, transport: Transport = Transport.VIRTUAL) -> asyncio.Future[Answer]:
    return channel.submit(transport, recipient.encode(), b"s@y.example", b"Delivered-To: x\n", CONTENT)


def deliver(process: DelivererProcess, *recipients: str, transport: Transport = Transport.VIRTUAL) -> list[Answer]:
    async def use(channel: MailboxChannel) -> list[Answer]:
        return list(await asyncio.gather(*(ask(channel, recipient, transport) for recipient in recipients)))

    return with_channel(process, use)


def test_an_ordinary_users_server_delivers_as_that_user(base: Path) -> None:
    uid = 5000 if os.geteuid() == 0 else os.geteuid()
    gid = uid if os.geteuid() == 0 else os.getegid()
    room = room_for(base, uid, gid)
    as_user = uid if os.geteuid() == 0 else None
    for maps in (settings(base, uid, gid), settings(base, uid, gid, virtual_uid_maps="", virtual_gid_maps="")):
        with running_deliverer(maps, as_user=as_user) as process:
            answers = deliver(process, "a@x.example", "m@x.example", "nobody@x.example")
            assert [answer.outcome for answer in answers] == [Outcome.DELIVERED, Outcome.DELIVERED, Outcome.FAILED]
            assert process.stop() == 0
    assert {mail.stat().st_uid for mail in mails(room / "a")} == {uid}
    assert len(mails(room / "a")) == 2
    with running_deliverer(settings(base, uid + 1, gid), as_user=as_user) as process:
        [answer] = deliver(process, "a@x.example")
        assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 5)


@pytest.mark.parametrize("user", ["nobody", "5000"])
def test_root_writes_as_the_mailboxes_user(base: Path, user: str) -> None:
    require_root()
    uid, gid = (65534, 65534) if user == "nobody" else (5000, 5001)
    room = room_for(base, uid, gid)
    with running_deliverer(settings(base, uid, gid)) as process:
        answers = deliver(process, *["a@x.example", "m@x.example"] * 10)
        assert {answer.outcome for answer in answers} == {Outcome.DELIVERED}
        [writer] = process.writers()
        facts = dict(line.split(":\t", 1) for line in Path(f"/proc/{writer}/status").read_text().splitlines())
        assert facts["Uid"].split() == [str(uid)] * 4
        assert facts["Gid"].split() == [str(gid)] * 4
        assert facts["Groups"].split() == [str(gid)]
        assert facts["NoNewPrivs"] == "1"
        assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0
        # Nothing of the deliverer is within its reach: standard streams and its one socket.
        assert sorted(int(name) for name in os.listdir(f"/proc/{writer}/fd"))[:3] == [0, 1, 2]
        assert len(os.listdir(f"/proc/{writer}/fd")) == 4
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in room.rglob("*")}
    assert owners == {(uid, gid)}
    assert len(mails(room / "a")) == 10
    assert (room / "m").read_bytes().count(b"\nDelivered-To: x\n") == 10


def test_root_cannot_be_led_to_a_forbidden_user_or_place(base: Path) -> None:
    require_root()
    room = room_for(base, 5000, 5000)
    closed = base / "closed"
    closed.mkdir(mode=0o700)  # root's own
    (room / "link").symlink_to(closed)
    os.lchown(room / "link", 5000, 5000)
    hard = base / "hard"
    hard.write_text("")
    os.chown(hard, 5000, 5000)
    os.link(hard, room / "hard")
    rows = ("up@x.example=../../etc/", "link@x.example=v5000/link/", "root@x.example=closed/", "m@x.example=v5000/hard")
    maps = f"inline:{{{', '.join(rows)}}}"
    with running_deliverer(settings(base, 5000, 5000, virtual_mailbox_maps=maps)) as process:
        answers = deliver(process, "up@x.example", "link@x.example", "root@x.example", "m@x.example")
        assert [answer.outcome for answer in answers] == [Outcome.DEFERRED] * 4
    assert os.listdir(closed) == []
    for uid in ("0", "99"):
        with running_deliverer(settings(base, 0, 0, virtual_uid_maps=f"static:{uid}")) as process:
            assert [answer.outcome for answer in deliver(process, "a@x.example")] == [Outcome.DEFERRED]
            assert process.writers() == []


def test_local_users_get_their_spool_file_or_maildir(base: Path) -> None:
    if os.geteuid() == 0:
        users = ["root", "nobody"]
    else:
        users = [pwd.getpwuid(os.geteuid()).pw_name]
    spool = base / "spool"
    spool.mkdir()
    mail_group = 8
    if os.geteuid() == 0:  # as Debian has it: root:mail 2775
        os.chown(spool, 0, mail_group)
        spool.chmod(0o2775)
    with running_deliverer({"mail_spool_directory": str(spool), "recipient_delimiter": "+"}) as process:
        names = [users[0].upper(), *users, users[0] + "+ext", "postmaster", "no-such-user-here"]
        answers = deliver(process, *names, transport=Transport.LOCAL)
        outcomes = [answer.outcome for answer in answers]
        assert outcomes == [Outcome.DELIVERED] * (len(names) - 1) + [Outcome.FAILED]
        assert answers[-1].text == 'unknown user: "no-such-user-here"'
    assert sorted(os.listdir(spool)) == sorted(users)
    for user in users:
        status = (spool / user).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (pwd.getpwnam(user).pw_uid, 0o600)
    assert (spool / users[0]).read_bytes().count(b"From s@y.example  ") == 4


def test_a_spool_file_that_is_a_trap_is_left_alone(base: Path) -> None:
    require_root()
    spool = base / "spool"
    spool.mkdir()
    spool.chmod(0o1777)
    precious = base / "precious"
    precious.write_bytes(b"")
    os.chown(precious, 65534, 65534)
    for make_trap in (os.symlink, os.link):
        make_trap(precious, spool / "nobody")
        with running_deliverer({"mail_spool_directory": str(spool)}) as process:
            [answer] = deliver(process, "nobody", transport=Transport.LOCAL)
            assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 2)
        (spool / "nobody").unlink()
    (spool / "nobody").write_bytes(b"")  # made by root: not the recipient's
    with running_deliverer({"mail_spool_directory": str(spool)}) as process:
        assert deliver(process, "nobody", transport=Transport.LOCAL)[0].outcome is Outcome.DEFERRED
    assert precious.read_bytes() == b""


def test_a_killed_writer_defers_its_jobs_and_leaves_no_partial_file(base: Path) -> None:
    uid, gid = (5000, 5000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    room = room_for(base, uid, gid)
    with running_deliverer(settings(base, uid, gid)) as process:

        async def use(channel: MailboxChannel) -> tuple[int, int]:
            acknowledged = lost = 0
            for round_number in range(10):
                await ask(channel, "a@x.example")  # there is a writer now
                acknowledged += 1
                futures = [ask(channel, "a@x.example") for _ in range(100)]
                # At another moment of the batch in each round.
                await until(lambda: process.writers(), "a writer")
                for _ in range(round_number):
                    await asyncio.sleep(0.001)
                for pid in process.writers():
                    os.kill(pid, signal.SIGKILL)
                answers = await asyncio.gather(*futures)
                acknowledged += sum(answer.outcome is Outcome.DELIVERED for answer in answers)
                lost += sum(answer.outcome is Outcome.DEFERRED for answer in answers)
                assert {answer.outcome for answer in answers} <= {Outcome.DELIVERED, Outcome.DEFERRED}
            return acknowledged, lost

        acknowledged, lost = with_channel(process, use)
    found = mails(room / "a")
    assert acknowledged <= len(found) <= acknowledged + lost
    for mail in found:
        assert f",S={mail.stat().st_size}" in mail.name
        assert mail.stat().st_size == SIZE_AS_DELIVERED + len(b"Delivered-To: x\n")


def test_a_killed_deliverer_defers_what_is_under_way_and_a_new_one_takes_over(base: Path) -> None:
    uid, gid = (5000, 5000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    room = room_for(base, uid, gid)
    with (
        running_deliverer(settings(base, uid, gid)) as first,
        running_deliverer(settings(base, uid, gid)) as second,
    ):

        async def use(channel: MailboxChannel) -> None:
            await ask(channel, "a@x.example")
            (room / "m.lock").write_text("")  # keeps the mbox's mail under way
            os.chown(room / "m.lock", uid, gid)
            stuck = [ask(channel, "m@x.example") for _ in range(5)]
            writers = first.writers()
            await ask(channel, "a@x.example")
            first.kill()
            for answer in await asyncio.gather(*stuck):
                assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 0)
            later = ask(channel, "a@x.example")  # waits for the next deliverer
            channel.attach(second.new_worker())
            assert (await later).outcome is Outcome.DELIVERED
            await until(lambda: not any(_lives(pid) for pid in writers), "the end of orphaned writers")

        with_channel(first, use)
    assert len(mails(room / "a")) == 3


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_without_a_deliverer_mail_is_deferred_after_a_while() -> None:
    async def use() -> Answer:
        channel = MailboxChannel(job_limit=5, restart_wait_s=0.05)
        try:
            return await ask(channel, "a@x.example")
        finally:
            channel.close()

    answer = asyncio.run(use())
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 0)


def test_a_locked_mbox_does_not_hold_up_other_mailboxes_of_the_same_user(base: Path) -> None:
    uid, gid = (5000, 5000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    room = room_for(base, uid, gid)
    with running_deliverer(settings(base, uid, gid)) as process:

        async def use(channel: MailboxChannel) -> None:
            (room / "m.lock").write_text("")
            os.chown(room / "m.lock", uid, gid)
            held = ask(channel, "m@x.example")
            for _ in range(5):
                assert (await ask(channel, "a@x.example")).outcome is Outcome.DELIVERED
            assert not held.done()
            (room / "m.lock").unlink()
            assert (await held).outcome is Outcome.DELIVERED

        with_channel(process, use)


def test_writers_are_bounded_and_users_take_turns(base: Path) -> None:
    require_root()
    users = range(5000, 5012)
    for uid in users:
        room_for(base, uid, uid)
    rows = {
        "virtual_mailbox_maps": ", ".join(f"u{uid}@x.example=v{uid}/a/" for uid in users),
        "virtual_uid_maps": ", ".join(f"u{uid}@x.example={uid}" for uid in users),
    }
    maps = {name: f"inline:{{{text}}}" for name, text in rows.items()}
    maps["virtual_gid_maps"] = maps["virtual_uid_maps"]
    with running_deliverer({"virtual_mailbox_base": str(base), "deliverer_writer_limit": "3", **maps}) as process:
        answers = deliver(process, *[f"u{uid}@x.example" for uid in users] * 5)
        assert {answer.outcome for answer in answers} == {Outcome.DELIVERED}
        assert len(process.writers()) <= 3 + 1  # one may be ending
    for uid in users:
        assert {mail.stat().st_uid for mail in mails(base / f"v{uid}" / "a")} == {uid}
        assert len(mails(base / f"v{uid}" / "a")) == 5


def test_idle_writers_end_and_hanging_ones_are_killed(base: Path) -> None:
    uid, gid = (5000, 5000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    room_for(base, uid, gid)
    with running_deliverer(settings(base, uid, gid, deliverer_writer_idle_time="1s")) as process:
        deliver(process, "a@x.example")
        asyncio.run(until(lambda: not process.writers(), "the end of an idle writer"))
        assert deliver(process, "a@x.example")[0].outcome is Outcome.DELIVERED
    with running_deliverer(settings(base, uid, gid, deliverer_writer_timeout="1s")) as process:
        deliver(process, "a@x.example")
        for writer in process.writers():
            os.kill(writer, signal.SIGSTOP)
        [answer] = deliver(process, "a@x.example")
        assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 3)
        assert deliver(process, "a@x.example")[0].outcome is Outcome.DELIVERED


@honours("config_directory")
def test_reload_takes_the_new_configuration(base: Path, tmp_path: Path) -> None:
    uid, gid = (5000, 5000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    room = room_for(base, uid, gid)
    old = settings(base, uid, gid, config_directory=str(tmp_path))
    new = {**old, "virtual_mailbox_maps": f"inline:{{new@x.example=v{uid}/new/}}"}
    with running_deliverer(old) as process:
        assert deliver(process, "new@x.example")[0].outcome is Outcome.FAILED
        (tmp_path / "main.cf").write_text("".join(f"{name} = {text}\n" for name, text in new.items()))
        (tmp_path / "master.cf").write_text("")
        control.send(process.control, Reload())
        # Both travel over different sockets: the reload is through when its effect shows.
        for _ in range(1000):
            if deliver(process, "new@x.example")[0].outcome is Outcome.DELIVERED:
                break
        else:
            pytest.fail("the reload had no effect")
        (tmp_path / "main.cf").write_text("virtual_mailbox_maps = nosuchtype:x\n")
        control.send(process.control, Reload())
        assert deliver(process, "new@x.example")[0].outcome is Outcome.DELIVERED
    assert len(mails(room / "new")) == 2


def test_a_full_disk_defers_and_leaves_nothing(base: Path) -> None:
    require_root()
    room = room_for(base, 5000, 5000)
    mount = require_program("mount")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k,uid=5000,gid=5000,mode=700", "tmpfs", room], check=False
    )
    require_that(mounted.returncode == 0, "this machine does not let root mount a tmpfs")
    try:
        with running_deliverer(settings(base, 5000, 5000)) as process:
            answers = deliver(process, *["a@x.example", "m@x.example"] * 20)
            kinds = {(answer.outcome, answer.subject, answer.detail) for answer in answers}
            assert kinds <= {(Outcome.DELIVERED, 0, 0), (Outcome.DEFERRED, 3, 1)}
            assert len(kinds) == 2
            whole = mails(room / "a")
            assert all(f",S={mail.stat().st_size}" in mail.name for mail in whole)
            text = (room / "m").read_bytes() if (room / "m").exists() else b""
            delivered = sum(answer.outcome is Outcome.DELIVERED for answer in answers)
            assert delivered == len(whole) + text.count(b"\nDelivered-To: x\n")
            assert list((room / "a" / "tmp").iterdir()) == []
            for mail in whole:
                mail.unlink()
            assert deliver(process, "a@x.example")[0].outcome is Outcome.DELIVERED
    finally:
        subprocess.run([require_program("umount"), room], check=True)


def test_tables_of_a_database_are_asked_while_other_jobs_go_on(base: Path) -> None:
    """Mailboxes and aliases come from a database; a lookup that takes long holds up nobody else."""
    uid, gid = os.geteuid() or 5000, os.getegid() or 5000
    room_for(base, uid, gid)
    database = sqlite3.connect(base / "mail.db")
    database.execute("CREATE TABLE t (k TEXT, v TEXT)")
    rows = [("a@x.example", f"v{uid}/a/"), ("slow@x.example", f"v{uid}/slow/"), ("list", "b@y.example")]
    database.executemany("INSERT INTO t VALUES (?, ?)", rows)
    database.commit()
    database.close()
    (base / "mail.db").chmod(0o644)
    slow = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)"
    table = base / "t.cf"
    table.write_text(
        f"dbpath = {base}/mail.db\ntimeout = 2\n"
        f"query = SELECT CASE WHEN k LIKE 'slow%%' THEN {slow} ELSE v END FROM t WHERE k = '%s'\n"
    )
    word = f"sqlite:{table}"
    own = {"mail_owner": "nobody", "virtual_mailbox_maps": word, "alias_maps": word}

    async def use(channel: MailboxChannel) -> tuple[list[Answer], float]:
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(ask(channel, "slow@x.example", Transport.VIRTUAL))
        began = loop.time()
        quick = [await ask(channel, "a@x.example", Transport.VIRTUAL) for _ in range(3)]
        took = loop.time() - began
        unknown = await ask(channel, "none@x.example", Transport.VIRTUAL)
        alias = await ask(channel, "list", Transport.ALIAS)
        return [*quick, unknown, alias, await waiting], took

    with running_deliverer({**settings(base, uid, gid), **own}) as process:
        answers, took = with_channel(process, use)
    outcomes = [answer.outcome for answer in answers]
    assert outcomes == [Outcome.DELIVERED] * 3 + [Outcome.FAILED, Outcome.GOES_ON, Outcome.DEFERRED]
    assert "does not answer" in answers[-1].text
    assert took < 1.9  # the slow one takes two seconds
    assert len(mails(base / f"v{uid}" / "a")) == 3

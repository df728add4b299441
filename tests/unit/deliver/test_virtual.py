"""Whose mailbox an address is and where it lies: the deliverer's decision, from its own configuration."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.account import AccountTrouble
from ekiden.deliver.mailbox_jobs import Answer, Form, Job, Outcome, Transport
from ekiden.deliver.mailbox_place import Owner, Place, Places, VirtualTables, inner_path
from ekiden.runtime.deliverer import open_places
from ekiden.tables.questions import Question, Reply, drive
from ekiden.tables.table import TableTrouble
from support.honours import honours
from support.table_lookups import finished

ROOT = Owner(0, 0)
BASE = {
    "virtual_mailbox_base": "/var/vmail",
    "virtual_uid_maps": "static:5000",
    "virtual_gid_maps": "static:5001",
    "recipient_delimiter": "+",
}


def find(
    settings: Mapping[str, str], recipient: str, *, server: Owner = ROOT, transport: Transport = Transport.VIRTUAL
) -> Place | Answer:
    places = open_places(Parameters({**BASE, **settings}), server)
    data = recipient.encode("utf-8", "surrogateescape")
    job = Job(1, transport, data, b"", b"", b"", 0)
    if transport is Transport.VIRTUAL:
        return finished(places.find(job, 9))
    found = finished(places.user(job, 9))
    if isinstance(found, Answer):
        return found
    assert found.mailbox is not None
    return found.mailbox


def place(settings: Mapping[str, str], recipient: str, *, server: Owner = ROOT) -> Place:
    found = find(settings, recipient, server=server)
    assert isinstance(found, Place), found
    return found


def refusal(settings: Mapping[str, str], recipient: str, **options: object) -> Answer:
    found = find(settings, recipient, **options)  # type: ignore[arg-type]
    assert isinstance(found, Answer), found
    assert found.id == 9
    return found


@honours("virtual_mailbox_maps", "recipient_delimiter", "virtual_mailbox_base", "virtual_uid_maps", "virtual_gid_maps")
def test_place_of_a_virtual_mailbox() -> None:
    maps = {"virtual_mailbox_maps": "inline:{a@x.example=x/a/, b@x.example=x/b, @y.example=catch/all/}"}
    found = place(maps, "A@X.Example")
    assert (found.owner, found.form, found.base, found.path) == (Owner(5000, 5001), Form.MAILDIR, "/var/vmail", "x/a")
    assert found.guarded
    assert place(maps, "a+ext@x.example").path == "x/a"
    assert place(maps, "b@x.example").form is Form.MBOX
    assert place(maps, "any@y.example").path == "catch/all"
    answer = refusal(maps, "c@x.example")
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.FAILED, 1, 1)
    assert answer.text == 'unknown user: "c@x.example"'


@pytest.mark.parametrize("mailbox", ["../a/", "x/../../a/", "x/..", "/", "./", "x/\0/a"])
def test_a_mailbox_never_leaves_the_base(mailbox: str) -> None:
    assert inner_path(mailbox) is None


def test_a_mailbox_outside_is_a_configuration_error() -> None:
    answer = refusal({"virtual_mailbox_maps": "static:../../etc/cron.d/"}, "a@x.example")
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 5)
    assert inner_path("/a//b/./c/") == "a/b/c"


@honours("virtual_uid_maps")
@pytest.mark.parametrize("uid", ["0", "99", "-1", "5000x", "4294967295", "99999999999", "٣٠٠"])
def test_user_numbers_that_are_refused(uid: str) -> None:
    answer = refusal({"virtual_mailbox_maps": "static:a/", "virtual_uid_maps": f"static:{uid}"}, "a@x.example")
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 5)


@honours("virtual_uid_maps", "virtual_gid_maps")
@pytest.mark.parametrize(
    "settings", [{"virtual_uid_maps": ""}, {"virtual_gid_maps": ""}, {"virtual_gid_maps": "static:0"}]
)
def test_root_needs_both_numbers(settings: dict[str, str]) -> None:
    answer = refusal({"virtual_mailbox_maps": "static:a/", **settings}, "a@x.example")
    assert (answer.outcome, answer.subject, answer.detail) == (Outcome.DEFERRED, 3, 5)


def test_an_ordinary_users_server_writes_only_its_own() -> None:
    own = Owner(1234, 1234)
    maps = {"virtual_mailbox_maps": "static:a/"}
    assert place({**maps, "virtual_uid_maps": "static:1234"}, "a@x.example", server=own).owner == own
    assert place({**maps, "virtual_uid_maps": "", "virtual_gid_maps": ""}, "a@x.example", server=own).owner == own
    assert refusal(maps, "a@x.example", server=own).outcome is Outcome.DEFERRED
    answer = refusal(maps, "root", server=own, transport=Transport.LOCAL)
    assert (answer.outcome, "does not run as root" in answer.text) == (Outcome.DEFERRED, True)


def test_a_table_that_cannot_be_read_is_trouble() -> None:
    answer = refusal({"virtual_mailbox_maps": "texthash:/nonexistent/maps"}, "a@x.example")
    assert answer.outcome is Outcome.DEFERRED


class Broken:
    async def lookup(self, key: str) -> str | None:
        return await Question("mysql:/etc/x.cf", key)


def test_a_table_that_waits_is_asked_and_its_trouble_is_no_missing_mailbox() -> None:
    places = Places(Parameters({**BASE, "virtual_uid_maps": ""}), VirtualTables(Broken(), Broken(), Broken()), ROOT)
    job = Job(1, Transport.VIRTUAL, b"a@x.example", b"", b"", b"", 0)

    def find(replies: dict[str, list[Reply]]) -> tuple[Place | Answer, list[str]]:
        asked: list[str] = []
        found: list[Place | Answer] = []
        finding = places.find(job, 9)

        def ask(question: Question) -> None:
            asked.append(question.key)
            drive(finding, replies[question.key].pop(0), ask, found.append)

        drive(finding, None, ask, found.append)
        return found[0], asked

    answer, asked = find({"a@x.example": [None], "@x.example": [TableTrouble("it is down")]})
    assert isinstance(answer, Answer)
    assert (answer.outcome, "it is down" in answer.text) == (Outcome.DEFERRED, True)
    assert asked == ["a@x.example", "@x.example"]
    answer, _ = find({"a@x.example": ["x/a/", "5000", "5001"]})
    assert isinstance(answer, Place)
    assert (answer.path, answer.owner) == ("x/a", Owner(5000, 5001))


@honours("home_mailbox", "mail_spool_directory")
def test_local_places(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {
        "bob": pwd.struct_passwd(("bob", "x", 1001, 1002, "", "/home/bob", "/bin/sh")),
        "a+b": pwd.struct_passwd(("a+b", "x", 1003, 1002, "", "/home/ab", "/bin/sh")),
        "root": pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "/bin/sh")),
        "../evil": pwd.struct_passwd(("../evil", "x", 1004, 1002, "", "", "/bin/sh")),
    }

    def by_name(name: str) -> pwd.struct_passwd:
        return users[name]

    monkeypatch.setattr(pwd, "getpwnam", by_name)
    monkeypatch.setattr("ekiden.deliver.account._raise_trouble", lambda name: None)

    def local(name: str, **settings: str) -> Place | Answer:
        spool = {"mail_spool_directory": "/nonexistent/mail"}
        return find({**spool, **settings}, name, transport=Transport.LOCAL)

    found = local("Bob+ext")
    assert isinstance(found, Place)
    assert (found.owner, found.form, found.base, found.path) == (
        Owner(1001, 1002),
        Form.MBOX,
        "/nonexistent/mail",
        "bob",
    )
    found = local("bob", home_mailbox="Maildir/")
    assert isinstance(found, Place)
    assert (found.form, found.base, found.path, found.guarded) == (Form.MAILDIR, "/home/bob", "Maildir", False)
    found = local("a+b")
    assert isinstance(found, Place)
    assert found.owner.uid == 1003
    for name in ("postmaster", "MAILER-DAEMON", "root"):
        found = local(name)
        assert isinstance(found, Place)
        assert (found.owner, found.path) == (ROOT, "root")
    unknown = local("nobody-here")
    assert isinstance(unknown, Answer)
    assert (unknown.outcome, unknown.text) == (Outcome.FAILED, 'unknown user: "nobody-here"')
    for name in ("../evil", "..", "/etc/passwd", "", "a\0b", "\udc80"):
        assert isinstance(local(name), Answer)
    assert isinstance(local("../evil", home_mailbox="Maildir/"), Answer)  # no home


def test_a_user_database_that_is_away_is_not_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(name: bytes) -> None:
        raise AccountTrouble("user lookup: Input/output error")

    monkeypatch.setattr("ekiden.deliver.account._raise_trouble", away)
    answer = refusal({}, "no-such-user", transport=Transport.LOCAL)
    assert (answer.outcome, answer.subject) == (Outcome.DEFERRED, 3)


def test_real_accounts() -> None:
    me = pwd.getpwuid(os.geteuid())
    found = find({}, me.pw_name, transport=Transport.LOCAL, server=Owner(me.pw_uid, me.pw_gid))
    assert isinstance(found, Place)
    answer = refusal({}, "no-such-user-at-all", transport=Transport.LOCAL)
    assert answer.outcome is Outcome.FAILED

"""aliases(5): what right-hand sides mean, tables that hold them, and expansion with its loops."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.deliver.alias_expansion import AliasLoop, Expansion, ExpansionRules, Group, SpecialAlias, User, expand
from ekiden.deliver.aliases import open_aliases, owner_of_table
from ekiden.deliver.targets import (
    MailTo,
    Special,
    SpecialKind,
    Target,
    pack_targets,
    parse_target_file,
    parse_targets,
    unpack_targets,
)
from ekiden.message.address import Address
from ekiden.tables.source import read_source
from ekiden.tables.table import TableTrouble
from support.honours import honours

RULES = ExpansionRules(delimiter="+", myorigin="mx.example", recursion_limit=100, expansion_limit=1000)


def command(text: str) -> Special:
    return Special(SpecialKind.COMMAND, text)


def file(text: str) -> Special:
    return Special(SpecialKind.FILE, text)


def include(text: str) -> Special:
    return Special(SpecialKind.INCLUDE, text)


def user(name: str) -> MailTo:
    return MailTo(Address(name))


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ('admin@x.example,\n\tbob, "c d"', [MailTo(Address("admin", "x.example")), user("bob"), user("c d")]),
        ('"|/bin/list -x, y", /var/log/mail', [command("/bin/list -x, y"), file("/var/log/mail")]),
        (':include:/etc/list, "|a\\"b"', [include("/etc/list"), command('a"b')]),
        ('"/var/a file", ":include:/etc/a list"', [file("/var/a file"), include("/etc/a list")]),
        ("|/usr/bin/vacation bob, carol", [command("/usr/bin/vacation bob"), user("carol")]),
        ('|"/usr/bin/vacation" -a "x, y" bob', [command('"/usr/bin/vacation" -a "x, y" bob')]),
        ("| /bin/cat ", [command("/bin/cat")]),
        ("a b\tc\n d", [user("a"), user("b"), user("c"), user("d")]),
        ("\\tom, Name@y.example", [MailTo(Address("tom"), final=True), MailTo(Address("Name", "y.example"))]),
        ("\u00a5tom, \uffe5eve", [MailTo(Address("tom"), final=True), MailTo(Address("eve"), final=True)]),
        ("\udca5tom", [MailTo(Address("tom"), final=True)]),
        ('"a b"@x.example', [MailTo(Address("a b", "x.example"))]),
        ('"A Name" <tom@x.example>, <eve>', [MailTo(Address("tom", "x.example")), user("eve")]),
        ('"\\\\tom", "\\eve"', [MailTo(Address("tom"), final=True), user("eve")]),
        ("~/Mail/new/", [file("~/Mail/new/")]),
        (",, bob ,", [user("bob")]),
    ],
)
def test_what_a_right_hand_side_means(text: str, targets: list[Target]) -> None:
    found = parse_targets(text)
    assert list(found) == targets
    assert unpack_targets(pack_targets(found)) == found


@pytest.mark.parametrize(
    "text", ["", " , ", '"open', "@x.example", '""@x.example', "a@b@c", "|", "a\0b", '"|a\0b"', "<x"]
)
def test_what_cannot_be_understood_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        parse_targets(text)


def test_a_file_of_targets_holds_what_it_can() -> None:
    found = parse_target_file('# mine\n\nbob\n  eve\n"open\nbob, @bad, carol # no comment\n')
    assert [target.text for target in found.targets] == ["bob", "eve", "carol", "#", "no", "comment"]
    assert [line for line, _ in found.problems] == [5, 6]


def test_an_entry_that_is_not_understood_is_trouble_and_not_unknown(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("good: bob\nbad: @x.example\n")
    aliases = open_aliases([f"texthash:{tmp_path}/aliases"])
    assert asyncio.run(aliases.lookup("GOOD")) == (user("bob"),)
    with pytest.raises(TableTrouble, match="bad"):
        asyncio.run(aliases.lookup("bad"))


@honours("alias_maps")
def test_aliases_come_from_tables_of_any_type(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("root: bob\n")
    (tmp_path / "patterns").write_text("/^list-(a|b)$/ eve\n/^x/ xena\n")
    words = [f"hash:{tmp_path}/aliases", f"regexp:{tmp_path}/patterns", "inline:{hello=world}"]
    aliases = open_aliases(words)
    for name, target in (("Root", "bob"), ("list-b", "eve"), ("hello", "world")):
        assert asyncio.run(aliases.lookup(name)) == (user(target),)
    # A pattern is asked for the whole name, never for a name without its extension.
    assert asyncio.run(aliases.lookup("xy", partial=True)) is None
    with pytest.raises(ConfigError):
        open_aliases(["hash:relative"])
    with pytest.raises(ConfigError):
        open_aliases(["/etc/aliases"])


def test_who_answers_for_a_table(tmp_path: Path) -> None:
    (tmp_path / "aliases").write_text("root: bob\n")
    assert owner_of_table(f"hash:{tmp_path}/aliases") == os.getuid()
    assert owner_of_table("inline:{a=b}") == 0
    with pytest.raises(TableTrouble):
        owner_of_table(f"hash:{tmp_path}/nothing")


class Book:
    def __init__(self, text: str) -> None:
        self._entries = read_source(text, aliases=True).entries

    async def lookup(self, name: str, *, partial: bool = False) -> tuple[Target, ...] | None:
        value = self._entries.get(name.lower())
        return None if value is None else parse_targets(value)


async def is_local(domain: str) -> bool:
    return domain in ("mx.example", "here.example")


def expanded(name: str, text: str, rules: ExpansionRules = RULES) -> Expansion:
    return asyncio.run(expand(name, Book(text), is_local, rules))


@pytest.mark.parametrize(
    ("name", "text", "mailboxes", "addresses"),
    [
        ("Bob", "", ["Bob"], []),
        ("bob+x", "", ["bob+x"], []),
        ("team", "team: bob, eve@here.example, d@out.example, BOB, d@OUT.example", ["bob", "eve"], ["d@out.example"]),
        ("bob", "bob: bob, copy@out.example", ["bob"], ["copy@out.example"]),
        ("bob+x", "bob: bob", ["bob"], []),
        ("bob+x", "bob: nobody\nbob+x: carol", ["carol"], []),
        ("a", "a: \\a, b\nb: c", ["a", "c"], []),
        ("a", "a: b, c\nb: d\nc: d", ["d"], []),
        ("postmaster", "postmaster: bob", ["bob"], []),
        ("Postmaster", "root: bob", ["bob"], []),
        ("MAILER-DAEMON", "postmaster: bob", ["bob"], []),
        ("MAILER-DAEMON", "root: carol", ["carol"], []),
        ("postmaster", "", ["postmaster"], []),
        ("postmaster", "postmaster: root", ["root"], []),
    ],
)  # fmt: skip
def test_expansion(name: str, text: str, mailboxes: list[str], addresses: list[str]) -> None:
    found = expanded(name, text)
    assert [user.name for user in found.users] == mailboxes
    assert [str(address) for group in found.groups for address in group.addresses] == addresses


def test_bare_names_go_where_myorigin_is() -> None:
    rules = ExpansionRules(delimiter="", myorigin="hub.example", recursion_limit=100, expansion_limit=1000)
    assert expanded("a", "a: b", rules) == Expansion((), (Group(None, (Address("b", "hub.example"),)),), ())


@pytest.mark.parametrize("length", [2, 3, 99, 100, 101, 1000])
def test_cycles_end(length: int) -> None:
    text = "".join(f"n{at}: n{(at + 1) % length}\n" for at in range(length))
    with pytest.raises(AliasLoop, match="alias database loop for n0"):
        expanded("n0", text)


def test_depth_and_width_are_limited() -> None:
    chain = "".join(f"n{at}: n{at + 1}\n" for at in range(100))
    assert expanded("n0", chain).users == (User("n100"),)
    with pytest.raises(AliasLoop):
        expanded("n0", chain + "n100: n101\n")
    with pytest.raises(AliasLoop, match="more than 1000"):
        expanded("a", "a: " + ", ".join(f"u{at}" for at in range(1001)))
    # Each alias is followed once, however many ways lead to it: 2**50 paths end at once.
    bushy = "".join(f"n{at}: n{at + 1}, m{at}\nm{at}: n{at + 1}\n" for at in range(50))
    assert expanded("n0", bushy).users == (User("n50"),)


LIST = "list: a, b@here.example, c@out.example\nowner-list: keeper, deputy\nboth: list, d@out.example\n"


def rules(**changes: bool) -> ExpansionRules:
    return ExpansionRules("-", "mx.example", 100, 1000, **changes)


def test_members_of_a_list_with_an_owner_get_mail_from_the_owner() -> None:
    members = {Address("a", "mx.example"), Address("b", "mx.example"), Address("c", "out.example")}
    owner = Address("owner-list", "mx.example")
    found = expanded("list", LIST)
    assert {group.sender: set(group.addresses) for group in found.groups} == {owner: members}
    assert found.users == ()
    found = expanded("both", LIST)
    assert {group.sender: set(group.addresses) for group in found.groups} == {
        owner: members,
        None: {Address("d", "out.example")},
    }


@honours("owner_request_special")
def test_owners_may_be_nothing_special() -> None:
    found = expanded("list", LIST, rules(owner_special=False))
    assert found.users == (User("a"), User("b"))
    assert found.groups == (Group(None, (Address("c", "out.example"),)),)
    text = "list: a\nlist-request: b\nowner: c\nowner-list: d\n"
    assert expanded("list-request", text, rules()).users == (User("b"),)
    assert expanded("other-request", "other: a\n", rules()).users == (User("other-request"),)
    assert expanded("other-request", "other: a\n", rules(owner_special=False)).users == (User("a"),)


@honours("expand_owner_alias")
def test_an_owner_may_be_named_by_who_it_is() -> None:
    text = "list: a@out.example\nowner-list: keeper\n"
    [group] = expanded("list", text, rules(expand_owner=True)).groups
    assert group.sender == Address("keeper", "mx.example")
    with pytest.raises(TableTrouble, match="one address"):
        expanded("list", LIST, rules(expand_owner=True))


@honours("reset_owner_alias")
def test_an_inner_alias_keeps_the_owner_unless_it_is_reset() -> None:
    text = "outer: inner\nowner-outer: keeper\ninner: bob, far@out.example, |cmd\n"
    keeper = Address("owner-outer", "mx.example")
    found = expanded("outer", text, rules())
    assert {group.sender for group in found.groups} == {keeper}
    assert found.specials == (SpecialAlias("inner", "inner", keeper),)
    found = expanded("outer", text, rules(reset_owner=True))
    assert found.users == (User("bob"),)
    assert found.groups == (Group(None, (Address("far", "out.example"),)),)
    assert found.specials == (SpecialAlias("inner", "inner", None),)


def test_commands_and_files_are_left_to_the_deliverer() -> None:
    found = expanded("a+x", "a: |cat, bob, /tmp/x, c@out.example, other\nother: :include:/etc/list\n")
    assert found.users == (User("bob"),)
    assert found.specials == (SpecialAlias("a", "a+x", None), SpecialAlias("other", "other", None))

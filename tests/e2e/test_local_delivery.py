"""The deliverer reads aliases and .forward files and serves what they say, as whom they may ask for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ekiden.deliver.mailbox_jobs import Transport
from ekiden.message.content import FileContent
from support.honours import honours
from support.local_host import AS_ROOT, LocalHost
from support.requirements import require_root


@pytest.fixture
def host(reachable_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHost:
    return LocalHost(reachable_path, monkeypatch)


def alias(host: LocalHost, right_hand_side: str, name: str = "list", **settings: str) -> tuple[str, str]:
    host.aliases(f"{name}: {right_hand_side}\n")
    [told] = host.deliver(name, transport=Transport.ALIAS, settings=settings)
    return told.status, told.text


# -- commands


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("exit 0", "2.0.0", "delivered to command: exit 0"),
        ("/bin/true", "2.0.0", "delivered to command: /bin/true"),
        ("exit 67", "5.1.1", "user unknown"),
        ("exit 75", "4.3.0", "temporary failure"),
        ("exit 71", "4.3.0", "system resource problem"),
        ("exit 77", "5.7.0", "permission denied"),
        ("exit 78", "5.3.5", "local configuration error"),
        ("exit 1", "5.3.0", 'Command died with status 1: "exit 1"'),
        ("echo hello; echo out; exit 99", "5.3.0",
         'Command died with status 99: "echo hello; echo out; exit 99". Command output: hello out'),
        ("echo 4.7.8 come later; exit 1", "4.7.8", "come later"),
        ("echo 5.7.9 never >&2; exit 75", "5.7.9", "never"),
        ("echo 2.7.8 fine; exit 75", "4.3.0", "temporary failure. Command output: 2.7.8 fine"),
        ("kill -9 $$", "4.3.0", 'Command died with signal 9: "kill -9 $$"'),
        ("nosuchcommand", "5.3.0",
         'Command died with status 127: "nosuchcommand". Command output: /bin/sh: 1: nosuchcommand: not found'),
        ("/no/such/command", "4.3.0", 'cannot run "/no/such/command": No such file or directory'),
    ],
)  # fmt: skip
def test_how_a_command_ends_is_how_the_delivery_ends(host: LocalHost, command: str, status: str, text: str) -> None:
    assert alias(host, f'"|{command}"') == (status, text)


def test_a_command_gets_the_message_and_its_circumstances(host: LocalHost) -> None:
    host.file("bob/.forward", f'"|cat > {host.out}/mail; env > {host.out}/env"')
    [told] = host.deliver("bob+work")
    assert told.status == "2.0.0"
    mail = host.output("mail").split("\n", 1)
    assert mail[0].startswith("From s@y.example  ")
    assert mail[1] == ("Return-Path: <s>\nDelivered-To: bob+work@Here.test\nSubject: hi\n\nHello\n.dot\nFrom here\n")
    environment = dict(line.split("=", 1) for line in host.output("env").splitlines())
    environment = {name: value for name, value in environment.items() if name not in ("PWD", "_", "SHLVL", "OLDPWD")}
    assert environment.pop("PATH") == "/usr/bin:/bin"
    environment = {name: value for name, value in environment.items() if name not in ("TZ", "LANG", "MAIL_CONFIG")}
    assert environment == {
        "HOME": str(host.path / "bob"), "SHELL": "/bin/sh", "USER": "bob", "LOGNAME": "bob", "EXTENSION": "work",
        "DOMAIN": "Here.test", "LOCAL": "bob+work", "RECIPIENT": "bob+work@Here.test", "SENDER": "s@y.example",
        "ORIGINAL_RECIPIENT": "bob+work@Here.test", "CLIENT_ADDRESS": "192.0.2.1", "CLIENT_HELO": "client.example",
        "CLIENT_HOSTNAME": "client.example", "CLIENT_PROTOCOL": "ESMTP",
    }  # fmt: skip
    if AS_ROOT:
        assert host.who("mail") == "bob"


@honours("command_expansion_filter")
def test_what_strangers_say_reaches_no_shell(host: LocalHost) -> None:
    host.file("bob/.forward", f'"|echo $CLIENT_HELO $EXTENSION > {host.out}/said"')
    host.deliver("bob+$(id)", client_helo="`touch /tmp/x`; x")
    assert host.output("said") == "_touch_/tmp/x___x __id_\n"
    host.deliver("bob+abc", command_expansion_filter="ab")
    assert host.output("said") == "_________a____ ab_\n"


@honours("export_environment")
def test_of_the_servers_environment_a_command_gets_what_is_named(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s")
    monkeypatch.setenv("TZ", "UTC")
    command = f'"|env > {host.out}/env"'
    alias(host, command)
    assert "SECRET" not in host.output("env")
    assert "TZ=UTC\n" in host.output("env")
    alias(host, command, export_environment="SECRET, { GIVEN = value }, OTHER=x")
    assert {"SECRET=s", "GIVEN=value", "OTHER=x"} <= set(host.output("env").splitlines())
    assert "TZ=" not in host.output("env")


@honours("command_time_limit")
def test_a_command_that_hangs_is_ended_with_its_children(host: LocalHost) -> None:
    started = time.monotonic()
    command = f'"|echo waiting; sleep 600 & echo $! > {host.out}/child; wait"'
    told = alias(host, command, command_time_limit="1s")
    assert told[0] == "5.3.0"
    assert told[1].startswith("Command time limit exceeded: ")
    assert told[1].endswith("Command output: waiting")
    assert time.monotonic() - started < 30
    child = Path(f"/proc/{host.output('child').strip()}")
    assert not child.exists() or "State:\tZ" in (child / "status").read_text()


def test_a_command_need_not_read_and_may_say_too_much(host: LocalHost, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 1_000_000)
    os.chmod(big, 0o644)
    content = FileContent(str(big), big.stat().st_size)
    talks = "|head -c 3000000 /dev/zero | tr \\\\0 x; exit 75"
    host.aliases(f'quits: "|exit 0"\ntalks: "{talks}"\nreads: "|cat > {host.out}/all"\n')
    quit, talked, read = host.deliver("quits", "talks", "reads", transport=Transport.ALIAS, content=content)
    assert (quit.status, read.status, talked.status) == ("2.0.0", "2.0.0", "4.3.0")
    assert 900 < len(talked.text) <= 1000
    assert len(host.output("all")) > 1_000_000


def test_many_commands_take_turns(host: LocalHost) -> None:
    host.file("bob/.forward", f'"|cat > /dev/null; echo x >> {host.out}/count"')
    told = host.deliver(*["bob"] * 60, command_concurrency_limit="7")
    assert {one.status for one in told} == {"2.0.0"}
    assert host.output("count") == "x\n" * 60


@honours("local_command_shell")
def test_commands_may_have_to_pass_a_shell_of_the_administrators(host: LocalHost) -> None:
    shell = host.file("shell", f'#!/bin/sh\necho "$@" > {host.out}/shell\n', mode=0o755)
    assert alias(host, "|/bin/false", local_command_shell=f"{shell} -c")[0] == "2.0.0"
    assert host.output("shell") == "-c /bin/false\n"


@honours("command_execution_directory", "execution_directory_expansion_filter")
def test_where_commands_run(host: LocalHost) -> None:
    host.file("bob/.forward", f'"|pwd > {host.out}/pwd"')
    host.deliver("bob")
    assert host.output("pwd") == "/\n"
    host.deliver("bob", command_execution_directory="$home")
    assert host.output("pwd") == f"{host.path}/bob\n"
    (host.path / "_o_").mkdir()
    host.deliver("bob", command_execution_directory=f"{host.path}/$user", execution_directory_expansion_filter="o")
    assert host.output("pwd") == f"{host.path}/_o_\n"
    [told] = host.deliver("bob", command_execution_directory="/no/such/place")
    assert told.status == "4.3.0"


@honours("allow_mail_to_commands", "allow_mail_to_files")
def test_where_commands_and_files_are_obeyed(host: LocalHost) -> None:
    file = host.out / "file"
    members = host.file("members", f"|/bin/true\n{file}\nx@out.example\n", mode=0o644)
    host.file("bob/.forward", f"|/bin/true, {file}")
    restricted = ("5.7.1", "mail to command is restricted")
    assert alias(host, "|/bin/true")[0] == "2.0.0"
    assert alias(host, "|/bin/true", allow_mail_to_commands="forward") == restricted
    assert alias(host, str(file), allow_mail_to_files="") == ("5.7.1", "mail to file is restricted")
    assert host.deliver("bob")[0].status == "2.0.0"
    assert host.deliver("bob", allow_mail_to_commands="alias")[0].status == "5.7.1"
    assert host.deliver("bob", allow_mail_to_files="alias")[0].text == "mail to file is restricted"
    assert alias(host, f":include:{members}") == restricted
    everywhere = {"allow_mail_to_commands": "include", "allow_mail_to_files": "alias, include"}
    assert alias(host, f":include:{members}", **everywhere)[0] == "2.0.0"


# -- whose rights


@honours("default_privs")
def test_nothing_runs_as_root(host: LocalHost) -> None:
    require_root()
    host.aliases(f'mine: "|id -u > {host.out}/as-root; id -G > {host.out}/groups", {host.out}/file\n')
    assert host.deliver("mine", transport=Transport.ALIAS)[0].status == "2.0.0"
    assert host.who("as-root") == host.who("file") == "anybody"
    assert host.output("groups").split() == [str(host.accounts["anybody"].gid)]
    host.deliver("mine", transport=Transport.ALIAS, default_privs="eve")
    host.file("root/.forward", f'"|true > {host.out}/for-root"', owner="root")
    assert host.deliver("root")[0].status == "2.0.0"
    assert host.who("for-root") == "anybody"
    for wrong in ("root", "no-such-user"):
        [told] = host.deliver("mine", transport=Transport.ALIAS, default_privs=wrong)
        assert told.status == "4.3.5"


def test_an_alias_file_of_a_users_runs_as_that_user(host: LocalHost) -> None:
    require_root()
    host.aliases(f'list: "|true > {host.out}/made"\n', owner="eve")
    assert host.deliver("list", transport=Transport.ALIAS)[0].status == "2.0.0"
    assert host.who("made") == "eve"


def test_an_include_file_of_a_users_runs_as_that_user_and_roots_secrets_are_not_read(host: LocalHost) -> None:
    require_root()
    everywhere = {"allow_mail_to_commands": "alias, include"}
    members = host.file("members", f'"|true > {host.out}/made", x@out.example\n', owner="eve")
    host.aliases(f"list: :include:{members}\n")
    [told] = host.deliver("list", transport=Transport.ALIAS, settings=everywhere)
    assert (told.status, told.addresses) == ("2.0.0", ("x@out.example",))
    assert host.who("made") == "eve"
    secret = host.file("secret", "secret\n", owner="root")
    for trap in (os.symlink, os.link):
        (host.path / "eve" / "members").unlink(missing_ok=True)
        trap(secret, host.path / "eve" / "members")
        if trap is os.symlink:
            os.lchown(host.path / "eve" / "members", host.accounts["eve"].uid, -1)
        host.aliases(f"list: :include:{host.path}/eve/members\n")
        [told] = host.deliver("list", transport=Transport.ALIAS)
        assert (told.status[0], told.addresses) == ("4", ())


def test_include_files(host: LocalHost) -> None:
    inner = host.file("inner", "c@out.example\n@broken\nd@out.example, bob\n", mode=0o644)
    outer = host.file("outer", f"# the list\na@out.example, b@out.example\n:include:{inner}\n", mode=0o644)
    host.aliases(
        f"list: :include:{outer}, |/bin/true\nloop: :include:{host.path}/loop\nmany: :include:{host.path}/many\n"
    )
    [told] = host.deliver("list", transport=Transport.ALIAS)
    assert told.addresses == ("a@out.example", "b@out.example", "c@out.example", "d@out.example", "bob")
    assert told.left.warnings == (f"{inner}, line 2: '@broken' is not an address",)
    host.file("loop", f":include:{host.path}/loop\n", mode=0o644)
    assert host.deliver("loop", transport=Transport.ALIAS)[0].status == "5.4.6"
    host.file("many", "".join(f"member-{at}@out.example\n" for at in range(20_000)), mode=0o644)
    assert len(host.deliver("many", transport=Transport.ALIAS)[0].addresses) == 20_000
    told = host.deliver("many", transport=Transport.ALIAS, include_file_size_limit="1000")[0]
    assert (told.status, told.addresses) == ("4.3.5", ())
    inner.chmod(0o666)
    assert host.deliver("list", transport=Transport.ALIAS)[0].status == "4.3.5"


# -- files


def test_files_and_devices(host: LocalHost) -> None:
    file = host.out / "a file"
    assert alias(host, f'/dev/null, "{file}", {host.out}/dir/') == ("2.0.0", "delivered to 3 files and commands")
    text = file.read_text()
    assert text.startswith("From s@y.example  ")
    assert text.endswith("\nHello\n.dot\n>From here\n\n")
    assert len(list((host.out / "dir" / "new").iterdir())) == 1
    os.mkfifo(host.out / "pipe")
    os.chmod(host.out / "pipe", 0o666)
    assert alias(host, f"{host.out}/pipe")[0] == "4.2.0"  # nobody reads it, and nobody waits for one who does
    assert alias(host, f"{host.out}/../x")[0] == "4.3.5"


def test_a_second_attempt_does_only_what_is_missing(host: LocalHost) -> None:
    host.file("bob/.forward", f'"|echo x >> {host.out}/count", "|test -e {host.out}/ready || exit 75", far@out.example')
    [told] = host.deliver("bob")
    assert (told.status, len(told.left.done)) == ("4.3.0", 1)
    host.out.joinpath("ready").write_text("")
    [told] = host.deliver("bob", done=told.left.done)
    assert (told.status, told.addresses, len(told.left.done)) == ("2.0.0", ("far@out.example",), 2)
    assert host.output("count") == "x\n"


# -- .forward


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o644, 0o640])
def test_a_forward_file_is_obeyed(host: LocalHost, mode: int) -> None:
    """A9.03, A9.04: addresses and \\user, which Japanese texts print with a yen sign."""
    host.file("bob/.forward", "# mine\nkaede@serv.example,\n \\sakura, ¥sakura\n", mode=mode)
    [told] = host.deliver("bob")
    assert told.addresses == ("kaede@serv.example", "\\sakura")
    assert host.mailbox("bob") == b""


def test_a_forward_file_that_others_may_write_is_not_obeyed(host: LocalHost) -> None:
    """A9.06: mode 600 is wanted."""
    for mode, why in ((0o666, "everybody may write it (mode 666"), (0o620, "its group may write it (mode 620")):
        host.file("bob/.forward", "eve@out.example\n", mode=mode)
        [told] = host.deliver("bob")
        assert (told.status, told.text, told.addresses) == ("2.0.0", "delivered to mailbox", ())
        assert told.left.warnings[0].startswith(f"{host.path}/bob/.forward is not obeyed: {why}")
    assert host.mailbox("bob").count(b"Subject: hi") == 2


def test_a_forward_file_that_is_a_trap_is_not_obeyed(host: LocalHost, tmp_path: Path) -> None:
    target = host.file("eve/file", "x@out.example\n", owner="eve", mode=0o644)
    forward = host.path / "bob" / ".forward"
    traps: list[Callable[[], object]] = [
        lambda: forward.symlink_to(target), lambda: os.mkfifo(forward), lambda: forward.mkdir()
    ]  # fmt: skip
    if AS_ROOT:
        traps.append(lambda: host.file("bob/.forward", "x@out.example\n", owner="eve", mode=0o644))
    for number, trap in enumerate(traps, 1):
        trap()
        [told] = host.deliver("bob")
        assert (told.status, told.addresses) == ("2.0.0", ())
        assert "is not obeyed" in told.left.warnings[0]
        assert host.mailbox("bob").count(b"Subject: hi") == number
        forward.rmdir() if forward.is_dir() and not forward.is_symlink() else forward.unlink()
    host.file("bob/.forward", "x" * 70_000)
    assert "is larger than 65536 bytes" in host.deliver("bob")[0].left.warnings[0]
    assert "is larger than 5 bytes" in host.deliver("bob", forward_file_size_limit="5")[0].left.warnings[0]


def test_of_a_forward_file_with_mistakes_nothing_is_lost(host: LocalHost) -> None:
    host.file("bob/.forward", "kaede@serv.example\n@oops\n")
    [told] = host.deliver("bob")
    assert told.addresses == ("kaede@serv.example", "\\bob")
    assert told.left.warnings == (f"{host.path}/bob/.forward, line 2: '@oops' is not an address",)
    for empty in ("", "# nothing\n", "@oops\n"):
        host.file("bob/.forward", empty)
        [told] = host.deliver("bob")
        assert (told.status, told.text, told.addresses) == ("2.0.0", "delivered to mailbox", ())


@honours("forward_path", "forward_expansion_filter")
def test_where_forward_files_lie(host: LocalHost) -> None:
    host.file("bob/.forward", "plain@out.example\n")
    host.file("bob/.forward+work", "work@out.example\n")
    plain, work, other, slash = host.deliver("bob", "bob+work", "bob+other", "bob+work/../x")
    assert [told.addresses for told in (plain, work, other, slash)] == [
        ("plain@out.example",), ("work@out.example",), ("plain@out.example",), ("plain@out.example",),
    ]  # fmt: skip
    (host.path / "fw").mkdir()
    host.file("fw/bob.here.test", "central@out.example\n", mode=0o644)
    path = {"forward_path": f"{host.path}/fw/$user.${{domain}}"}
    assert host.deliver("bob", settings=path)[0].addresses == ()
    host.file("fw/bob.Here.test", "central@out.example\n", mode=0o644)
    assert host.deliver("bob", settings=path)[0].addresses == ("central@out.example",)
    host.file("fw/_o_.x", "filtered@out.example\n", mode=0o644)
    told = host.deliver("bob", forward_path=f"{host.path}/fw/$user.x", forward_expansion_filter="o")[0]
    assert told.addresses == ("filtered@out.example",)
    assert host.deliver("bob", forward_path="")[0].text == "delivered to mailbox"


def test_the_users_mailbox_whatever_forward_says(host: LocalHost) -> None:
    host.file("bob/.forward", "plain@out.example\n")
    assert host.deliver("bob", transport=Transport.MAILBOX)[0].text == "delivered to mailbox"
    [told] = host.deliver("eve", without_mailbox=True)
    assert told.left.to_mailbox
    [told] = host.deliver("nosuchuser", without_mailbox=True)
    assert told.left.to_mailbox
    [told] = host.deliver("nosuchuser")
    assert (told.status, told.left.unknown) == ("5.1.1", True)


@honours("propagate_unmatched_extensions")
@pytest.mark.parametrize(
    ("classes", "from_forward", "from_alias"),
    [
        ("", ["forwarded", "member"], ["member"]),
        ("forward", ["forwarded+x", "member"], ["member"]),
        ("forward, include", ["forwarded+x", "member+x"], ["member"]),
        ("include", ["forwarded", "member"], ["member"]),
        ("alias, include", ["forwarded", "member"], ["member+x"]),
    ],
)
def test_the_extension_goes_on_through_files(
    host: LocalHost, classes: str, from_forward: list[str], from_alias: list[str]
) -> None:
    members = host.file("members", "member@out.example\n", mode=0o644)
    host.file("bob/.forward", f"forwarded@out.example, :include:{members}\n", mode=0o644)
    host.file("eve/.forward+x", "own@out.example\n", mode=0o644, owner="eve")
    host.aliases(f"list: :include:{members}\n")
    settings = {"propagate_unmatched_extensions": classes}
    [bob, eve, too_long] = host.deliver("bob+x", "eve+x", f"bob+{'x' * 251}", settings=settings)
    assert bob.addresses == tuple(f"{name}@out.example" for name in from_forward)
    assert eve.addresses == ("own@out.example",)  # the file is the extension's own
    assert too_long.addresses == ("forwarded@out.example", "member@out.example")
    [told] = host.deliver("list", transport=Transport.ALIAS, came_as="List+x", settings=settings)
    assert told.addresses == tuple(f"{name}@out.example" for name in from_alias)


# -- the mailbox


@honours("mailbox_command", "mailbox_command_maps")
def test_a_command_in_place_of_the_mailbox(host: LocalHost) -> None:
    commands = host.file("commands", f"eve echo eve $EXTENSION > {host.out}/eve\n", mode=0o644)
    command = f'echo "$HOME" $USER "$EXTENSION" > {host.out}/bob'
    told = host.deliver("bob+x", "eve+y", mailbox_command=command, mailbox_command_maps=f"texthash:{commands}")
    assert [one.status for one in told] == ["2.0.0", "2.0.0"]
    assert host.output("bob") == f"{host.path}/bob bob x\n"
    assert host.output("eve") == "eve y\n"
    assert host.mailbox("bob") == b""
    host.file("bob/.forward", "plain@out.example\n")
    assert host.deliver("bob", mailbox_command="exit 1")[0].addresses == ("plain@out.example",)
    if AS_ROOT:
        host.deliver("root", mailbox_command=f"true > {host.out}/root")
        assert host.who("root") == "anybody"


@honours("home_mailbox", "mail_spool_directory")
def test_kinds_of_mailboxes(host: LocalHost) -> None:
    host.deliver("bob", home_mailbox="Mail/in/")
    assert len(list((host.path / "bob/Mail/in/new").iterdir())) == 1
    host.deliver("bob", home_mailbox="Mailbox")
    assert (host.path / "bob/Mailbox").exists()
    host.deliver("bob", mail_spool_directory=f"{host.spool}/")
    assert len(list((host.spool / "bob/new").iterdir())) == 1


@honours("mailbox_size_limit")
def test_a_full_mailbox_refuses_for_good(host: LocalHost) -> None:
    """A9.13"""
    told = [host.deliver("bob", mailbox_size_limit="200")[0] for _ in range(3)]
    assert [one.status for one in told] == ["2.0.0", "5.2.2", "5.2.2"]
    assert host.mailbox("bob").count(b"Subject: hi") == 1
    assert alias(host, f"{host.out}/file", mailbox_size_limit="50")[0] == "5.2.2"
    assert host.output("file") == ""


@honours("require_home_directory")
def test_a_home_that_is_not_there(host: LocalHost) -> None:
    (host.path / "bob").rename(host.path / "elsewhere")
    assert host.deliver("bob", require_home_directory="yes")[0].status == "4.3.0"
    assert host.deliver("bob")[0].status == "2.0.0"


def test_where_delivered_to_is_written(host: LocalHost) -> None:
    for where, count in (("command", 0), ("file", 1)):
        host.deliver("bob", prepend_delivered_header=where)
        assert host.mailbox("bob").count(b"Delivered-To: bob@Here.test\n") == count
    for where, count in (("file", 0), ("command, forward", 1)):
        alias(host, f'"|grep -c ^Delivered-To > {host.out}/count; true"', prepend_delivered_header=where)
        assert host.output("count") == f"{count}\n"


# -- pipe services


SCRIPT = """#!/bin/sh
for word; do echo "[$word]"; done > OUT/words
cat > OUT/mail
id -u > OUT/who
"""


def pipe_service(host: LocalHost, attributes: str, words: str, user: str = "") -> None:
    script = host.file("script", SCRIPT.replace("OUT", str(host.out)), mode=0o755)
    user = user or "user=bob"
    host.master_cf = f"x unix - n n - - pipe {attributes} {user} argv={script} {words}\n"


def test_a_pipe_service_gets_its_arguments(host: LocalHost) -> None:
    pipe_service(
        host, "flags=hu", "${sender} x-$recipient-$(user) {a b} $$ ${extension} $nexthop ${queue_id} $size "
        "$client_address $client_port ${domain} ${mailbox} $original_recipient",
    )  # fmt: skip
    told = host.pipe("x", "Bob+Ext@HERE.test", '"A b"@x.test')
    assert (told.status, told.text) == ("2.0.0", "delivered via x service")
    assert [word[1:-1] for word in host.output("words").splitlines()] == [
        "s@y.example", "x-bob+ext@here.test-bob", "x-a b@x.test-a b", "a b", "$", "ext", "", "hop", "Q1", "39",
        "192.0.2.1", "25", "here.test", "x.test", "bob+ext", "a b", "bob+ext@here.test", "a b@x.test",
    ]  # fmt: skip
    if AS_ROOT:
        assert host.who("mail") == "bob"
    assert host.output("mail") == "Subject: hi\n\nHello\n.dot\nFrom here\n"


def test_the_flags_of_a_pipe_service(host: LocalHost) -> None:
    pipe_service(host, "flags=DFORBq.> eol=\\r\\n null_sender=", "${sender} $recipient")
    host.pipe("x", '"a b"@Here.test', sender="")
    mail = (host.out / "mail").read_bytes().split(b"\r\n")
    assert mail[0].startswith(b"From MAILER-DAEMON  ")
    assert mail[1:] == [
        b"Return-Path: <>", b'X-Original-To: "a b"@Here.test', b'Delivered-To: "a b"@Here.test', b"Subject: hi", b"",
        b"Hello", b"..dot", b">From here", b"", b"",
    ]  # fmt: skip
    assert host.output("words") == '[]\n["a b"@Here.test]\n'


def test_who_a_pipe_service_runs_as(host: LocalHost) -> None:
    require_root()
    for user in ("user=root", "user=nosuch", "user=bob:root", "user=bob:nosuch"):
        pipe_service(host, "flags=", "x", user=user)
        assert host.pipe("x", "a@b.test").status == "4.3.5"
    pipe_service(host, "flags=", "x", user="user=eve")
    assert host.pipe("x", "a@b.test", mail_owner="eve").status == "4.3.5"
    assert host.pipe("x", "a@b.test").status == "2.0.0"
    assert host.who("who") == "eve"
    assert host.pipe("other", "a@b.test").status == "4.3.5"


@honours("transport_time_limit")
def test_the_time_and_the_end_of_a_pipe_command(host: LocalHost) -> None:
    line = "unix - n n - - pipe user=bob argv="
    host.master_cf = f"x {line}/bin/sleep 600\ny {line}/bin/false\n"
    assert host.pipe("x", "a@b.test", x_time_limit="1s").text == 'Command time limit exceeded: "/bin/sleep 600"'
    assert host.pipe("y", "a@b.test").text == 'Command died with status 1: "/bin/false"'

"""Every line that textbooks print for a mail server runs as printed; textbook_lines.toml says which test runs which.

Two hosts of a private network (support.textbook_host) stand for it: one whose main.cf is all lines of A7 together and
nothing else, with the master.cf of every guide to content filters; and one with the settings of everyday use, for
mailboxes in /var/mail, aliases, .forward files and the log. Beyond them is the outside: a name server and its MX host.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from support.certificates import Authority
from support.name_server import running_dns
from support.network import Namespace, Network, private_network
from support.requirements import ROOT, require_program, require_promises
from support.running import open_directory, wait_for
from support.smtp_sink import Dumped, SmtpSink
from support.textbook_host import Files, TextbookHost


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """See textbook_lines.toml."""

    id: str
    line: str = ""
    shows: str = ""
    becomes: str = ""
    state: str = ""
    tests: tuple[str, ...] = ()


_TABLE = tomllib.loads(Path(__file__).with_name("textbook_lines.toml").read_text())
ROWS = {row.id: row for row in msgspec.convert(_TABLE["row"], list[Row])}
NOT_YET = {row.line.partition(" ")[0] for row in ROWS.values() if row.state == "not yet"}
SETTINGS = [row for row in ROWS.values() if re.match(r"A7\.(0\d|1\d|2[0-8])$", row.id)]

MAIN_CF = "# main.cf of the textbooks\n" + "".join(f"{row.line}\n" for row in SETTINGS)
MASTER_CF = """\
smtp   inet n - n - - smtpd
amavis unix - - n - 2 smtp
  -o smtp_data_done_timeout=1200
127.0.0.1:10025 inet n - n - - smtpd
  -o content_filter=
  -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks
"""
EVERYDAY = "".join(f"{ROWS[f'A7.0{number}'].line}\n" for number in (1, 2, 3, 4, 5, 6, 7)) + (
    "queue_directory = /var/spool/postfix\nmaillog_file = /var/log/mail.log\nmail_owner = postfix\n"
)
ELSEWHERE = ROWS["A9.04"].line.splitlines()[0]
DAILY_MASTER = "smtp inet n - n - - smtpd\n"
RESOLVER, AUTHORITY = "10.81.0.1", "10.81.0.2"
ZONES = dict.fromkeys((ELSEWHERE.partition("@")[2], "there.example"), f"@ MX 10 mx\nmx A {RESOLVER}\n")
COMPANY = "192.168.5.5"  # an address of the second network of A7.07, on the hosts themselves


# -- the table


def test_every_requirement_has_its_row() -> None:
    text = require_promises().read_text()
    promised = dict(re.findall(r"(?m)^- \[.\] (A(?:[789]\.\d\d|17\.1[23]|18\.\d\d)) (.+)$", text))
    assert len(promised) >= 30 + 18 + 16 + 2 + 12
    assert list(ROWS) == list(promised)
    for row in ROWS.values():
        text = _flat(promised[row.id].replace("`", ""))
        for line in row.line.replace("`", "").splitlines():
            assert _flat(line) in text, row.id


def _flat(text: str) -> str:
    return " ".join(text.split())


def test_every_row_says_who_executes_it() -> None:
    assert len(ROWS) == len(_TABLE["row"])
    for row in ROWS.values():
        later = row.state.startswith("later: ")
        assert later or row.state in ("", "not yet") or row.state.startswith("differs: "), row
        assert bool(row.tests) == bool(row.shows) == (not later), row
        for test in row.tests:
            file, _, function = test.partition("::")
            assert function in _functions(ROOT / file), test


@cache
def _functions(path: Path) -> frozenset[str]:
    """The names of the tests of a file."""
    nodes = ast.parse(path.read_text()).body
    return frozenset(n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_"))


# -- the hosts


class World:
    def __init__(self, network: Network, directory: Path) -> None:
        self.files = Files(directory, resolver=RESOLVER)
        self.hub = network.hub
        hosts = [network.add(name, address) for name, address in (("lines", "10.81.0.11"), ("daily", "10.81.0.12"))]
        for host in hosts:
            add = ("ip", "address", "add", f"{COMPANY}/32", "dev", "lo")
            host.run(*add)
        self.lines = TextbookHost(hosts[0], self.files, "/etc/postfix")
        self.daily = TextbookHost(hosts[1], self.files, "/etc/ekiden", log=self.files.log / "mail.log")
        self._sinks: list[subprocess.Popen[bytes]] = []
        self.outside = self._sink(self.hub, RESOLVER, 25)
        self.filter = self._sink(self.lines.namespace, "127.0.0.1", 10024)

    def _sink(self, host: Namespace, address: str, port: int) -> SmtpSink:
        folder = self.files.directory / f"sink-{port}"
        folder.mkdir()
        folder.chmod(0o777)
        words = ("-u", "nobody", "-d", f"{folder}/m.", f"{address}:{port}", "50")
        self._sinks.append(subprocess.Popen([*host.enter, require_program("smtp-sink"), *words]))
        return SmtpSink(port, folder)

    def start(self) -> None:
        with (self.files.etc / "hosts").open("a") as hosts:
            hosts.write(f"{RESOLVER} client.there.example\n")
        self.write_certificate()
        self.lines.configure(MAIN_CF, MASTER_CF)
        self.daily.configure(EVERYDAY, DAILY_MASTER)
        self.write_aliases("rose: momiji\n")
        self.daily.shell(ROWS["A9.10"].line)
        self.lines.start()
        self.daily.start()

    def write_certificate(self) -> None:
        """Where the lines say; the key is for root's eyes."""
        pair = Authority().issue("mail.example.com")
        for row, data, mode in (("A7.16", pair.pem, 0o644), ("A7.17", pair.key_pem, 0o600)):
            path = self.files.etc / ROWS[row].line.partition("/etc/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(mode)

    def write_aliases(self, more: str) -> None:
        text = f"{ROWS['A9.07'].line}\nteam: sakura, momiji,\n  user@there.example\n{more}"
        (self.files.etc / "aliases").write_text(text)

    def stop(self) -> None:
        for host in (self.lines, self.daily):
            host.stop()
        for sink in self._sinks:
            sink.kill()
            sink.wait()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    for program in ("nsd", "unbound", "smtp-sink", "swaks", "netstat", "mail"):
        require_program(program)
    with open_directory() as directory, private_network(RESOLVER) as network:
        network.add_hub_address(AUTHORITY)
        with running_dns(network.hub, directory / "dns", ZONES, resolver=RESOLVER, authority=AUTHORITY):
            made = World(network, directory)
            try:
                made.start()
                yield made
            finally:
                made.stop()


@pytest.fixture(autouse=True)
def _logs_of_a_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """pytest shows what is printed when a test has failed, and then only."""
    yield
    if "world" in request.fixturenames:
        found = request.getfixturevalue("world")
        print(found.lines.report(), found.daily.report())


def swaks(host: Namespace, server: str, sender: str, recipients: str, *more: str) -> dict[str, str]:
    """What the server said to each recipient; the sender to an empty name: the banner."""
    words = ("--server", server, "--helo", "client.example", "--from", sender, "--to", recipients, *more)
    said = host.run(require_program("swaks"), *words, check=False).stdout
    asked = re.findall(r"(?m)^ ~?-> RCPT TO:<(.*)>\n<[-~* ]+ +(\d{3} [^ ]+)", said)
    banner = re.search(r"(?m)^<- +220 (.*)$", said)
    assert banner is not None, said
    return {**dict(asked), "": banner[1]}


def arrived(sink: SmtpSink, subject: str) -> list[Dumped]:
    """What has come to a sink with this subject, when something has."""
    wait_for(lambda: sink.times(f"Subject: {subject}\n".encode()), f"{subject!r} at port {sink.port}")
    return [mail for mail in sink.messages(sink.count) if f"Subject: {subject}\n".encode() in mail.content]


def recipients(mails: list[Dumped]) -> list[str]:
    return sorted(args.split(" ")[0] for mail in mails for args in mail.facts["X-Rcpt-Args"])


def mails(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


# -- A7: one main.cf of all lines


def test_the_lines_together_are_a_configuration(world: World) -> None:
    done = world.lines.ekiden("check", "--json")
    assert done.returncode == 0, done
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one for one in told if one["level"] == "error" or "unknown parameter" in one["text"]] == []
    not_yet = {one["text"].split(" ")[0] for one in told if "does not honour yet" in one["text"]}
    assert not_yet == NOT_YET
    passed_over = {one["text"].partition(": ")[2] for one in told if "passed over" in one["text"]}
    words = (
        "reject_rbl_client zen.spamhaus.org", "check_policy_service unix:private/policy",
    )  # fmt: skip
    assert passed_over == {f"{word} is not there yet: passed over" for word in words}
    known = (
        "does not honour yet", "is not there yet: passed over", "TLS 1.2 is the floor", "there are no accounts yet",
    )  # fmt: skip
    assert [one for one in told if not any(text in one["text"] for text in known)] == []
    assert {one["file"] for one in told} == {ROWS["A7.29"].line}


def test_the_floor_of_tls_is_told(world: World) -> None:
    said = world.lines.ekiden("check").stdout
    for name in ("smtpd_tls_protocols", "smtpd_tls_mandatory_protocols"):
        assert f"{name} = {ROWS['A7.30'].line} still allows TLSv1 and TLSv1.1: TLS 1.2 is the floor" in said


def test_the_lines_of_tls_give_tls_and_nothing_old(world: World) -> None:
    def said(*options: str) -> str:
        words = ("s_client", "-connect", "127.0.0.1:25", "-starttls", "smtp", "-cipher", "ALL:@SECLEVEL=0", *options)
        return world.lines.run(require_program("openssl"), *words, data="QUIT\n").stdout

    assert "New, TLSv1.3, Cipher is" in said()
    assert "subject=CN = mail.example.com" in said()
    assert "New, TLSv1.2, Cipher is" in said("-tls1_2")
    for old in ("-tls1_1", "-tls1"):
        assert "Cipher is (NONE)" in said(old)


def test_continued_lines_are_one_value(world: World) -> None:
    for number in (23, 24, 25, 26):
        name, _, value = ROWS[f"A7.{number}"].line.partition(" =")
        assert world.lines.shell(f"postconf -h {name}").split() == value.split()


def test_names_of_the_host(world: World) -> None:
    header = ("--header", "Subject: bare names")
    said = swaks(world.lines.namespace, "127.0.0.1", "kaede", "momiji", *header)
    assert said[""].startswith("mail.example.com ")
    (mail,) = arrived(world.filter, "bare names")
    assert mail.facts["X-Mail-Args"][0].startswith("<kaede@example.com>")
    assert recipients([mail]) == ["<momiji@example.com>"]


def test_who_may_send_where(world: World) -> None:
    here = ("mail.example.com", "localhost.example.com", "localhost", "example.com")
    ours = ",".join(f"sakura@{domain}" for domain in here)
    others = "user@there.example,user@below.example.com"
    address = world.lines.namespace.address
    to_rcpt = ("--quit-after", "RCPT")
    unnamed = swaks(world.hub, address, "a@there.example", ours, *to_rcpt, "--local-interface", AUTHORITY)
    del unnamed[""]
    assert set(unnamed.values()) == {"450 4.7.25"}
    stranger = swaks(world.hub, address, "a@there.example", f"{ours},{others}", *to_rcpt)
    del stranger[""]
    assert {name: code for name, code in stranger.items() if code != "250 2.1.5"} == {
        "user@there.example": "554 5.7.1", "user@below.example.com": "554 5.7.1",
    }  # fmt: skip
    assert len(stranger) == 6
    for server, source in (("127.0.0.1", "127.0.0.1"), (address, COMPANY)):
        friend = swaks(world.lines.namespace, server, "a@example.com", others, *to_rcpt, "--local-interface", source)
        assert [friend[name] for name in others.split(",")] == ["250 2.1.5"] * 2


def test_all_mail_goes_to_the_filter(world: World) -> None:
    to = "sakura@example.com,user@there.example"
    swaks(world.lines.namespace, "127.0.0.1", "a@example.com", to, "--header", "Subject: filtered")
    assert recipients(arrived(world.filter, "filtered")) == ["<sakura@example.com>", "<user@there.example>"]


def give_back(world: World, recipient: str, subject: str) -> None:
    """As the filter does, at the listener for mail that comes back."""
    header = ("--header", f"Subject: {subject}")
    answers = swaks(world.lines.namespace, "127.0.0.1:10025", "a@example.com", recipient, *header)
    assert answers[recipient] == "250 2.1.5"


def test_mail_lies_in_the_users_maildir(world: World) -> None:
    give_back(world, "momiji@example.com", "to a Maildir")
    new = world.files.home / "momiji" / "Maildir" / "new"
    wait_for(lambda: mails(new), "a file in Maildir/new")
    (mail,) = mails(new)
    assert b"\nSubject: to a Maildir\n" in mail


def test_mail_to_the_outside_goes_to_its_mx_host(world: World) -> None:
    give_back(world, "user@there.example", "by MX")
    assert recipients(arrived(world.outside, "by MX")) == ["<user@there.example>"]
    wait_for(lambda: f"relay=mx.there.example[{RESOLVER}]:25" in world.lines.report(), "its line in the log")


def test_no_listener_maps_addresses_unless_it_resets_the_option(world: World) -> None:
    def told(master_cf: str) -> bool:
        (world.lines.etc / "master.cf").write_text(master_cf)
        return "reset it for the listener" in world.lines.ekiden("check").stdout

    try:
        assert told(MASTER_CF.replace("  -o receive_override_options", "  -o mua_options"))
    finally:
        assert not told(MASTER_CF)


# -- A8: what other servers are told


def test_lines_of_other_servers_are_imported_as_printed() -> None:
    """The samples hold the lines, and what is expected of them; test_import.py runs the command on them."""
    samples = ROOT / "tests" / "samples"
    sendmail = samples / "sendmail-textbook" / "source" / "sendmail.mc"
    exim = samples / "exim-textbook" / "source" / "exim4" / "update-exim4.conf.conf"
    for row in ROWS.values():
        if row.id.startswith("A8.") and row.line:
            file = sendmail if row.id < "A8.09" else exim
            assert row.line in file.read_text().splitlines(), row.id
            expected = file.parents[1 if file == sendmail else 2] / "expected.cf"
            assert not row.becomes or row.becomes in expected.read_text().splitlines(), row.id


# -- A9: mailboxes, aliases, .forward


def send(world: World, user: str, subject: str) -> None:
    """Send by hand, and wait until nothing of it is in the queue any more."""

    def taken_in() -> int:
        return world.daily.log.count(": uid=")

    before = taken_in()
    world.daily.shell(f"sendmail {user}", f"Subject: {subject}\n\nhello\n")
    wait_for(lambda: taken_in() > before, "a line that the message was picked up")
    world.daily.wait_until_settled()


def in_mailbox(world: World, user: str, subject: str) -> int:
    """How often a mail lies in /var/mail/USER."""
    return world.files.mailbox(user).count(f"\nSubject: {subject}\n".encode())


def test_mail_lies_in_var_mail(world: World) -> None:
    send(world, "momiji", "to an mbox")
    assert in_mailbox(world, "momiji", "to an mbox") == 1
    assert world.files.mailbox("momiji").startswith(b"From root@example.com ")


def test_a_forward_file_with_one_address(world: World) -> None:
    world.files.forward("kaede", f"{ELSEWHERE}\n")
    send(world, "kaede", "one address")
    assert recipients(arrived(world.outside, "one address")) == [f"<{ELSEWHERE}>"]
    assert in_mailbox(world, "kaede", "one address") == 0


@pytest.mark.parametrize("sign", ["\u00a5", "\\"])
def test_a_forward_file_with_a_copy_here(world: World, sign: str) -> None:
    text = ROWS["A9.04"].line
    assert b"\xc2\xa5sakura" in text.encode()
    mode = int(ROWS["A9.06"].line, 8)
    world.files.forward("sakura", text.replace("\u00a5", sign) + "\n", mode)
    try:
        send(world, "sakura", f"copy by {ord(sign)}")
        assert recipients(arrived(world.outside, f"copy by {ord(sign)}")) == [f"<{ELSEWHERE}>"]
        assert in_mailbox(world, "sakura", f"copy by {ord(sign)}") == 1
    finally:
        (world.files.home / "sakura" / ".forward").unlink()


def test_a_forward_file_does_not_loop(world: World) -> None:
    world.files.forward("tsubaki", "tsubaki\n")
    send(world, "tsubaki", "to oneself")
    assert in_mailbox(world, "tsubaki", "to oneself") == 1


def test_a_forward_file_that_others_may_write(world: World) -> None:
    world.files.forward("tsubaki", f"{ELSEWHERE}\n", 0o666)
    send(world, "tsubaki", "mode 666")
    assert in_mailbox(world, "tsubaki", "mode 666") == 1
    assert ELSEWHERE not in world.daily.log.partition("mode 666")[2]
    assert "tsubaki/.forward is not obeyed: everybody may write it (mode 666" in world.daily.log


def test_an_alias_is_another_name(world: World) -> None:
    for name in ("cherry", "sakura"):
        send(world, name, f"to {name}")
        assert in_mailbox(world, "sakura", f"to {name}") == 1
    assert not (world.files.mail / "cherry").exists()


def test_an_alias_with_several_targets(world: World) -> None:
    send(world, "team", "to the team")
    assert [in_mailbox(world, user, "to the team") for user in ("sakura", "momiji")] == [1, 1]
    assert recipients(arrived(world.outside, "to the team")) == ["<user@there.example>"]


def test_newaliases_makes_what_is_read(world: World) -> None:
    index = world.files.etc / "aliases.db"
    assert ROWS["A9.11"].line == f"/etc/{index.name}"
    old = index.stat()
    world.write_aliases("rose: sakura\n")
    assert index.stat() == old
    query = ("postalias", "-q", "rose", "hash:/etc/aliases")
    assert world.daily.run(*query).stdout == "momiji\n"  # and a warning that the index is older than the text
    send(world, "rose", "before newaliases")
    assert in_mailbox(world, "momiji", "before newaliases") == 1
    assert world.daily.shell(ROWS["A9.10"].line) == ""
    assert world.daily.run(*query).stdout == "sakura\n"

    def is_read() -> bool:
        send(world, "rose", "after newaliases")
        return in_mailbox(world, "sakura", "after newaliases") == 1

    wait_for(is_read, "the new index to be read")


def test_the_mail_command(world: World) -> None:
    """With our sendmail where the program looks for it."""
    ours = f"mount --bind {world.files.bin}/sendmail /usr/sbin/sendmail && "
    world.daily.shell(f"{ours}echo hello | mail -s 'by hand' momiji")
    wait_for(lambda: b"\nSubject: by hand\n" in world.files.mailbox("momiji"), "the mail")


# -- A17, A18: looking at it


def test_postconf_n_shows_the_lines(world: World) -> None:
    shown = [" ".join(line.split()) for line in world.lines.shell(ROWS["A17.12"].line).splitlines()]
    assert [line for line in shown if line not in {" ".join(row.line.split()) for row in SETTINGS}] == []
    assert ROWS["A7.27"].line in shown


def test_postfix_check(world: World) -> None:
    assert world.daily.shell(ROWS["A17.13"].line) == ""


def test_the_log_files_by_their_names(world: World) -> None:
    first, second = ROWS["A18.01"].line.split(", ")
    assert "serving on " in world.daily.shell(f"cat {first}")
    world.daily.stop()
    try:
        world.daily.configure(EVERYDAY.replace(first, second), DAILY_MASTER)
        world.daily.log_file = world.files.log / "maillog"
        world.daily.start()
        assert "serving on " in world.daily.shell(f"cat {second}")
    finally:
        world.daily.stop()
        world.daily.configure(EVERYDAY, DAILY_MASTER)
        world.daily.log_file = world.files.log / "mail.log"
        world.daily.start()


def test_the_log_can_be_followed(world: World) -> None:
    seen = world.files.directory / "followed"
    with seen.open("wb") as output:
        words = world.daily.inside(*ROWS["A18.02"].line.split(), "/var/log/mail.log")
        process = subprocess.Popen(words, stdout=output)
    try:
        wait_for(lambda: "postfix/" in seen.read_text(), "the last lines")
        send(world, "live@there.example", "seen live")
        wait_for(lambda: "to=<live@there.example>" in seen.read_text(), "a new line")
    finally:
        process.kill()
        process.wait()


def test_words_of_the_log(world: World) -> None:
    send(world, "momiji", "for the log")
    world.daily.configure(f"{EVERYDAY}queue_run_delay = soon\n", DAILY_MASTER)
    try:
        world.daily.hang_up()
        wait_for(lambda: "queue_run_delay = soon" in world.daily.log, "the refused configuration")
    finally:
        world.daily.configure(EVERYDAY, DAILY_MASTER)
    error, sent, received = (f"{command} /var/log/mail.log" for command in ROWS["A18.03"].line.split(", "))
    assert "queue_run_delay = soon" in world.daily.shell(error)
    assert "to=<momiji@example.com>" in world.daily.shell(sent)
    swaks = ("swaks", "--server", "127.0.0.1:25", "--from", "a@b.example", "--to", "momiji@example.com")
    assert world.daily.run(*swaks).returncode == 0
    wait_for(lambda: " received=1 " in world.daily.log, "the end of the session")
    assert "disconnect from localhost[127.0.0.1] ehlo=1" in world.daily.shell(received)
    assert "from=<root@example.com>" in world.daily.shell("grep pickup /var/log/mail.log")


def test_connections_are_counted(world: World) -> None:
    before = int(world.daily.shell(ROWS["A18.04"].line))
    assert before >= 1  # the listener
    nc = "import socket, sys; s = socket.create_connection(('127.0.0.1', 25)); print(s.recv(99)); sys.stdin.read()"
    process = subprocess.Popen(world.daily.inside("python3", "-c", nc), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert b"220 mail.example.com" in process.stdout.readline()
        assert int(world.daily.shell(ROWS["A18.04"].line)) > before
    finally:
        process.communicate()


def test_processes_are_counted(world: World) -> None:
    """By the user that mail_owner names; and by our own name, whoever that is."""
    children = world.daily.shell(f"ps -o pid=,args= --ppid {world.daily.pid}").splitlines()
    workers = {line.split()[0] for line in children if "ekiden: worker" in line}
    assert len(workers) >= 1
    command = ROWS["A18.05"].line
    for name, pids in (("postfix", workers), ("ekiden:", {*workers, str(world.daily.pid)})):
        shown = command.removesuffix(" | wc -l").replace("postfix", name)
        assert pids <= {line.split()[1] for line in world.daily.shell(shown).splitlines()}
        assert int(world.daily.shell(command.replace("postfix", name))) > len(pids)


def test_disk_use_of_the_queue(world: World) -> None:
    size, path = world.daily.shell(ROWS["A18.06"].line).split()
    assert path == "/var/spool/postfix"
    assert re.fullmatch(r"[\d.]+[KM]", size)

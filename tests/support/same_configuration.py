"""A Postfix and an Ekiden that run from one and the same configuration directory, and what became of the same mail.

Each of the two has a network namespace of its own, in which the same ports are free, and a mount namespace of its own,
in which ``here/`` (queue, mailboxes, homes, log) and the accounts of /etc are its own. All other files are the same.

A configuration lies in tests/configurations/NAME/:

    main.cf, master.cf   what both read; ``@HERE@`` and ``@ETC@`` stand for the directories; master.cf is appended to
                         the services that every host has
    mail.toml            senders, recipients and headers, of which the messages are made (see make_messages)
    differences.toml     what is left out of the comparison, and where that is explained; most have none
    everything else      is copied beside main.cf; files that main.cf names as hash: are indexed by Postfix's postmap
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

from msgspec import Struct

from support.network import Namespace, private_network
from support.postfix import MASTER_CF
from support.requirements import ROOT, require_program
from support.running import wait_for

CONFIGURATIONS = ROOT / "tests" / "configurations"
MESSAGES = 200
# smtp-sinks: what is sent to these ports of a host is kept; the last one speaks LMTP.
SINKS = (2501, 2502, 2503, 2504, 2505)
_PORT = 2525
_USERS = {"alice": 61001, "bob": 61002, "carol": 61003, "vmail": 61010}
_DEADLINE_S = 60.0

_MAIN_CF = """\
compatibility_level = 3.6
myhostname = mx.here.example
mydomain = here.example
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mail_owner = postfix
setgid_group = postdrop
queue_directory = @HERE@/queue
data_directory = @HERE@/data
mail_spool_directory = @HERE@/spool
maillog_file = @HERE@/log
maillog_file_prefixes = @HERE@
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
alias_maps =
alias_database =
biff = no
srs_domain =
spf_policy = none
dmarc_policy = none
dkim_verification = no
arc_verification = no
"""


class Arrival(Struct, frozen=True, order=True):
    """One message at one place. ``header`` and ``body`` are what is left after normalised()."""

    place: str
    sender: str
    recipients: tuple[str, ...]
    header: tuple[str, ...]
    body: str


class Outcome(Struct, frozen=True):
    """``replies``: one line a message, of all that the client was told; ``waiting``: sender and recipient, deferred."""

    replies: tuple[str, ...]
    arrivals: tuple[Arrival, ...]
    waiting: tuple[str, ...]


class Mail(Struct, frozen=True):
    sender: str
    recipients: tuple[str, ...]
    content: str


def make_messages(recipe: dict[str, Any]) -> list[Mail]:
    """Messages of every sender to every recipient (at most MESSAGES pairs, then again), each seventh to three at once.

    ``headers`` are taken in turn. ``{n}`` in them is the number of the message.
    """
    senders, recipients = recipe["senders"], recipe["recipients"]
    headers = recipe.get("headers") or ["From: Somebody <somebody@there.example>\nTo: list@there.example\n"]
    mails = []
    pairs = [(sender, at) for at in range(len(recipients)) for sender in senders]
    for n in range(MESSAGES):
        sender, at = pairs[n % len(pairs)]
        several = 3 if n % 7 == 6 else 1
        to = tuple(dict.fromkeys(recipients[(at + 5 * k) % len(recipients)] for k in range(several)))
        header = headers[n % len(headers)].replace("{n}", str(n)).rstrip("\n")
        head = f"{header}\nSubject: number {n}\n"
        if "message-id:" not in head.lower():
            head += f"Message-ID: <{n}@there.example>\n"
        if "date:" not in head.lower():
            head += "Date: Sun, 22 Nov 2026 12:00:00 +0000\n"
        mails.append(Mail(sender, to, f"{head}\nbody of {n}\n"))
    return mails


class Known(Struct, frozen=True):
    """A difference that docs/differences.md explains under ``heading``."""

    heading: str
    pattern: str
    replacement: str

    def without(self, line: str) -> str:
        return re.sub(self.pattern, self.replacement, line)


def known_differences(name: str) -> list[Known]:
    path = CONFIGURATIONS / name / "differences.toml"
    found = tomllib.loads(path.read_text())["difference"] if path.exists() else []
    return [Known(**each) for each in found]


def lay_out(name: str, etc: Path, here: Path) -> None:
    """Make ``etc`` of the configuration ``name``, whose mail and queue are in ``here``."""

    def placed(text: str) -> str:
        return text.replace("@HERE@", str(here)).replace("@ETC@", str(etc))

    shutil.copytree(CONFIGURATIONS / name, etc)
    (etc / "mail.toml").unlink()
    for path in etc.rglob("*"):
        if path.is_file():
            path.write_text(placed(path.read_text()))
    main, master = etc / "main.cf", etc / "master.cf"
    own = main.read_text()
    named = set(re.findall(r"(?m)^(\w+) *=", own))
    base = [line for line in placed(_MAIN_CF).splitlines() if line.partition(" =")[0] not in named]
    main.write_text("\n".join(base) + "\n" + own)
    services = MASTER_CF.replace("smtp ", f"127.0.0.1:{_PORT} ", 1) + "lmtp unix - - n - - lmtp\n"
    master.write_text(services + (master.read_text() if master.exists() else ""))


class World:
    """The configuration ``name`` laid out in a directory, ready for both servers."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.etc, self.here = directory / "etc", directory / "here"
        self.here.mkdir()
        self.known = known_differences(name)
        self.mails = make_messages(tomllib.loads((CONFIGURATIONS / name / "mail.toml").read_text()))
        lay_out(name, self.etc, self.here)
        main = self.etc / "main.cf"
        for kind, path in sorted(set(re.findall(r"\b(hash|btree):(/[^\s,]+)", main.read_text()))):
            program = "postalias" if "aliases" in Path(path).name else "postmap"
            subprocess.run([require_program(program), "-c", str(self.etc), f"{kind}:{path}"], check=True, timeout=30)
        # All of /etc, since a file alone loses its mount when useradd puts another one in its place on the machine.
        self.system_etc = directory / "system-etc"
        subprocess.run(["cp", "-a", "/etc", str(self.system_etc)], check=True, timeout=60)
        (self.system_etc / "passwd").write_text(Path("/etc/passwd").read_text() + self._accounts())
        (directory / "mails.json").write_text(json.dumps([[m.sender, m.recipients, m.content] for m in self.mails]))

    def _accounts(self) -> str:
        return "".join(
            f"{user}:x:{uid}:8:{user.capitalize()} Example:{self.here}/home/{user}:/bin/sh\n"
            for user, uid in _USERS.items()
        )

    def outcomes(self) -> tuple[Outcome, Outcome]:
        """What Postfix and what Ekiden made of the messages."""
        with private_network("10.79.0.1") as network:
            sides = (
                PostfixSide(self, network.add("postfix", "10.79.0.11")),
                EkidenSide(self, network.add("ekiden", "10.79.0.12")),
            )
            errors: list[BaseException] = []

            def run(side: Side) -> None:
                try:
                    side.run()
                except BaseException as error:
                    error.add_note(side.report())
                    errors.append(error)

            threads = [threading.Thread(target=run, args=(side,)) for side in sides]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]
            return sides[0].outcome(), sides[1].outcome()


class Side:
    """One server on its host. ``root`` is what lies at ``here`` for it."""

    kind = ""

    def __init__(self, world: World, host: Namespace) -> None:
        self.world, self.host = world, host
        self.root = world.directory / self.kind
        for made in ("queue", "data", "spool", "home", "vmail", "pipe"):
            (self.root / made).mkdir(parents=True)
        shutil.chown(self.root / "data", "postfix")
        (self.root / "spool").chmod(0o1777)
        (self.root / "pipe").chmod(0o1777)
        for user, uid in _USERS.items():
            home = self.root / ("vmail" if user == "vmail" else f"home/{user}")
            template = world.etc / "home" / user
            if template.is_dir():
                shutil.copytree(template, home)
            home.mkdir(exist_ok=True)
            for path in (home, *home.rglob("*")):
                os.chown(path, uid, 8)
                path.chmod(0o755 if path.is_dir() else 0o600)
        self.replies: list[str] = []

    # -- the host

    def inside(self, *command: str) -> list[str]:
        """A command that runs on the host with its own ``here`` and accounts."""
        script = 'mount --bind "$1" "$2" && mount --bind "$3" /etc && shift 3 && exec "$@"'
        words = (str(self.root), str(self.world.here), str(self.world.system_etc), *command)
        return [*self.host.enter, "sh", "-c", script, "sh", *words]

    def call(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=90, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.root / "output").open("ab") as output:
            return subprocess.Popen(
                self.inside(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def log(self) -> str:
        path = self.root / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def report(self) -> str:
        output = self.root / "output"
        return (
            f"==== {self.kind}\n{self.log[-20000:]}\n{output.read_text('utf-8', 'replace') if output.exists() else ''}"
        )

    # -- the run

    def run(self) -> None:
        """Start, send everything, wait until nothing moves any more, stop."""
        processes = [
            self.spawn(
                *(require_program("smtp-sink"), "-u", "postfix", "-R", str(self._sink_folder(port))),
                *(["-L"] if port == SINKS[-1] else []),
                *("-d", "mail.", f"127.0.0.1:{port}", "100"),
            )
            for port in SINKS
        ]
        try:
            self.start()
            client = [sys.executable, str(Path(__file__).with_name("smtp_client.py")), str(_PORT)]
            self.replies = json.loads(self.call(*client, str(self.world.directory / "mails.json")))
            wait_for(self.is_settled, f"{self.kind} to be done with all mail", _DEADLINE_S)
            self.waiting = tuple(sorted(self.deferred()))
            self.stop()
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def _sink_folder(self, port: int) -> Path:
        folder = self.root / f"sink-{port}"
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, "postfix")
        return folder

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def is_settled(self) -> bool:
        raise NotImplementedError

    def deferred(self) -> list[str]:
        """Sender and recipient of what waits for another attempt."""
        raise NotImplementedError

    # -- what came of it

    def outcome(self) -> Outcome:
        arrivals = map(self._comparable, self._arrivals())
        return Outcome(tuple(self.replies), tuple(sorted(arrivals)), self.waiting)

    def _comparable(self, found: Arrival) -> Arrival:
        header, body = list(found.header), found.body.split("\n")
        for known in self.world.known:
            header, body = [known.without(line) for line in header], [known.without(line) for line in body]
        return Arrival(found.place, found.sender, found.recipients, tuple(header), "\n".join(body))

    def _arrivals(self) -> Iterator[Arrival]:
        for port in SINKS:
            for path in (self.root / f"sink-{port}").iterdir():
                envelope, _, content = path.read_bytes().partition(b"Received:")
                lines = envelope.decode().splitlines()
                (sender,) = (line.partition(": ")[2] for line in lines if line.startswith("X-Mail-Args:"))
                to = [line.partition(": ")[2] for line in lines if line.startswith("X-Rcpt-Args:")]
                yield arrival(f"sink {port}", bare(sender), tuple(sorted(map(bare, to))), b"Received:" + content)
        for path in sorted((self.root / "spool").iterdir()):
            if path.is_file() and not path.name.endswith(".lock"):
                for content in split_mbox(path.read_bytes()):
                    yield arrival(f"mailbox {path.name}", "", (), content)
        for top in ("home", "vmail", "pipe"):
            for path in sorted((self.root / top).rglob("*")):
                if path.is_file() and path.name.startswith("mbox"):
                    for content in split_mbox(path.read_bytes()):
                        yield arrival(f"file {path.relative_to(self.root)}", "", (), content)
                elif path.is_file() and path.parent.name in ("new", "cur", "pipe"):
                    place = path.parent.relative_to(self.root)
                    yield arrival(f"file {place}", "", (), path.read_bytes())


class PostfixSide(Side):
    kind = "postfix"

    def _postfix(self, *words: str, check: bool = True) -> str:
        return self.call(require_program("postfix"), "-c", str(self.world.etc), *words, check=check)

    def start(self) -> None:
        self._postfix("start")
        wait_for(lambda: "daemon started" in self.log, "a running Postfix")

    def stop(self) -> None:
        self._postfix("abort", check=False)

    def is_settled(self) -> bool:
        queue = self.root / "queue"
        return not any(
            path.is_file() for name in ("maildrop", "incoming", "active") for path in (queue / name).rglob("*")
        )

    def deferred(self) -> list[str]:
        listing = self.call(require_program("postqueue"), "-c", str(self.world.etc), "-j")
        return _listed(json.loads(line) for line in listing.splitlines())


class EkidenSide(Side):
    kind = "ekiden"

    def _ekiden(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ekiden.cli.main", *words, "-c", str(self.world.etc)]

    def start(self) -> None:
        process = self.spawn(*self._ekiden("serve"))

        def serves() -> bool:
            assert process.poll() is None, f"it ended with {process.returncode}"
            return "serving on " in self.log

        wait_for(serves, "a running Ekiden")
        self._process = process

    def stop(self) -> None:
        self.call(*self._ekiden("stop"))
        self._process.wait(_DEADLINE_S)

    def is_settled(self) -> bool:
        status = json.loads(self.call(*self._ekiden("status", "--json")))
        return all(
            not worker["active"] and not worker["deliveries"] and not worker["counts"].get("incoming", 0)
            for worker in status["workers"]
        )

    def deferred(self) -> list[str]:
        listing = self.call(*self._ekiden("queue", "list", "--json"))
        return _listed(json.loads(line) for line in listing.splitlines())


def _listed(entries: Iterator[dict[str, Any]]) -> list[str]:
    return [f"{entry['sender']} -> {to['address']}" for entry in entries for to in entry["recipients"]]


# -- making the two comparable


def bare(argument: str) -> str:
    """The address of the argument of MAIL or RCPT, without its parameters."""
    return argument.partition(">")[0].removeprefix("<")


def split_mbox(data: bytes) -> list[bytes]:
    """The messages of an mbox, each with its From_ line without its date."""
    found = re.split(rb"(?m)^(?=From )", data)
    return [re.sub(rb"\AFrom (\S+)[^\n]*", rb"X-From-Line: \1", part) for part in found if part.strip()]


def arrival(place: str, sender: str, recipients: Sequence[str], content: bytes) -> Arrival:
    message = message_from_bytes(content.replace(b"\r\n", b"\n"))
    if message.get_content_type() == "multipart/report":
        return Arrival(place, sender, tuple(recipients), _report_header(message), _report_body(message))
    header = tuple(f"{name}: {_value(name, value)}" for name, value in message.items() if name != "Received")
    text = message.get_payload()
    return Arrival(place, sender, tuple(recipients), header, str(text).rstrip("\n"))


def _value(name: str, value: str) -> str:
    """A field's value without what must differ: white space of folding, ids that the server gave."""
    value = " ".join(str(value).split())
    if name.lower() in ("message-id", "resent-message-id") and "there.example" not in value:
        return "<made by the server>"
    if name.lower() in ("date", "resent-date") and "12:00:00" not in value:
        return "made by the server"
    return value


def _report_header(message: Message) -> tuple[str, ...]:
    """Who a notification is from and to, and what it calls itself."""
    return tuple(f"{name}: {_value(name, str(message[name]))}" for name in ("From", "To", "Subject", "Auto-Submitted"))


_REPORTED = ("Final-Recipient", "Original-Recipient", "Action", "Status")


def _report_body(message: Message) -> str:
    """What a notification says of each recipient, and the header of the message that it returns."""
    lines: list[str] = []
    for part in message.walk():
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            blocks = [block for block in part.get_payload() if isinstance(block, Message)]
            for block in sorted(blocks[1:], key=lambda found: str(found["Final-Recipient"])):
                lines += [f"{name}: {_typed(block[name])}" for name in _REPORTED if block[name] is not None]
        elif kind in ("message/rfc822", "text/rfc822-headers"):
            inner = part.get_payload()
            returned = inner[0] if isinstance(inner, list) else message_from_bytes(str(inner).encode())
            assert isinstance(returned, Message)
            lines += [f"> {name}: {_value(name, value)}" for name, value in returned.items() if name != "Received"]
            break
    return "\n".join(lines)


def _typed(value: str) -> str:
    """``rfc822;user`` and ``rfc822; user`` say the same (RFC 3464 §2.1.2)."""
    return "; ".join(part.strip() for part in value.split(";"))


# -- the test's side


@contextlib.contextmanager
def world(name: str) -> Iterator[World]:
    require_program("postfix")
    require_program("smtp-sink")
    assert pwd.getpwnam("postfix")
    directory = Path(tempfile.mkdtemp(prefix="ekiden-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield World(name, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def differences(postfix: Sequence[Arrival | str], ekiden: Sequence[Arrival | str], show: int = 8) -> str:
    """What only one of the two has, paired by likeness, the first few, for a failing test; "" when all is the same."""
    only_postfix, only_ekiden = list(postfix), list(ekiden)
    for item in postfix:
        if item in only_ekiden:
            only_ekiden.remove(item)
            only_postfix.remove(item)
    if not only_postfix and not only_ekiden:
        return ""
    told = [f"{len(only_postfix)} only of Postfix (-), {len(only_ekiden)} only of Ekiden (+)"]
    others = [_lines(item) for item in only_ekiden]
    for lines in [_lines(item) for item in only_postfix][:show]:
        nearest = max(others, key=lambda other: _likeness(lines, other), default=[])
        if nearest and _likeness(lines, nearest) > 0:
            others.remove(nearest)
        else:
            nearest = []
        told += ["", *(line for line in difflib.ndiff(lines, nearest) if not line.startswith("?"))]
    for lines in others[: max(0, show - len(only_postfix))]:
        told += ["", *(f"+ {line}" for line in lines)]
    return "\n".join(told)


def _lines(item: Arrival | str) -> list[str]:
    if isinstance(item, str):
        return [item]
    return [item.place, f"from <{item.sender}>", f"to {item.recipients}", *item.header, *item.body.split("\n")]


def _likeness(one: list[str], other: list[str]) -> float:
    """How many lines two have in common; of single lines, how much of their text."""
    if len(one) == len(other) == 1:
        return difflib.SequenceMatcher(None, one[0], other[0]).ratio()
    subject = [line for line in one if "Subject: number" in line]
    return len(set(one) & set(other)) + (100 if subject and subject[0] in other else 0)

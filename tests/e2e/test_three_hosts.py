"""Two Ekidens and a Postfix, each a host of its own, send mail to each other by DNS and port 25.

All of it happens in network namespaces that the test makes (support.network):

    10.77.0.1   the resolver that all hosts ask; nothing listens on its port 25 (refusing.test)
    10.77.0.2   the name server of .test
    10.77.0.11  mx.a.test, Ekiden
    10.77.0.12  mx.b.test, Ekiden
    10.77.0.13  mx.p.test, Postfix
    10.77.0.66  an address that never answers (silent.test)
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path

import pytest

from support import name_server
from support.name_server import running_dns
from support.network import Namespace, private_network
from support.postfix import Postfix
from support.requirements import require_program
from support.running import RunningServer, open_directory, wait_for

RESOLVER, AUTHORITY, SILENT = "10.77.0.1", "10.77.0.2", "10.77.0.66"
A, B, P = "10.77.0.11", "10.77.0.12", "10.77.0.13"
ZONES = {
    "test": f"""\
a MX 10 mx.a
mx.a A {A}
other-name-of-a A {A}
b MX 10 mx.b
mx.b A {B}
p MX 10 mx.p
mx.p A {P}
refusing A {RESOLVER}
silent A {SILENT}
first-refuses MX 10 refusing
first-refuses MX 20 mx.b
first-is-silent MX 10 silent
first-is-silent MX 20 mx.b
two-equals MX 10 mx.b
two-equals MX 10 mx.p
no-mx A {B}
back-to-a MX 10 other-name-of-a
back-to-a MX 20 mx.b
null-mx MX 0 .
; a domain of which the only name server never answers
lost NS ns.lost
ns.lost A {SILENT}
""",
    "77.10.in-addr.arpa": "11.0 PTR mx.a.test.\n12.0 PTR mx.b.test.\n13.0 PTR mx.p.test.\n",
}
MAILBOX_OWNER = 5000
DEADLINE_S = 20.0


class Host:
    """A mail server in its namespace, and the mailboxes below ``directory/mail``."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self.domain = ""
        self.read_log: Callable[[], str] = str

    @property
    def log(self) -> str:
        return self.read_log()

    def mailbox_settings(self, domains: list[str], users: list[str]) -> dict[str, str]:
        """main.cf of a host that has the Maildirs of ``users`` in each of ``domains``."""
        self.domain = domains[0]
        base = self.directory / "mail"
        base.mkdir(parents=True)
        os.chown(base, MAILBOX_OWNER, MAILBOX_OWNER)
        mailboxes = [f"{user}@{domain}={user}/" for domain in domains for user in users]
        return {
            "myhostname": f"mx.{self.domain}",
            "virtual_mailbox_domains": ", ".join(domains),
            "virtual_mailbox_base": str(base),
            "virtual_mailbox_maps": f"inline:{{{', '.join(mailboxes)}}}",
            "virtual_uid_maps": f"static:{MAILBOX_OWNER}",
            "virtual_gid_maps": f"static:{MAILBOX_OWNER}",
        }

    def send(self, sender: str, recipient: str, *more: str, to: str = "127.0.0.1", check: bool = True) -> str:
        """Submit a message by swaks from this host; the dialog."""
        words = ("--server", to, "--helo", "client.test", "--from", sender, "--to", recipient, *more)
        done = self.namespace.run(require_program("swaks"), *words, check=check)
        return done.stdout + done.stderr

    def mails(self, user: str) -> list[EmailMessage]:
        new = self.directory / "mail" / user / "new"
        files = sorted(new.iterdir()) if new.is_dir() else []
        return [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]

    def wait_for_mail(self, user: str, subject: str = "") -> EmailMessage:
        """The message in a mailbox (with this subject) when it is there, and no more than one."""

        def found() -> list[EmailMessage]:
            return [mail for mail in self.mails(user) if not subject or mail["Subject"] == subject]

        wait_for(found, f"mail for {user} with the subject {subject!r}", DEADLINE_S)
        (mail,) = found()
        return mail

    def wait_for_log(self, *texts: str) -> str:
        """The first line of the log with all of ``texts``."""

        def found() -> list[str]:
            return [line for line in self.log.splitlines() if all(text in line for text in texts)]

        wait_for(found, f"{texts} in the log of {self.domain}", DEADLINE_S)
        return found()[0]


class World:
    def __init__(self, directory: Path, a: Host, b: Host, p: Host) -> None:
        self.directory, self.a, self.b, self.p = directory, a, b, p

    def report(self) -> str:
        """Everything that the hosts wrote."""
        parts = [f"==== {host.domain}\n{host.log}" for host in (self.a, self.b, self.p)]
        parts += [f"==== {path}\n{path.read_text(errors='replace')}" for path in self.directory.glob("*/output")]
        return "\n".join([*parts, "==== DNS", name_server.logs(self.directory / "dns")])


class Ekiden(RunningServer):
    """An Ekiden on a host. Other than the tests on loopback it listens on port 25 of all addresses, as installed."""

    def __init__(self, host: Host, main_cf: Mapping[str, str]) -> None:
        settings = {
            "dns_resolvers": f"{RESOLVER}:53",
            "dns_timeout": "2s",
            "dns_tries": "2",
            "smtp_connect_timeout": "2s",
            "inet_interfaces": "all",
            "notify_classes": "",
            **main_cf,
        }
        program = (*host.namespace.enter, sys.executable, "-m", "ekiden.cli.main")
        super().__init__(host.directory, main_cf=settings, port=25, program=program)
        self.services = [
            "smtp inet n - n - - smtpd",
            # A new connection for every message.
            "afresh unix - - n - - smtp -o smtp_connection_cache_on_demand=no",
        ]
        self.write_configuration()
        host.read_log = lambda: self.log

    def wait_until_it_serves(self) -> None:
        process = self.process
        assert process is not None

        def serves() -> bool:
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{self.output}\n{self.log}"
            return self.says_it_serves()

        wait_for(serves, "a server that serves", DEADLINE_S)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    for program in ("nsd", "unbound", "postfix", "swaks", "smtp-source"):
        require_program(program)
    with open_directory() as directory, private_network(RESOLVER) as network:
        network.add_hub_address(AUTHORITY)
        a, b, p = (
            Host(network.add(name, address), directory / name) for name, address in (("a", A), ("b", B), ("p", P))
        )
        network.make_silent(SILENT)
        senders = ["user", "refused-by-p", "refused-by-b", "null-mx", "no-domain", "looping", "patient"]
        ekidens = [
            Ekiden(
                a, {**a.mailbox_settings(["a.test"], senders), "transport_maps": "inline:{two-equals.test=afresh:}"}
            ),
            Ekiden(
                b,
                b.mailbox_settings(
                    ["b.test", "first-refuses.test", "first-is-silent.test", "two-equals.test", "no-mx.test"],
                    ["user", "refused", "silent", "equal"],
                ),
            ),
        ]
        postfix = Postfix(
            p.namespace,
            p.directory,
            p.mailbox_settings(["p.test", "two-equals.test"], ["user", "sender", "equal"]),
            resolver=RESOLVER,
        )
        p.read_log = lambda: postfix.log
        with running_dns(network.hub, directory / "dns", ZONES, resolver=RESOLVER, authority=AUTHORITY):
            for ekiden in ekidens:
                ekiden.spawn()
            try:
                postfix.start()
                for ekiden in ekidens:
                    ekiden.wait_until_it_serves()
                yield World(directory, a, b, p)
            finally:
                for ekiden in ekidens:
                    ekiden.close()


@pytest.fixture(autouse=True)
def _logs_of_a_failure(world: World) -> Iterator[None]:
    """pytest shows what is printed when a test has failed, and then only."""
    yield
    print(world.report())


def notification(mail: EmailMessage, *, host: str) -> dict[str, str]:
    """The fields about the one recipient of a DSN of ``host``, whose form is checked here."""
    assert mail["Return-Path"] == "<>"
    assert mail.get_content_type() == "multipart/report"  # RFC 6522 §3
    assert mail.get_param("report-type") == "delivery-status"
    human, status, original = mail.iter_parts()
    assert human.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"  # RFC 3464 §2.1
    _, about_message, about_recipient = status.walk()
    assert about_message["Reporting-MTA"] == f"dns; {host}"
    assert "Arrival-Date" in about_message
    assert about_recipient["Action"] == "failed"
    assert original.get_content_type() == "message/rfc822"
    _, returned = original.walk()
    return {
        **{
            name: " ".join(str(about_recipient[name]).split())
            for name in ("Final-Recipient", "Status", "Diagnostic-Code", "Remote-MTA")
        },
        **{f"Returned-{name}": str(returned[name]) for name in ("Subject", "From", "To", "Message-ID")},
    }


def subject(text: str) -> tuple[str, str]:
    return ("--header", f"Subject: {text}")


# -- there and back


def test_ekiden_to_postfix(world: World) -> None:
    body = ".\\n..two dots\\nfjälls 日本語\\n.last"
    world.a.send("user@a.test", "user@p.test", "--body", body, *subject("from A to P"))
    mail = world.p.wait_for_mail("user", "from A to P")
    assert mail["Return-Path"] == "<user@a.test>"
    assert mail["Delivered-To"] == "user@p.test"
    assert bytes(mail.get_payload(decode=True)).decode().startswith(".\n..two dots\nfjälls 日本語\n.last\n")
    by_p, by_a = mail.get_all("Received", [])
    assert by_p.startswith(f"from mx.a.test (mx.a.test [{A}])")
    assert "by mx.p.test (Postfix)" in by_p
    assert by_a.startswith("from client.test (localhost [127.0.0.1])")
    assert "by mx.a.test (Ekiden)" in by_a
    world.a.wait_for_log("to=<user@p.test>", f"relay=mx.p.test[{P}]:25", "dsn=2.0.0", "status=sent (250 2.0.0 Ok")


def test_postfix_to_ekiden(world: World) -> None:
    world.p.send("sender@p.test", "user@a.test", *subject("from P to A"))
    mail = world.a.wait_for_mail("user", "from P to A")
    assert mail["Return-Path"] == "<sender@p.test>"
    assert mail["Delivered-To"] == "user@a.test"
    assert mail.get_all("Received", [])[0].startswith(f"from mx.p.test (mx.p.test [{P}])")
    world.p.wait_for_log("to=<user@a.test>", f"relay=mx.a.test[{A}]:25", "dsn=2.0.0", "status=sent")
    world.a.wait_for_log("client=mx.p.test[10.77.0.13]")


def test_ekiden_to_ekiden(world: World) -> None:
    world.a.send("user@a.test", "user@b.test", *subject("from A to B"))
    assert world.b.wait_for_mail("user", "from A to B")["Return-Path"] == "<user@a.test>"
    world.a.wait_for_log("to=<user@b.test>", f"relay=mx.b.test[{B}]:25", "dsn=2.0.0", "status=sent")


def test_a_domain_without_mx_is_its_own(world: World) -> None:
    world.a.send("user@a.test", "user@no-mx.test", *subject("to an address record"))
    world.b.wait_for_mail("user", "to an address record")
    world.a.wait_for_log("to=<user@no-mx.test>", f"relay=no-mx.test[{B}]:25", "status=sent")


def test_nobody_relays_for_a_stranger(world: World) -> None:
    for server in (A, B):
        dialog = world.p.send("sender@p.test", "user@elsewhere.test", to=server, check=False)
        assert "554 5.7.1 <user@elsewhere.test>: Relay access denied" in dialog


# -- hosts of a domain


def test_the_second_mx_when_the_first_refuses_connections(world: World) -> None:
    world.a.send("user@a.test", "refused@first-refuses.test")
    world.b.wait_for_mail("refused")
    world.a.wait_for_log(f"connect to refusing.test[{RESOLVER}]:25: Connection refused")
    world.a.wait_for_log("to=<refused@first-refuses.test>", f"relay=mx.b.test[{B}]:25", "status=sent")
    assert "status=deferred" not in "".join(line for line in world.a.log.splitlines() if "first-refuses" in line)


def test_the_second_mx_when_the_first_is_silent(world: World) -> None:
    world.a.send("user@a.test", "silent@first-is-silent.test")
    world.b.wait_for_mail("silent")
    world.a.wait_for_log(f"connect to silent.test[{SILENT}]:25: Connection timed out")
    world.a.wait_for_log("to=<silent@first-is-silent.test>", f"relay=mx.b.test[{B}]:25", "status=sent")
    assert "status=deferred" not in "".join(line for line in world.a.log.splitlines() if "first-is-silent" in line)


def test_equal_mx_hosts_share_the_mail(world: World) -> None:
    source = require_program("smtp-source")
    world.a.namespace.run(source, "-m", "20", "-f", "user@a.test", "-t", "equal@two-equals.test", "127.0.0.1:25")

    def arrived() -> list[int]:
        return [len(host.mails("equal")) for host in (world.b, world.p)]

    wait_for(lambda: sum(arrived()) >= 20, "20 messages at two hosts", DEADLINE_S)
    at_b, at_p = arrived()
    assert at_b + at_p == 20
    # Chance alone sends all of them to one host in one of half a million runs.
    assert at_b > 0
    assert at_p > 0


# -- what cannot be delivered


def test_a_user_that_postfix_does_not_know(world: World) -> None:
    world.a.send("refused-by-p@a.test", "nobody@p.test", *subject("to nobody"))
    found = notification(world.a.wait_for_mail("refused-by-p"), host="mx.a.test")
    assert found["Final-Recipient"] == "rfc822; nobody@p.test"
    assert found["Status"] == "5.1.1"
    assert found["Diagnostic-Code"].startswith("smtp; 550 5.1.1 <nobody@p.test>: Recipient address rejected")
    assert found["Remote-MTA"] == "dns; mx.p.test"
    assert found["Returned-Subject"] == "to nobody"
    assert found["Returned-From"] == "refused-by-p@a.test"
    assert found["Returned-To"] == "nobody@p.test"
    assert found["Returned-Message-ID"].startswith("<")
    world.a.wait_for_log("to=<nobody@p.test>", f"relay=mx.p.test[{P}]:25", "dsn=5.1.1", "status=bounced")


def test_a_user_that_ekiden_does_not_know(world: World) -> None:
    world.a.send("refused-by-b@a.test", "nobody@b.test", *subject("to nobody else"))
    found = notification(world.a.wait_for_mail("refused-by-b"), host="mx.a.test")
    assert found["Final-Recipient"] == "rfc822; nobody@b.test"
    assert found["Status"] == "5.1.1"
    assert found["Diagnostic-Code"].startswith("smtp; 550 5.1.1 <nobody@b.test>: Recipient address rejected")
    assert found["Remote-MTA"] == "dns; mx.b.test"
    assert found["Returned-Subject"] == "to nobody else"
    world.b.wait_for_log(f"reject: RCPT from mx.a.test[{A}]: 550 5.1.1 <nobody@b.test>")


def test_postfix_bounces_what_ekiden_refuses(world: World) -> None:
    world.p.send("sender@p.test", "nobody@b.test", *subject("from P to nobody"))
    found = notification(world.p.wait_for_mail("sender"), host="mx.p.test")
    assert found["Final-Recipient"] == "rfc822; nobody@b.test"
    assert found["Status"] == "5.1.1"
    assert found["Diagnostic-Code"].startswith("smtp; 550 5.1.1 <nobody@b.test>: Recipient address rejected")
    assert found["Returned-Subject"] == "from P to nobody"
    world.b.wait_for_log(
        f"NOQUEUE: reject: RCPT from mx.p.test[{P}]: 550 5.1.1 <nobody@b.test>: Recipient address rejected: "
        "User unknown in virtual mailbox table; from=<sender@p.test> to=<nobody@b.test> proto=ESMTP helo=<mx.p.test>"
    )


@pytest.mark.parametrize(
    ("sender", "recipient", "status", "words"),
    [
        ("null-mx", "user@null-mx.test", "5.1.10", "Domain null-mx.test does not accept mail (nullMX)"),
        ("no-domain", "user@no-such-domain.test", "5.4.4", "Host or domain name not found"),
        ("looping", "user@back-to-a.test", "5.4.6", "mail for back-to-a.test loops back to myself"),
    ],
)
def test_domains_that_take_no_mail(world: World, sender: str, recipient: str, status: str, words: str) -> None:
    world.a.send(f"{sender}@a.test", recipient, *subject("to no host"))
    found = notification(world.a.wait_for_mail(sender), host="mx.a.test")
    assert found["Final-Recipient"] == f"rfc822; {recipient}"
    assert found["Status"] == status
    assert words in found["Diagnostic-Code"]
    assert found["Returned-Subject"] == "to no host"
    world.a.wait_for_log(f"to=<{recipient}>", "relay=none", f"dsn={status}", "status=bounced")


def test_a_domain_whose_name_server_does_not_answer_waits(world: World) -> None:
    world.a.send("patient@a.test", "user@lost.test")
    line = world.a.wait_for_log("to=<user@lost.test>", "relay=none", "dsn=4.4.3", "status=deferred")
    queue_id = line.split(": ")[1]
    listed = world.a.namespace.run(
        sys.executable, "-m", "ekiden.cli.main", "queue", "list", "--json", "-c", str(world.a.directory / "etc")
    )
    (message,) = [json.loads(text) for text in listed.stdout.splitlines() if queue_id in text]
    assert message["queue_name"] == "deferred"
    assert [recipient["address"] for recipient in message["recipients"]] == ["user@lost.test"]
    assert world.a.mails("patient") == []


def test_a_refused_recipient_is_one_line_of_the_log(world: World) -> None:
    """Also when the client had pipelined more commands behind it, as Ekiden and Postfix both do."""
    refused = [line for line in world.b.log.splitlines() if "reject: " in line and "from=<sender@p.test>" in line]
    assert len(refused) == sum("<nobody@b.test>" in line or "Relay access denied" in line for line in refused)


def test_nothing_went_wrong_on_the_way(world: World) -> None:
    """The last look at both Ekidens: whatever the tests above sent, no process met anything it did not expect."""
    for host in (world.a, world.b):
        for word in ("Traceback", "error: ", "fatal: ", "panic: ", "warning: "):
            assert [line for line in host.log.splitlines() if word in line] == []

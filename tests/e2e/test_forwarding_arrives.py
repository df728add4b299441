"""Mail of a domain with p=reject, forwarded by an Ekiden, arrives at a Postfix that checks it as most guides tell.

Three hosts of a network of their own (support.network), with DNS by nsd and unbound:

    10.78.0.11  mx.origin.test, Ekiden: signs for origin.test, which has p=reject and an SPF record for this host alone
    10.78.0.12  mx.fwd.test, Ekiden: forwards, by virtual_alias_maps, an alias and a .forward file
    10.78.0.13  mx.p.test, Debian's Postfix with opendkim, opendmarc (RejectFailures) and postfix-policyd-spf-python
"""

from __future__ import annotations

import base64
import email
import email.policy
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from email.message import EmailMessage
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support import name_server
from support.name_server import running_dns
from support.network import Namespace, private_network
from support.postfix import Postfix
from support.requirements import require_program
from support.running import RunningServer, open_directory, wait_for

RESOLVER, AUTHORITY = "10.78.0.1", "10.78.0.2"
ORIGIN, FORWARDER, P = "10.78.0.11", "10.78.0.12", "10.78.0.13"
OPENDKIM, OPENDMARC = 8891, 8893
MAILBOX_OWNER = 5000
DEADLINE_S = 60.0

_OPENDKIM = f"""\
Mode v
Socket inet:{OPENDKIM}@127.0.0.1
UserID root
RequireSafeKeys no
AuthservID mx.p.test
AlwaysAddARHeader yes
ResolverConfiguration @HERE@/unbound.conf
"""
# The library that opendkim asks DNS with answers names in .test by itself unless it is told to ask.
_LIBUNBOUND = f"""\
server:
  module-config: "iterator"
  local-zone: "test." nodefault
stub-zone:
  name: "test."
  stub-addr: {AUTHORITY}
"""
_OPENDMARC = f"""\
Socket inet:{OPENDMARC}@127.0.0.1
UserID root
AuthservID mx.p.test
TrustedAuthservIDs mx.p.test
RejectFailures true
"""
_POLICYD_SPF = """\
debugLevel = 1
HELO_reject = Fail
Mail_From_reject = Fail
PermError_reject = True
TempError_Defer = True
Header_Type = AR
Authserv_Id = mx.p.test
"""


class Key:
    """An RSA key for signatures, and its record in DNS."""

    def __init__(self) -> None:
        private = generate_private_key(65537, 2048)
        self.pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"

    @property
    def zone_text(self) -> str:
        return " ".join(f'"{self.record[at : at + 200]}"' for at in range(0, len(self.record), 200))

    def write(self, etc: Path, name: str) -> None:
        keys = etc / "dkim"
        keys.mkdir(parents=True)
        (keys / name).write_bytes(self.pem)
        (keys / name).chmod(0o600)


def zones(signing: Key, sealing: Key) -> dict[str, str]:
    return {
        "test": f"""\
origin MX 10 mx.origin
origin TXT "v=spf1 ip4:{ORIGIN} -all"
_dmarc.origin TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
sel._domainkey.origin TXT {signing.zone_text}
arc._domainkey.fwd TXT {sealing.zone_text}
mx.origin A {ORIGIN}
mx.origin TXT "v=spf1 a -all"
fwd MX 10 mx.fwd
mx.fwd A {FORWARDER}
mx.fwd TXT "v=spf1 a -all"
p MX 10 mx.p
plain MX 10 mx.p
mx.p A {P}
""",
        "78.10.in-addr.arpa": "11.0 PTR mx.origin.test.\n12.0 PTR mx.fwd.test.\n13.0 PTR mx.p.test.\n",
    }


class Ekiden(RunningServer):
    """On port 25 of its host."""

    def __init__(self, host: Namespace, directory: Path, main_cf: Mapping[str, str]) -> None:
        self.host = host
        settings = {"dns_resolvers": f"{RESOLVER}:53", "inet_interfaces": "all", **main_cf}
        program = (*host.enter, sys.executable, "-m", "ekiden.cli.main")
        super().__init__(directory, main_cf=settings, port=25, program=program)
        self.services = ["smtp inet n - n - - smtpd"]
        self.write_configuration()

    def wait_until_it_serves(self) -> None:
        wait_for(self.says_it_serves, f"a server that serves:\n{self.output}\n{self.log}", DEADLINE_S)


def mailboxes(directory: Path, *addresses: str) -> dict[str, str]:
    """main.cf of a host that has these Maildirs."""
    base = directory / "mail"
    base.mkdir(parents=True)
    os.chown(base, MAILBOX_OWNER, MAILBOX_OWNER)
    return {
        "virtual_mailbox_domains": ", ".join({address.partition("@")[2] for address in addresses}),
        "virtual_mailbox_base": str(base),
        "virtual_mailbox_maps": f"inline:{{{', '.join(f'{each}={each}/' for each in addresses)}}}",
        "virtual_uid_maps": f"static:{MAILBOX_OWNER}",
        "virtual_gid_maps": f"static:{MAILBOX_OWNER}",
    }


class World:
    def __init__(self, directory: Path, origin: Ekiden, forwarder: Ekiden, postfix: Postfix, sealing: Key) -> None:
        self.directory = directory
        self.sealing = sealing
        self.origin, self.forwarder, self.postfix = origin, forwarder, postfix

    def write(self, recipient: str, subject: str) -> None:
        """A message of origin.test, by the server of origin.test."""
        self.submit(self.origin.host, "ann@origin.test", recipient, "--header", f"Subject: {subject}")

    @staticmethod
    def submit(host: Namespace, sender: str, recipient: str, *more: str) -> None:
        words = ("--server", "127.0.0.1", "--helo", "client.test", "--from", sender, "--to", recipient, *more)
        host.run(require_program("swaks"), *words)

    def mail(self, server: Ekiden | Postfix, mailbox: str, subject: str) -> tuple[EmailMessage, bytes]:
        """The one message with this subject, when it is there."""

        def found() -> list[tuple[EmailMessage, bytes]]:
            new = server.directory / "mail" / mailbox / "new"
            contents = [file.read_bytes() for file in sorted(new.iterdir())] if new.is_dir() else []
            parsed = [(email.message_from_bytes(data, policy=email.policy.default), data) for data in contents]
            return [each for each in parsed if each[0]["Subject"] == subject]

        wait_for(found, f"mail {subject!r} in {mailbox}", DEADLINE_S)
        (one,) = found()
        return one

    def wait_for_log(self, server: Ekiden | Postfix, *texts: str) -> str:
        def found() -> list[str]:
            return [line for line in server.log.splitlines() if all(text in line for text in texts)]

        wait_for(found, f"{texts} in the log", DEADLINE_S)
        return found()[0]


def _start(stack: ExitStack, host: Namespace, directory: Path, *command: str) -> None:
    """A program that finds the resolver of the network in its resolv.conf."""
    resolv_conf = directory / "resolv.conf"
    bind = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
    with (directory / "milters").open("ab") as output:
        process = subprocess.Popen(
            [*host.enter, "sh", "-c", bind, "sh", str(resolv_conf), *command], stdout=output, stderr=subprocess.STDOUT
        )
    stack.callback(process.wait, 20)
    stack.callback(process.kill)  # libmilter looks only every few seconds whether it shall end


def _checking_postfix(stack: ExitStack, host: Namespace, directory: Path) -> Postfix:
    """Postfix with the checks of Debian's packages."""
    postfix = Postfix(
        host,
        directory,
        {
            **mailboxes(directory, "user@p.test", "user@plain.test"),
            "myhostname": "mx.p.test",
            "smtpd_milters": f"inet:127.0.0.1:{OPENDKIM}, inet:127.0.0.1:{OPENDMARC}",
            "milter_default_action": "tempfail",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject_unauth_destination, "
            "check_policy_service unix:private/policyd-spf",
            "policyd-spf_time_limit": "3600",
        },
        resolver=RESOLVER,
    )
    etc = directory / "etc"
    for name, text in (
        ("unbound", _LIBUNBOUND), ("opendkim", _OPENDKIM), ("opendmarc", _OPENDMARC), ("policyd-spf", _POLICYD_SPF),
    ):  # fmt: skip
        (etc / f"{name}.conf").write_text(text.replace("@HERE@", str(etc)))
    service = (
        f"policyd-spf unix - n n - 0 spawn user=nobody argv={require_program('policyd-spf')} {etc}/policyd-spf.conf"
    )
    master_cf = etc / "master.cf"
    master_cf.write_text(f"{master_cf.read_text()}{service}\n")
    _start(stack, host, directory, require_program("opendkim"), "-f", "-x", str(etc / "opendkim.conf"))
    _start(stack, host, directory, require_program("opendmarc"), "-f", "-c", str(etc / "opendmarc.conf"))

    def listen() -> bool:
        sockets = host.run("cat", "/proc/net/tcp").stdout
        return all(f"0100007F:{port:04X} 00000000:0000 0A" in sockets for port in (OPENDKIM, OPENDMARC))

    wait_for(listen, f"milters:\n{(directory / 'milters').read_text()}", DEADLINE_S)
    postfix.start()
    return postfix


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    for program in ("nsd", "unbound", "postfix", "swaks", "opendkim", "opendmarc", "policyd-spf"):
        require_program(program)
    with open_directory() as directory, private_network(RESOLVER) as network, ExitStack() as stack:
        network.add_hub_address(AUTHORITY)
        hosts = [network.add(name, address) for name, address in (("o", ORIGIN), ("f", FORWARDER), ("p", P))]
        signing, sealing = Key(), Key()
        origin = Ekiden(
            hosts[0],
            directory / "origin",
            {
                **mailboxes(directory / "origin", "ann@origin.test"),
                "myhostname": "mx.origin.test",
                "dkim_signing_table": "inline:{ {origin.test = origin.test:sel:sel.pem} }",
            },
        )
        forwarder = Ekiden(hosts[1], directory / "forwarder", _forwarding(directory / "forwarder"))
        signing.write(origin.etc, "sel.pem")
        sealing.write(forwarder.etc, "arc.pem")
        stack.enter_context(
            running_dns(network.hub, directory / "dns", zones(signing, sealing), resolver=RESOLVER, authority=AUTHORITY)
        )
        for ekiden in (origin, forwarder):
            stack.callback(ekiden.close)
            ekiden.spawn()
        postfix = _checking_postfix(stack, hosts[2], directory / "postfix")
        for ekiden in (origin, forwarder):
            ekiden.wait_until_it_serves()
        yield World(directory, origin, forwarder, postfix, sealing)


@pytest.fixture(autouse=True)
def _logs_of_a_failure(world: World) -> Iterator[None]:
    """pytest shows what is printed when a test has failed, and then only."""
    yield
    for name, log in (
        ("origin", world.origin.log), ("forwarder", world.forwarder.log), ("postfix", world.postfix.log),
        ("milters", (world.postfix.directory / "milters").read_text("utf-8", "replace")),
        ("DNS", name_server.logs(world.directory / "dns")),
    ):  # fmt: skip
        print(f"==== {name}\n{log}")


def _forwarding(directory: Path) -> dict[str, str]:
    directory.mkdir(parents=True, exist_ok=True)
    aliases, forward = directory / "aliases", directory / "games.forward"
    aliases.write_text("team: user@p.test\n")
    forward.write_text("user@p.test\n")
    games = pwd.getpwnam("games")
    os.chown(forward, games.pw_uid, games.pw_gid)
    return {
        "myhostname": "mx.fwd.test",
        "mydestination": "fwd.test",
        "alias_maps": f"texthash:{aliases}",
        "forward_path": f"{directory}/$user.forward",
        "arc_seal_key": "fwd.test:arc:arc.pem",
        "virtual_alias_maps": "inline:{ {out@fwd.test = user@p.test}, {plain@fwd.test = user@plain.test} }",
        # As if SRS were not there, for mail to that domain.
        "srs_exclude_domains": "plain.test",
    }


@pytest.mark.parametrize("way", ["out", "team", "games"], ids=["virtual alias", "alias", "forward file"])
def test_what_its_domain_has_signed_arrives(world: World, way: str) -> None:
    subject = f"forwarded by {way}"
    world.write(f"{way}@fwd.test", subject)
    mail, _ = world.mail(world.postfix, "user@p.test", subject)
    sender = mail["Return-Path"].strip("<>")
    assert sender.startswith("SRS0=")
    assert sender.endswith("=origin.test=ann@mx.fwd.test")
    found = " ".join(str(field) for field in mail.get_all("Authentication-Results", []) if "mx.p.test" in str(field))
    assert "dmarc=pass" in found
    assert "header.from=origin.test" in found
    assert "dkim=pass" in found
    assert "spf=pass" in found
    world.wait_for_log(world.forwarder, "leaves with the sender SRS0=", "user@p.test")


@pytest.mark.parametrize("way", ["out", "team", "games"], ids=["virtual alias", "alias", "forward file"])
def test_what_the_forwarder_found_is_sealed(world: World, way: str) -> None:
    """RFC 8617: dkimpy follows the chain, whose first link is what the forwarder found when the message came."""
    subject = f"sealed on its way by {way}"
    world.write(f"{way}@fwd.test", subject)
    mail, content = world.mail(world.postfix, "user@p.test", subject)
    sealed = content[content.index(b"ARC-Seal:") :].replace(b"\n", b"\r\n")

    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        return world.sealing.record.encode() if name == b"arc._domainkey.fwd.test." else None

    verdict, _, reason = dkim.arc_verify(sealed, dnsfunc=txt)
    assert verdict == dkim.CV_Pass, reason
    assert "i=1; mx.fwd.test" in mail["ARC-Authentication-Results"]
    assert "dmarc=pass" in mail["ARC-Authentication-Results"]


def test_a_bounce_comes_back_through_the_forwarder_to_who_wrote(world: World) -> None:
    world.write("out@fwd.test", "to be answered")
    mail, _ = world.mail(world.postfix, "user@p.test", "to be answered")
    sender = mail["Return-Path"].strip("<>")
    subject = "Undelivered"
    world.submit(world.postfix.host, "<>", sender, "--header", f"Subject: {subject}", "--h-From", "postmaster@p.test")
    bounce, _ = world.mail(world.origin, "ann@origin.test", subject)
    assert bounce["Return-Path"] == "<>"
    assert bounce["Delivered-To"] == "ann@origin.test"
    assert bounce["To"] == sender


def test_an_altered_body_is_refused_there(world: World) -> None:
    """The control: were it not for the signature, this would be how everybody forges."""
    world.write("out@fwd.test", "the original")
    _, content = world.mail(world.postfix, "user@p.test", "the original")
    start = content.index(b"DKIM-Signature:")
    altered = content[start:].replace(b"This is a test mailing", b"This is a lie").replace(b"\n", b"\r\n")
    assert b"This is a lie" in altered
    file = world.forwarder.directory / "altered"
    file.write_bytes(altered)
    # The forwarder asks nothing of its own clients.
    world.submit(world.forwarder.host, "ann@origin.test", "out@fwd.test", "--data", f"@{file}")
    refused = world.wait_for_log(world.forwarder, "to=<user@p.test>", "status=bounced")
    assert "rejected by DMARC policy for origin.test" in refused


def test_without_a_sender_of_the_forwarder_spf_refuses_it(world: World) -> None:
    world.write("plain@fwd.test", "with its own sender")
    refused = world.wait_for_log(world.forwarder, "to=<user@plain.test>", "status=bounced")
    assert "SPF fail" in refused

"""Submission (RFC 6409, RFC 8314): as Debian's master.cf has it, its two services uncommented, and our recipe."""

from __future__ import annotations

import re
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.honours import honours
from support.recipes import recipe
from support.recording_sink import RecordingSink, recording_sink
from support.requirements import require_that
from support.running import RunningServer, free_port, open_directory

DEBIAN = Path("/usr/share/postfix/master.cf.dist")
PASSWORD = "correct horse"
KINDS = ("submission", "submissions")


def debian_services(ports: dict[str, int]) -> list[str]:
    """Debian's file with its submission services uncommented, and ports that every user may open."""
    require_that(DEBIAN.exists(), "Debian's master.cf is not there (package postfix)")
    lines = []
    wanted = False
    for line in DEBIAN.read_text("utf-8").splitlines():
        if re.match(r"#submissions? +inet", line):
            wanted = True
        elif not line.startswith("#  -o ") and not line.startswith("#     "):
            wanted = False
        if wanted and not line.startswith("#     "):
            line = line[1:]
        lines.append(line)
    return at_ports(lines, ports)


def recipe_services(ports: dict[str, int]) -> list[str]:
    return at_ports(["smtp inet n - n - - smtpd", *recipe("Submission")[1]], ports)


def at_ports(lines: list[str], ports: dict[str, int]) -> list[str]:
    text = "\n".join(lines)
    for name, port in ports.items():
        text, count = re.subn(rf"^{name}( +)inet", rf"127.0.0.1:{port}\1inet", text, flags=re.MULTILINE)
        assert count == 1, name
    return text.splitlines()


class Host:
    def __init__(self, directory: Path, sink: RecordingSink, source: str) -> None:
        authority = Authority("The Root")
        self.root = directory / "root.pem"
        self.root.write_bytes(authority.pem)
        authority.issue("mx.test").write(directory, "server")
        self.sink, self.source = sink, source
        self.ports = {"smtp": free_port(), **{kind: free_port() for kind in KINDS}}
        self.server = RunningServer(
            directory,
            port=self.ports["smtp"],
            main_cf={
                "mydestination": "here.test",
                "myorigin": "here.test",
                "local_recipient_maps": "inline:{u@here.test=ok}",
                "local_transport": f"smtp:{sink.next_hop}",
                "relayhost": sink.next_hop,
                "mynetworks": "192.0.2.1/32",
                "smtpd_peername_lookup": "no",
                "smtpd_tls_security_level": "may",
                **(recipe("Submission")[0] if source == "recipe" else {}),
                "smtpd_tls_cert_file": str(directory / "server.pem"),
                "smtpd_tls_key_file": str(directory / "server.key"),
                "smtpd_sasl_authenticated_header": "yes",
                "local_header_rewrite_clients": "permit_inet_interfaces permit_sasl_authenticated",
                # Debian's own main.cf has these; here nobody is local by the address.
                "inet_interfaces": "127.0.0.2",
                "smtpd_relay_restrictions": "permit_mynetworks permit_sasl_authenticated defer_unauth_destination",
            },
        )
        self.server.services = (debian_services if source == "debian" else recipe_services)(self.ports)
        self.server.write_configuration()

    def connect(self, kind: str, *, starts_tls: bool = True) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=str(self.root))
        if kind == "submissions":
            client: smtplib.SMTP = _Implicit(self.ports[kind], context)
        else:
            client = smtplib.SMTP("127.0.0.1", self.ports[kind], local_hostname="client.example", timeout=20)
            client._host = "mx.test"  # type: ignore[attr-defined]  # the name of the certificate
            if starts_tls:
                client.starttls(context=context)
        client.ehlo()
        return client


class _Implicit(smtplib.SMTP_SSL):
    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._mx = context
        super().__init__("127.0.0.1", port, local_hostname="client.example", timeout=20, context=context)

    def _get_socket(self, host: str, port: int, timeout: float) -> ssl.SSLSocket:
        raw = smtplib.socket.create_connection((host, port), timeout)  # type: ignore[attr-defined]
        return self._mx.wrap_socket(raw, server_hostname="mx.test")


@pytest.fixture(scope="module", params=["debian", "recipe"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with open_directory() as directory, recording_sink() as sink:
        found = Host(directory, sink, request.param)
        try:
            found.server.start()
            made = subprocess.run(
                ["env", f"EKIDEN_CONFIG={found.server.etc}", *found.server.program, "user", "add", "ann"],
                input=f"{PASSWORD}\n", text=True, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr + made.stdout
            yield found
            assert "Traceback" not in found.server.output + found.server.log
            assert "internal error" not in found.server.log
        finally:
            found.server.close()


def test_the_check_command_has_nothing_against_it(host: Host) -> None:
    done = host.server.command("check")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "error:" not in said
    for word in ("submission", "smtpd_recipient_restrictions", "smtpd_tls_wrappermode", "syslog_name"):
        assert not re.search(rf"warning: .*{word}", said), said


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_logged_in_may_send_anywhere_and_gets_what_a_message_lacks(host: Host, kind: str) -> None:
    with host.connect(kind) as client:
        client.login("ann", PASSWORD)
        client.sendmail("ann@here.test", ["x@elsewhere.test"], "Subject: bare\r\nTo: x\r\n\r\nHello\r\n")
    (message,) = host.sink.take()
    # RFC 6409 §8.2, §8.3 and the like: Date, Message-ID, From; domains are completed.
    assert message.field("From") == "ann@here.test"
    assert message.field("To") == "x@here.test"
    assert message.field("Date")
    assert re.fullmatch(r"<[^@<>]+@mx\.test>", message.field("Message-Id") or message.field("Message-ID") or "")
    assert b"(Authenticated sender: ann)" in message.content
    assert b"with ESMTPSA id" in message.content  # RFC 3848


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_not_logged_in_may_send_nowhere(host: Host, kind: str) -> None:
    with host.connect(kind) as client:
        client.docmd("MAIL", "FROM:<ann@here.test>")
        # RFC 6409 §4.3, §6.1: not even to our own recipients.
        for recipient in ("x@elsewhere.test", "u@here.test"):
            code, text = client.docmd("RCPT", f"TO:<{recipient}>")
            assert (code, text.split()[0]) == (554, b"5.7.1"), text
    with host.connect(kind) as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login("ann", "wrong")
    assert refused.value.smtp_code == 535


def test_port_587_does_nothing_without_tls(host: Host) -> None:
    with host.connect("submission", starts_tls=False) as client:
        assert client.has_extn("STARTTLS")
        assert not client.has_extn("AUTH")
        assert client.docmd("MAIL", "FROM:<ann@here.test>")[0] == 530
        assert client.docmd("AUTH", "PLAIN AGFubgBj")[0] in (503, 530, 538)


def test_port_25_takes_mail_for_this_host_without_a_login(host: Host) -> None:
    with smtplib.SMTP("127.0.0.1", host.ports["smtp"], local_hostname="client.example", timeout=20) as client:
        client.sendmail("b@elsewhere.test", ["u@here.test"], "Subject: from outside\r\n\r\nHello\r\n")
        assert client.docmd("MAIL", "FROM:<b@elsewhere.test>")[0] == 250
        assert client.docmd("RCPT", "TO:<x@elsewhere.test>")[0] in (454, 554)
    (message,) = host.sink.take()
    # RFC 5321 §6.4: what another host sends stays as it is.
    assert message.field("Message-ID") is None
    assert message.field("Date") is None


@honours("smtpd_sender_restrictions")
def test_restrictions_of_mail_programs_stand_in_main_cf(host: Host) -> None:
    option = "  -o smtpd_sender_restrictions="
    assert host.server.services.count(option) == (2 if host.source == "debian" else 0)
    # The recipe has it already.
    host.server.services = [
        line + "$mua_sender_restrictions" if line == option else line for line in host.server.services
    ]
    if host.source == "debian":
        host.server.main_cf["mua_sender_restrictions"] = "reject_non_fqdn_sender"
    host.server.reload()
    assert "mua_" not in host.server.command("check").stdout
    with host.connect("submission") as client:
        client.login("ann", PASSWORD)
        client.docmd("MAIL", "FROM:<ann@host>")
        # RFC 6409 §4.2: domains in the envelope are whole.
        code, text = client.docmd("RCPT", "TO:<x@elsewhere.test>")
        assert (code, text.split()[0]) == (504, b"5.5.2"), text
        client.docmd("RSET")
        client.sendmail("ann@here.test", ["x@elsewhere.test"], "Subject: whole\r\n\r\nHello\r\n")
    host.sink.take()

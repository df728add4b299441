"""Login at the running server by clients that others wrote: swaks, smtplib, curl, msmtp and gsasl (RFC 4954).

What they hear of a wrong password is the same whether the account exists, and what the log says is what fail2ban's
filter for Postfix looks for.
"""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ekiden.sasl.scram import ScramHash, parse_server_first
from ekiden.tls.facts import certificate_of
from support.certificates import Authority, self_signed
from support.requirements import require_program
from support.running import RunningServer, free_port, open_directory, wait_for
from support.sasl import ScramTalk
from support.tls_peers import client_context

NAME, PASSWORD = "anna@mx.test", "Passw0rd, with = and more"
WRONG = "535 5.7.8 Error: authentication failed: (reason unavailable)"
MESSAGE = "From: anna@mx.test\r\nTo: c@elsewhere.test\r\nSubject: login\r\n\r\nhello\r\n"


class Host:
    """A server with submission on three ports: STARTTLS, TLS first, and clear text that was allowed by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority = Authority("The Root")
        self.root = directory / "root.pem"
        self.root.write_bytes(authority.pem)
        authority.issue("mx.test", "127.0.0.1").write(directory, "server")
        certificate = self_signed("client.example")
        self.certificate = certificate.write(directory, "client")
        fingerprint = certificate_of(certificate.der, "sha256").fingerprint
        (directory / "certificates").write_text(f"{fingerprint} {NAME}\n")
        self.ports = {"submission": free_port(), "submissions": free_port(), "clear": free_port()}
        common = "-o smtpd_sasl_auth_enable=yes -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject"
        self.server = RunningServer(
            directory,
            main_cf={
                "mydestination": "mx.test",
                "local_transport": "discard:",
                "default_transport": "discard:",
                "mynetworks": "192.0.2.1/32",
                "smtpd_peername_lookup": "no",
                "smtpd_sasl_type": "ekiden",
                "smtpd_sasl_mechanism_filter": "static:all",
                "smtpd_sasl_certificate_maps": f"texthash:{directory}/certificates",
                "smtpd_sasl_authenticated_header": "yes",
                "smtpd_tls_security_level": "may",
                "smtpd_tls_ask_ccert": "yes",
                "smtpd_tls_cert_file": str(directory / "server.pem"),
                "smtpd_tls_key_file": str(directory / "server.key"),
                "sasl_scram_hashes": "sha1, sha256",
                "sasl_failure_delay": "0s",
                "smtpd_auth_failure_sleep_time": "0s",
                "smtpd_auth_failure_limit": "0",
                "smtpd_auth_account_failure_limit": "0",
            },
            master_cf=[
                f"127.0.0.1:{self.ports['submission']} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt "
                f"{common}",
                f"127.0.0.1:{self.ports['submissions']} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes {common}",
                f"127.0.0.1:{self.ports['clear']} inet n - n - - smtpd -o smtpd_tls_auth_only=no {common}",
            ],
        )

    def add_account(self) -> None:
        command = [sys.executable, "-m", "ekiden.cli.main", "user", "add", NAME, "-c", str(self.server.etc)]
        subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True, check=True, timeout=60)

    def context(self) -> ssl.SSLContext:
        context = client_context()
        context.load_verify_locations(self.root)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_directory() as directory:
        made = Host(directory)
        made.add_account()
        try:
            made.server.start()
            yield made
            assert made.server.stop() == 0
            assert "Traceback" not in made.server.log + made.server.output
            assert PASSWORD not in made.server.log
        finally:
            made.server.close()


def run(words: Sequence[str], *, given: str = "", code: int | None = 0) -> str:
    """What a program says; ``code`` None: anything but success."""
    done = subprocess.run(
        [require_program(words[0]), *words[1:]], input=given.encode(), capture_output=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert (done.returncode == code) if code is not None else done.returncode != 0, said
    return said


def logins(host: Host, mechanism: str) -> int:
    """How many messages the log has of clients that had logged in so."""
    return host.server.log.count(f", sasl_method={mechanism}, sasl_username={NAME}\n")


# swaks


def swaks(host: Host, mechanism: str, password: str, *, port: str = "submission", code: int | None = 0) -> str:
    encryption = {"submission": ["--tls"], "submissions": ["--tls-on-connect"], "clear": []}[port]
    return run(
        ["swaks", "--server", "127.0.0.1", "--port", str(host.ports[port]), "--helo", "client.example", *encryption,
         "--from", NAME, "--to", "c@elsewhere.test", "--auth", mechanism, "--auth-user", NAME,
         "--auth-password", password],
        code=code,
    )  # fmt: skip


@pytest.mark.parametrize("port", ["submission", "submissions", "clear"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(host: Host, mechanism: str, port: str) -> None:
    before = logins(host, mechanism)
    said = swaks(host, mechanism, PASSWORD, port=port)
    assert re.search(r"235 2\.7\.0 Authentication successful", said)
    wait_for(lambda: logins(host, mechanism) == before + 1, "a message of who has logged in")
    assert WRONG in swaks(host, mechanism, "wrong", port=port, code=28)


def test_swaks_is_not_offered_what_is_not_there(host: Host) -> None:
    assert "Auth not attempted" in swaks(host, "CRAM-MD5", PASSWORD, code=28)


# smtplib


def test_smtplib(host: Host) -> None:
    with smtplib.SMTP("127.0.0.1", host.ports["submission"], timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login(NAME, "x")
        client.starttls(context=host.context())
        client.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login(NAME, "wrong")
        assert (caught.value.smtp_code, b"5.7.8" in caught.value.smtp_error) == (535, True)
        assert client.login(NAME, PASSWORD)[0] == 235
        assert client.sendmail(NAME, ["c@elsewhere.test"], MESSAGE) == {}


def test_without_login_nothing_can_be_sent_from_the_submission_port(host: Host) -> None:
    with smtplib.SMTP("127.0.0.1", host.ports["submission"], timeout=30) as client:
        client.starttls(context=host.context())
        client.ehlo("client.example")
        client.mail(NAME)
        for recipient in ("c@elsewhere.test", "postmaster@mx.test"):
            code, text = client.rcpt(recipient)
            assert code in (454, 554), text
        assert client.docmd("AUTH", "PLAIN")[0] == 503
        client.rset()
        assert client.docmd("AUTH", "CRAM-MD5")[0] == 504
    with smtplib.SMTP("127.0.0.1", host.server.port, timeout=30) as client:
        client.ehlo("client.example")
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 502
    with smtplib.SMTP("127.0.0.1", host.ports["submission"], timeout=30) as client:
        client.ehlo("client.example")
        code, text = client.docmd("AUTH", "PLAIN AGEAYg==")
        assert code in (530, 538), text


# curl


def curl(host: Host, *words: str, code: int | None = 0) -> str:
    return run(
        ["curl", "--silent", "--show-error", "--verbose", "--ssl-reqd", "--cacert", str(host.root), "--mail-from", NAME,
         "--mail-rcpt", "c@elsewhere.test", "--resolve", f"mx.test:{host.ports['submission']}:127.0.0.1",
         "--url", f"smtp://mx.test:{host.ports['submission']}/client.example", "--upload-file", "-", *words],
        given=MESSAGE,
        code=code,
    )  # fmt: skip


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_curl(host: Host, mechanism: str) -> None:
    before = logins(host, mechanism)
    options = ("--login-options", f"AUTH={mechanism}")
    said = curl(host, *options, "--user", f"{NAME}:{PASSWORD}")
    assert f"> AUTH {mechanism}" in said
    assert "< 235 2.7.0 " in said
    wait_for(lambda: logins(host, mechanism) == before + 1, "a message of who has logged in")
    assert f"< {WRONG}" in curl(host, *options, "--user", f"{NAME}:wrong", code=67)


# msmtp


def msmtp(host: Host, mechanism: str, password: str, *more: str, code: int | None = 0) -> str:
    passwords = host.directory / "msmtp-password"
    passwords.write_text(f"{password}\n")
    return run(
        ["msmtp", "--file=/dev/null", "--debug", "--host=127.0.0.1", f"--port={host.ports['submission']}", "--tls=on",
         "--tls-host-override=mx.test", f"--tls-trust-file={host.root}", f"--auth={mechanism}", f"--user={NAME}",
         f"--passwordeval=cat {passwords}", f"--from={NAME}", *more, "c@elsewhere.test"],
        given=MESSAGE,
        code=code,
    )  # fmt: skip


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-1", "scram-sha-256"])
def test_msmtp(host: Host, mechanism: str) -> None:
    before = logins(host, mechanism.upper())
    assert "<-- 235 2.7.0 Authentication successful" in msmtp(host, mechanism, PASSWORD)
    wait_for(lambda: logins(host, mechanism.upper()) == before + 1, "a message of who has logged in")
    assert f"<-- {WRONG}" in msmtp(host, mechanism, "wrong", code=77)


def test_msmtp_shows_its_certificate(host: Host) -> None:
    certificate, key = host.certificate
    options = (f"--tls-cert-file={certificate}", f"--tls-key-file={key}")
    before = logins(host, "EXTERNAL")
    said = msmtp(host, "external", "", *options)
    assert "<-- 235 2.7.0 Authentication successful" in said
    wait_for(lambda: logins(host, "EXTERNAL") == before + 1, "a message of who has logged in")
    assert "EXTERNAL" not in msmtp(host, "plain", PASSWORD)


# gsasl: the one that knows channel bindings


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "PLAIN"])
def test_gsasl(host: Host, mechanism: str, version: str) -> None:
    # It refuses itself to use the channel's data with a mechanism that has no place for them.
    unbound = [] if mechanism.endswith("-PLUS") else ["--no-cb"]

    def talk(password: str, code: int | None) -> str:
        return run(
            ["gsasl", "--smtp", "--connect", f"127.0.0.1:{host.ports['submission']}", "--starttls", "--x509-ca-file=",
             "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--mechanism", mechanism, "--hostname", "mx.test",
             "--authentication-id", NAME, "--password", password,
             "--no-client-first", "--verbose", *unbound],
            given="\n",
            code=code,
        )  # fmt: skip

    assert "235 2.7.0 Authentication successful" in talk(PASSWORD, 0)
    assert WRONG in talk("wrong", None)


# What is told, and what is not.


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_no_reply_tells_whether_the_account_exists(host: Host, mechanism: str) -> None:
    def refusal(name: str) -> list[str]:
        with smtplib.SMTP_SSL("127.0.0.1", host.ports["submissions"], timeout=30, context=host.context()) as client:
            client.ehlo("client.example")
            return exchange(client, mechanism, name)

    known, unknown = refusal(NAME), refusal("nobody@mx.test")
    assert known == unknown
    assert known[-1] == WRONG
    assert refusal("nobody@mx.test") == unknown


def exchange(client: smtplib.SMTP, mechanism: str, name: str) -> list[str]:
    """The replies, without what must differ: nonces and salts."""

    def say(text: str) -> str:
        client.putcmd(text)
        code, answer = client.getreply()
        return f"{code} {answer.decode()}"

    def coded(text: str | bytes) -> str:
        return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()

    if mechanism == "PLAIN":
        return [say(f"AUTH PLAIN {coded(f'{chr(0)}{name}{chr(0)}wrong')}")]
    if mechanism == "LOGIN":
        return [say("AUTH LOGIN"), say(coded(name)), say(coded("wrong"))]
    talk = ScramTalk(ScramHash.SHA256, name, "wrong")
    challenge = base64.b64decode(say(f"AUTH {mechanism} {coded(talk.begin)}")[4:])
    first = parse_server_first(challenge)
    shape = f"{len(first.nonce)} {len(first.salt)} {first.iterations}"
    return [shape, say(coded(talk.answer(challenge)))]


def test_time_does_not_tell_either(host: Host) -> None:
    """Each refusal takes sasl_failure_delay, which is longer than any check takes."""
    host.server.main_cf["sasl_failure_delay"] = "1s"
    host.server.reload()
    try:
        times = {}
        with smtplib.SMTP_SSL("127.0.0.1", host.ports["submissions"], timeout=30, context=host.context()) as client:
            client.ehlo("client.example")
            for name in (NAME, "nobody@mx.test", "x" * 300):
                begin = time.monotonic()
                assert exchange(client, "PLAIN", name) == [WRONG]
                times[name] = time.monotonic() - begin
        assert min(times.values()) >= 0.99, times  # the loop's timers count in milliseconds
    finally:
        host.server.main_cf["sasl_failure_delay"] = "0s"
        host.server.reload()


def test_fail2ban_finds_the_failures(host: Host) -> None:
    before = failures(host)
    for mechanism in ("PLAIN", "LOGIN"):
        swaks(host, mechanism, "wrong", code=28)
    assert failures(host) == before + 2


def failures(host: Host) -> int:
    said = run(["fail2ban-regex", str(host.server.log_file), "postfix[mode=auth]"])
    found = re.search(r"Failregex: (\d+) total", said)
    assert found is not None, said
    return int(found[1])

"""DKIM between strangers: what we sign verifies at opendkim and Exim, what they sign verifies here; keys are in DNS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.auth.dkim.body_hash import BodyHashes
from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, SigningKey, new_private_key, signing_key, zone_lines
from ekiden.auth.dkim.sign import SigningOptions
from ekiden.auth.dkim.verify import DkimVerification
from ekiden.auth.verdict import DkimVerdict, Result
from ekiden.cli.main import main
from ekiden.config.snapshot import Parameters
from ekiden.dns.cares import CaresResolver
from support.dkim_oracle import signed
from support.nsd import running_nsd
from support.opendkim import running_opendkim
from support.peers import Exim, Peer, running_exim, running_postfix
from support.recording_sink import recording_sink
from support.running import free_port, open_directory, running_server, wait_for

PEMS = {"rsa": new_private_key(RSA_SHA256), "ed": new_private_key(ED25519_SHA256)}
KEYS = {selector: signing_key("a.test", selector, pem) for selector, pem in PEMS.items()}
ZONE = "".join(zone_lines(key.record_name, key.record) for key in KEYS.values())
# Exim's resolver library knows port 53 only: an address of the loopback network that is this process's own.
ADDRESS = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"

TOP = (
    "From: Anna <anna@a.test>\r\nTo: Bert <bert@b.test>,\r\n\tcarl@b.test\r\nDate: Sun, 29 Nov 2026 00:00:00 +0000\r\n"
)
MESSAGES = {
    "plain": (f"{TOP}Subject: a test\r\nMessage-ID: <1@a.test>\r\n", "Hello,\r\n\r\nthis is a test.\r\n"),
    "blanks": (
        f"{TOP}Subject:  two  blanks \t and a tab\r\nMessage-ID:\r\n <2@a.test>\r\nX-Own: x\r\n",
        "  in front\r\nbehind  \r\n \t \r\ntwo  within\ta tab\r\n\r\n\r\n",
    ),
    "empty": (f"{TOP}Subject:\r\nMessage-ID: <3@a.test>\r\n", ""),
    "mime": (
        f"{TOP}Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <4@a.test>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed;\r\n\tboundary="b"\r\nContent-Transfer-Encoding: 8bit\r\n'
        "List-Unsubscribe: <https://a.test/u>\r\nReferences: <0@a.test>\r\n <1@a.test>\r\n",
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n.\r\n..\r\n" + "x" * 900 + "\r\n--b--\r\n",
    ),
}
FORMS = ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"]
OPENDKIM_SIGNS = [
    *(("rsa", form) for form in FORMS),
    # Over a simple header its Ed25519 signatures verify nowhere, at opendkim itself neither.
    *(("ed", form) for form in FORMS[:2]),
]
# Exim 4.96 takes the simple form of an empty body for empty. RFC 6376 §3.4.3: "If there is no body or no trailing CRLF
# on the message body, a CRLF is added." opendkim and dkimpy add it, as we do.
EXIM_DIFFERS = ("empty", "simple")


@pytest.fixture(scope="module")
def name_server() -> Iterator[str]:
    with open_directory() as folder, running_nsd(folder, {"a.test": ZONE}, address=ADDRESS, port=53) as server:
        yield server


@pytest.fixture(scope="module")
def verifying_postfix(name_server: str) -> Iterator[Peer]:
    """With opendkim, to which the tests' own host is a stranger."""
    with (
        running_opendkim("v", name_server, settings="InternalHosts 192.0.2.1") as milter,
        running_postfix({"smtpd_milters": milter, "milter_default_action": "tempfail"}) as postfix,
    ):
        yield postfix


@pytest.fixture(scope="module")
def verifying_exim(name_server: str) -> Iterator[Exim]:
    with running_exim(["log_selector = +dkim_verbose"], resolver=name_server.partition(":")[0]) as exim:
        yield exim


def message(name: str) -> tuple[bytes, bytes]:
    header, body = MESSAGES[name]
    return header.encode(), body.encode()


def sign(name: str, form: str, *keys: SigningKey) -> bytes:
    """A whole message with our signatures."""
    header, body = message(name)
    header_form, _, body_form = form.partition("/")
    options = SigningOptions(header_form, body_form)
    return signed(header, body, keys, options, now=time.time()) + header + b"\r\n" + body


def send(port: int, content: bytes, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("anna@a.test", [recipient], content, mail_options=["BODY=8BITMIME"])


def our_verdicts(content: bytes, name_server: str) -> tuple[DkimVerdict, ...]:
    """Of a message whose lines end with CRLF."""
    header, _, body = content.partition(b"\r\n\r\n")

    async def verify() -> tuple[DkimVerdict, ...]:
        resolver = CaresResolver(Parameters({"dns_resolvers": name_server}))
        hashes = BodyHashes()
        verification = DkimVerification(header + b"\r\n", hashes, resolver=resolver, now=time.time())
        verification.start()
        hashes.feed(body)
        hashes.finish()
        return await verification.verdicts()

    return asyncio.run(verify())


def results_of_opendkim(mail: bytes) -> list[tuple[str, str]]:
    """What its Authentication-Results say: the result, and the selector of the signature."""
    field = mail.partition(b"Authentication-Results: opendkim.test;")[2].partition(b"\nReceived:")[0]
    return re.findall(r"dkim=(\w+).*? header\.s=(\w+)", re.sub(r"\s+", " ", field.decode()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MESSAGES)
def test_opendkim_verifies_what_we_sign(verifying_postfix: Peer, name: str, form: str) -> None:
    recipient = f"{name}-{form.replace('/', '-')}@b.test"
    send(verifying_postfix.port, sign(name, form, KEYS["rsa"], KEYS["ed"]), recipient)
    (mail,) = verifying_postfix.wait_for_mail(recipient)
    assert results_of_opendkim(mail) == [("pass", "rsa"), ("pass", "ed")], mail.decode()


def test_opendkim_refuses_what_was_changed(verifying_postfix: Peer) -> None:
    content = sign("plain", "relaxed/relaxed", KEYS["rsa"])
    for number, changed in enumerate((content.replace(b"Hello", b"Hollo"), b"Subject: another\r\n" + content)):
        recipient = f"changed{number}@b.test"
        send(verifying_postfix.port, changed, recipient)
        (mail,) = verifying_postfix.wait_for_mail(recipient)
        assert [result for result, _ in results_of_opendkim(mail)] == ["fail"], mail.decode()


def verified_by_exim(exim: Exim, content: bytes, recipient: str) -> list[str]:
    """Its lines of the log on the signatures of one message."""
    send(exim.port, content, recipient)
    return exim_lines(exim, recipient)


def exim_lines(exim: Exim, recipient: str) -> list[str]:
    """The same, of the message that arrives for ``recipient``."""
    local = re.escape(recipient.partition("@")[0])
    delivered = re.compile(rf"^\S+ \S+ (\S+) => {local} <{re.escape(recipient)}>", re.MULTILINE)
    wait_for(lambda: delivered.search(exim.log), f"mail for {recipient}")
    (queue_id,) = delivered.findall(exim.log)
    return [line for line in exim.log.splitlines() if f"{queue_id} DKIM: " in line]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MESSAGES)
def test_exim_verifies_what_we_sign(verifying_exim: Exim, name: str, form: str) -> None:
    recipient = f"{name}-{form.replace('/', '-')}@b.test"
    lines = verified_by_exim(verifying_exim, sign(name, form, KEYS["rsa"], KEYS["ed"]), recipient)
    end = "verification failed - body hash mismatch" if (name, form.partition("/")[2]) == EXIM_DIFFERS else "succeeded]"
    assert len(lines) == 2
    assert all(end in line and f"c={form}" in line for line in lines), lines


def test_exim_refuses_what_was_changed(verifying_exim: Exim) -> None:
    changed = sign("plain", "relaxed/relaxed", KEYS["rsa"]).replace(b"Hello", b"Hollo")
    (line,) = verified_by_exim(verifying_exim, changed, "changed@b.test")
    assert "verification failed" in line


@pytest.fixture(scope="module")
def signing_postfix(name_server: str) -> Iterator[tuple[Peer, dict[tuple[str, str], int]]]:
    """With a listener, and an opendkim behind it, for each key and form."""
    ports = {case: free_port() for case in OPENDKIM_SIGNS}
    with contextlib.ExitStack() as stack:
        lines = []
        for (selector, form), port in ports.items():
            settings = f"SignatureAlgorithm {KEYS[selector].algorithm}\nCanonicalization {form}"
            keys = {("a.test", selector): PEMS[selector]}
            milter = stack.enter_context(running_opendkim("s", name_server, keys=keys, settings=settings))
            lines.append(f"127.0.0.1:{port} inet n - n - - smtpd -o smtpd_milters={milter}")
        postfix = stack.enter_context(running_postfix({"milter_default_action": "tempfail"}, master_cf=lines))
        yield postfix, ports


@pytest.mark.parametrize(("selector", "form"), OPENDKIM_SIGNS)
def test_what_opendkim_signs_verifies_here(
    name_server: str, signing_postfix: tuple[Peer, dict[tuple[str, str], int]], selector: str, form: str
) -> None:
    postfix, ports = signing_postfix
    for name in MESSAGES:
        recipient = f"{name}-{selector}-{form.replace('/', '-')}@b.test"
        header, body = message(name)
        send(ports[selector, form], header + b"\r\n" + body, recipient)
        (mail,) = postfix.wait_for_mail(recipient)
        content = mail.replace(b"\n", b"\r\n")
        (verdict,) = our_verdicts(content, name_server)
        assert (verdict.result, verdict.selector) == (Result.PASS, selector), (name, verdict, mail)
        (verdict,) = our_verdicts(content + b"more\r\n", name_server)
        assert verdict.result is Result.FAIL


def test_what_exim_signs_verifies_here(name_server: str) -> None:
    with open_directory() as folder, running_exim() as inbox:
        for selector, pem in PEMS.items():
            (folder / f"{selector}.pem").write_bytes(pem)
            (folder / f"{selector}.pem").chmod(0o644)  # Exim reads it as its own user
        for canonicalization in ("relaxed", "simple"):
            transport = [
                "dkim_domain = a.test",
                "dkim_selector = rsa : ed",
                f"dkim_private_key = {folder}/${{dkim_selector}}.pem",
                f"dkim_canon = {canonicalization}",
            ]
            with running_exim(next_hop=f"127.0.0.1:{inbox.port}", transport=transport) as exim:
                for name in MESSAGES:
                    header, body = message(name)
                    send(exim.port, header + b"\r\n" + body, f"{name}-{canonicalization}@b.test")
                for name in MESSAGES:
                    (mail,) = inbox.wait_for_mail(f"{name}-{canonicalization}@b.test")
                    content = mail.replace(b"\n", b"\r\n")
                    verdicts = our_verdicts(content, name_server)
                    result = Result.FAIL if (name, canonicalization) == EXIM_DIFFERS else Result.PASS
                    found = [(each.result, each.selector) for each in verdicts]
                    assert found == [(result, "rsa"), (result, "ed")], (name, canonicalization, verdicts, mail)
                    assert {each.result for each in our_verdicts(content + b"more\r\n", name_server)} == {Result.FAIL}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_a_server_of_ours_sends_verifies_at_both(verifying_postfix: Peer, verifying_exim: Exim, name: str) -> None:
    """From the table to the far end; opendkim and Exim hear of it what they heard of the signature alone."""
    ports = {"postfix": verifying_postfix.port, "exim": verifying_exim.port}
    routes = ", ".join(f"{to}.test=smtp:[127.0.0.1]:{port}" for to, port in ports.items())
    entry = "a.test:rsa:a.test/rsa.pem a.test:ed:a.test/ed.pem"
    main_cf = {
        "transport_maps": f"inline:{{ {routes} }}",
        "dkim_signing_table": f"inline:{{ {{ a.test = {entry} }} }}",
        "worker_processes": "1",
    }
    with running_server(main_cf=main_cf, start=False) as server:
        folder = server.etc / "dkim" / "a.test"
        folder.mkdir(parents=True)
        for selector, pem in PEMS.items():
            (folder / f"{selector}.pem").write_bytes(pem)
            (folder / f"{selector}.pem").chmod(0o600)
        server.start()
        header, body = message(name)
        for to in ports:
            send(server.port, header + b"\r\n" + body, f"{name}@{to}.test")
        (mail,) = verifying_postfix.wait_for_mail(f"{name}@postfix.test")
        assert results_of_opendkim(mail) == [("pass", "rsa"), ("pass", "ed")], mail.decode()
        lines = exim_lines(verifying_exim, f"{name}@exim.test")
        assert len(lines) == 2
        assert all(line.endswith("[verification succeeded]") for line in lines), lines


def test_what_exim_signs_verifies_at_a_server_of_ours(name_server: str) -> None:
    main_cf = {
        "mynetworks": "192.0.2.0/24",
        "relay_domains": "b.test",
        "dns_resolvers": name_server,
        "worker_processes": "1",
    }
    with recording_sink() as sink, open_directory() as folder:
        (folder / "ed.pem").write_bytes(PEMS["ed"])
        (folder / "ed.pem").chmod(0o644)
        transport = ["dkim_domain = a.test", "dkim_selector = ed", f"dkim_private_key = {folder}/ed.pem"]
        with (
            running_server(main_cf={**main_cf, "relayhost": sink.next_hop}) as server,
            running_exim(next_hop=f"127.0.0.1:{server.port}", transport=transport) as exim,
        ):
            header, body = message("mime")
            send(exim.port, header + b"\r\n" + body, "bert@b.test")
            (found,) = sink.messages(1)
    told = found.field("Authentication-Results") or ""
    assert re.search(r"dkim=pass [^;]*header\.d=a\.test header\.s=ed\b", told), told


def test_the_records_that_keygen_prints_are_found_in_dns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command to the zone file to the check."""
    table = tmp_path / "signing"
    table.write_text("")
    settings = f"queue_directory = {tmp_path}/queue\nmyhostname = mx.a.test\ndkim_signing_table = texthash:{table}\n"
    (tmp_path / "main.cf").write_text(settings)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["dkim", *arguments, "-c", str(tmp_path)])
        return code, capsys.readouterr().out

    code, zone = run("keygen", "a.test", "--algorithm", "both")
    assert code == 0
    table.write_text(zone.splitlines()[-1].removeprefix(";   ") + "\n")
    with open_directory() as folder, running_nsd(folder, {"a.test": zone}) as server:
        (tmp_path / "main.cf").write_text(f"{settings}dns_resolvers = {server}\n")
        code, shown = run("show", "--check")
        assert (code, shown.count("; DNS: ok")) == (0, 2), shown
    with (
        open_directory() as folder,
        running_nsd(folder, {"a.test": zone.replace("k=rsa; p=M", "k=rsa; p=N")}) as server,
    ):
        (tmp_path / "main.cf").write_text(f"{settings}dns_resolvers = {server}\n")
        code, shown = run("show", "--check")
        assert (code, shown.count("; DNS: wrong"), shown.count("; DNS: ok")) == (os.EX_DATAERR, 1, 1), shown
    code, shown = run("show", "--check")  # nobody is there any more
    assert (code, shown.count("; DNS: unknown")) == (os.EX_TEMPFAIL, 2), shown

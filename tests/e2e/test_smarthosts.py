"""Mail through smarthosts that want a login: a real Postfix with Dovecot's SASL, a real Exim (which speaks GnuTLS)."""

from __future__ import annotations

import re
import shutil
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.certificates import Authority
from support.dovecot_auth import running_dovecot_auth
from support.honours import honours
from support.peers import Peer, running_exim, running_postfix
from support.recipes import recipe
from support.running import RunningServer, open_directory, running_server, wait_for

MAIL = b"Subject: hello\r\nFrom: a@b.test\r\n\r\nbody\r\n"
PASSWORD = "s3cret,=word"


class Smarthost(NamedTuple):
    peer: Peer
    authority: Path  # a file


@pytest.fixture(scope="module")
def postfix() -> Iterator[Smarthost]:
    """It relays for who has logged in and for nobody else, and takes passwords within TLS only."""
    with open_directory() as directory, running_dovecot_auth(f"relay:{{PLAIN}}{PASSWORD}::::::\n") as dovecot:
        root, authority = _certificates(directory, "mx.here.test")
        main_cf = {
            "mynetworks": "192.0.2.0/24",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_cert_file": str(root[0]),
            "smtpd_tls_key_file": str(root[1]),
            "smtpd_tls_received_header": "yes",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{dovecot.port}",
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
        }
        with running_postfix(main_cf, master_cf=["tlsmgr unix - - n 1000? 1 tlsmgr"]) as peer:
            yield Smarthost(peer, authority)


_EXIM_MAIN = """
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
log_selector = +all
"""
_EXIM_AUTHENTICATORS = f"""
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${{if def:tls_in_cipher}}
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{relay}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_advertise_condition = ${{if def:tls_in_cipher}}
  server_prompts = "Username:: : Password::"
  server_condition = ${{if and{{{{eq{{$auth1}}{{relay}}}}{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{relay}}{{{PASSWORD}}}fail}}
  server_set_id = $auth1
external:
  driver = external
  public_name = EXTERNAL
  server_advertise_condition = ${{if def:tls_in_peerdn}}
  server_param2 = ${{certextract{{subj_altname,dns,>;}}{{$tls_in_peercert}}}}
  server_condition = ${{if inlisti{{$auth1}}{{<; $auth2}}}}
  server_set_id = $auth1
"""


@pytest.fixture(scope="module")
def exim() -> Iterator[Smarthost]:
    with open_directory() as directory:
        (certificate, key), authority = _certificates(directory, "exim.test")
        for path in (certificate, key):
            shutil.chown(path, "Debian-exim")
        main = _EXIM_MAIN.format(certificate=certificate, key=key).strip().splitlines()
        main += ["tls_try_verify_hosts = *", f"tls_verify_certificates = {authority}"]
        with running_exim(
            [*main, "acl_smtp_mail = everything"],
            acl=["authenticated:", "  deny !authenticated = *", "  accept"],
            authenticators=_EXIM_AUTHENTICATORS.strip().splitlines(),
        ) as peer:
            yield Smarthost(peer, authority)


def _certificates(directory: Path, name: str) -> tuple[tuple[Path, Path], Path]:
    root = Authority()
    (directory / "root.pem").write_bytes(root.pem)
    own = root.issue("client.test", client=True)
    own.write(directory, "client")
    return root.issue(name, key="rsa").write(directory, "server"), directory / "root.pem"


def main_cf(smarthost: Smarthost, name: str, account: str, **own: str) -> dict[str, str]:
    """As docs/recipes.md has it."""
    folder = smarthost.authority.parent
    (folder / "hosts").write_text(f"127.0.0.1 {name}\n")
    relayhost = f"[{name}]:{smarthost.peer.port}"
    (folder / "passwords").write_text(f"{relayhost} {account}\n")
    (folder / "passwords").chmod(0o644)
    return {
        "relayhost": relayhost,
        "smtp_host_lookup": "native",
        "native_hosts_file": str(folder / "hosts"),
        "smtp_tls_security_level": "secure",
        "smtp_tls_secure_cert_match": "nexthop",
        "smtp_tls_CAfile": str(smarthost.authority),
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"texthash:{folder}/passwords",
        "smtp_sasl_tls_security_options": "noanonymous",
        **own,
    }


def test_the_recipe(postfix: Smarthost) -> None:
    """docs/recipes.md, with the names of this provider."""
    parameters, _ = recipe("A smarthost with a password")
    own = main_cf(postfix, "mx.here.test", f"relay:{PASSWORD}")
    names = ("relayhost", "smtp_tls_CAfile", "smtp_sasl_password_maps", "smtp_host_lookup", "native_hosts_file")
    with running_server(main_cf={**parameters, **{name: own[name] for name in names}}) as server:
        send(server, "recipe@d.test")
        assert "status=sent" in result(server, "recipe@d.test"), server.log
    postfix.peer.wait_for_mail("recipe@d.test")


def send(server: RunningServer, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.sendmail("a@b.test", [recipient], MAIL)


def result(server: RunningServer, recipient: str) -> str:
    def lines() -> list[str]:
        return [line for line in server.log.splitlines() if f"to=<{recipient}>" in line and "status=" in line]

    wait_for(lines, f"a result for {recipient}\n{server.log}")
    return lines()[-1]


@honours("smtp_sasl_auth_enable", "smtp_sasl_password_maps", "smtp_sasl_tls_security_options")
@pytest.mark.parametrize("mechanism", ["", "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_a_postfix_that_wants_a_login(postfix: Smarthost, mechanism: str) -> None:
    recipient = f"{mechanism or 'any'}@d.test".lower()
    own = {"smtp_sasl_mechanism_filter": mechanism}
    with running_server(main_cf=main_cf(postfix, "mx.here.test", f"relay:{PASSWORD}", **own)) as server:
        send(server, recipient)
        assert "status=sent" in result(server, recipient), server.log + postfix.peer.log
        assert PASSWORD not in server.log
    [mail] = postfix.peer.wait_for_mail(recipient)
    assert b"(Authenticated sender: relay" in mail
    assert b"(using TLSv1.3 with cipher" in mail
    used = re.findall(r"sasl_method=([A-Z0-9-]+), sasl_username=relay", postfix.peer.log)
    assert used[-1] == (mechanism or "SCRAM-SHA-256")


@pytest.mark.parametrize("mechanism", ["", "PLAIN", "LOGIN", "CRAM-MD5"])
def test_an_exim_that_wants_a_login(exim: Smarthost, mechanism: str) -> None:
    recipient = f"{mechanism or 'any'}@d.test".lower()
    own = {"smtp_sasl_mechanism_filter": mechanism}
    with running_server(main_cf=main_cf(exim, "exim.test", f"relay:{PASSWORD}", **own)) as server:
        send(server, recipient)
        assert "status=sent" in result(server, recipient), server.log + exim.peer.log
    exim.peer.wait_for_mail(recipient)
    driver = {"PLAIN": "plain", "LOGIN": "login"}.get(mechanism, "cram")
    assert re.search(rf"A={driver}:relay .*", exim.peer.log) is not None
    assert "P=esmtpsa" in exim.peer.log


@honours("smtp_tls_cert_file", "smtp_tls_key_file")
def test_an_exim_that_knows_us_by_our_certificate(exim: Smarthost) -> None:
    """The key is readable by nobody but root, and the workers are not root."""
    folder = exim.authority.parent
    own = {"smtp_tls_cert_file": f"{folder}/client.pem", "smtp_tls_key_file": f"{folder}/client.key"}
    with running_server(main_cf=main_cf(exim, "exim.test", "client.test:", **own)) as server:
        send(server, "external@d.test")
        assert "status=sent" in result(server, "external@d.test"), server.log + exim.peer.log
    assert "A=external:client.test" in exim.peer.log


@pytest.mark.parametrize("account", ["relay:inc0rrect", "nobody:at all"])
def test_a_wrong_password_keeps_the_mail(postfix: Smarthost, account: str) -> None:
    with running_server(main_cf=main_cf(postfix, "mx.here.test", account)) as server:
        send(server, "wrong@d.test")
        line = result(server, "wrong@d.test")
        assert "status=deferred (SASL authentication failed; server mx.here.test[127.0.0.1] said: 535 5.7.8 " in line
        assert account.partition(":")[2] not in server.log
    assert not postfix.peer.mails("wrong@d.test")


def test_without_tls_no_password_goes_out(postfix: Smarthost) -> None:
    """The server offers AUTH within TLS only; one that did not would be offered nothing either (noplaintext)."""
    own = {"smtp_tls_security_level": "none"}
    with running_server(main_cf=main_cf(postfix, "mx.here.test", f"relay:{PASSWORD}", **own)) as server:
        send(server, "clear@d.test")
        assert "status=bounced" in result(server, "clear@d.test")  # as a stranger: relay access denied
    assert not postfix.peer.mails("clear@d.test")

"""Programs that speak for other clients: HAProxy and swaks (PROXY, XCLIENT), Postfix (XFORWARD), and strangers."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Authority
from support.peers import running_postfix
from support.requirements import require_program
from support.running import RunningServer, free_port, open_directory, running_server, wait_for
from support.smtp_socket import SmtpSocket

KINDS = ("plain", "tls", "gateway", "filtered", "strangers")
PROXIED = "-o smtpd_upstream_proxy_protocol=haproxy -o smtpd_upstream_proxy_clients=127.0.0.1"


class Host:
    def __init__(self, directory: Path) -> None:
        authority = Authority("The Root")
        self.root = directory / "root.pem"
        self.root.write_bytes(authority.pem)
        authority.issue("mx.test").write(directory, "server")
        self.ports = {kind: free_port() for kind in KINDS}
        lines = {
            "plain": PROXIED,
            "tls": f"{PROXIED} -o smtpd_tls_wrappermode=yes -o smtpd_upstream_proxy_timeout=2s",
            "gateway": "-o smtpd_authorized_xclient_hosts=127.0.0.1",
            "filtered": "-o smtpd_authorized_xforward_hosts=127.0.0.1 -o mynetworks=127.0.0.1",
            "strangers": "-o smtpd_upstream_proxy_protocol=haproxy -o smtpd_upstream_proxy_clients=192.0.2.200",
        }
        self.server = RunningServer(
            directory,
            main_cf={
                "mynetworks": "192.0.2.0/24",
                "relay_domains": "here.test",
                "relay_transport": "discard:",
                "default_transport": "discard:",
                "smtpd_peername_lookup": "no",
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": str(directory / "server.pem"),
                "smtpd_tls_key_file": str(directory / "server.key"),
            },
            master_cf=[f"127.0.0.1:{port} inet n - n - - smtpd {lines[kind]}" for kind, port in self.ports.items()],
        )


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with open_directory() as directory:
        found = Host(directory)
        try:
            found.server.start()
            yield found
            assert "Traceback" not in found.server.output + found.server.log
            assert "internal error" not in found.server.log
        finally:
            found.server.close()


@contextlib.contextmanager
def haproxy(directory: Path, *backends: tuple[str, int], option: str) -> Iterator[dict[str, int]]:
    """Real HAProxy before each of the ports; their ports in front, by name. The health checks speak PROXY too."""
    program = require_program("haproxy")
    fronts = {name: free_port() for name, _ in backends}
    text = "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 20s\n  timeout server 20s\n"
    for name, port in backends:
        text += f"listen {name}\n  bind 127.0.0.1:{fronts[name]}\n"
        text += f"  server mx 127.0.0.1:{port} {option} check inter 200ms check-send-proxy\n"
    configuration = directory / "haproxy.cfg"
    configuration.write_text(text)
    process = subprocess.Popen([program, "-db", "-f", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        yield fronts
    finally:
        process.terminate()
        process.wait(20)


def _sent_from(port: int, source: str) -> SmtpSocket:
    """A session through a proxy; the proxy needs a moment to listen."""
    found: list[SmtpSocket] = []

    def connects() -> bool:
        try:
            client = SmtpSocket(port, source=source)
        except OSError:
            return False
        if client.hear().startswith("220 "):
            found.append(client)
        return bool(found)

    wait_for(connects, "a banner through the proxy")
    return found[0]


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
def test_behind_haproxy_the_client_is_who_it_is(host: Host, tmp_path: Path, option: str) -> None:
    with haproxy(tmp_path, ("plain", host.ports["plain"]), option=option) as fronts:
        with _sent_from(fronts["plain"], "127.0.0.77") as client:
            client.say("EHLO client.example")
            client.say("MAIL FROM:<a@b.example>")
            assert client.say("RCPT TO:<u@elsewhere.test>").startswith("554 5.7.1 ")
            port = client.socket.getsockname()[1]
        host.server.wait_for_log("reject: RCPT from unknown[127.0.0.77]: 554 5.7.1 ")
        # Its checks are told as its own (LOCAL, UNKNOWN), and are no trouble.
        host.server.wait_for_log("connect from unknown[127.0.0.1]")
        assert port


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_the_header_comes_before_the_handshake(host: Host, tmp_path: Path, option: str) -> None:
    context = ssl.create_default_context(cafile=str(host.root))
    with haproxy(tmp_path, ("tls", host.ports["tls"]), option=option) as fronts:

        def connects() -> bool:
            try:
                raw = socket.create_connection(("127.0.0.1", fronts["tls"]), 20, source_address=("127.0.0.78", 0))
                with context.wrap_socket(raw, server_hostname="mx.test") as secure:
                    secure.sendall(b"QUIT\r\n")
                    return secure.recv(4) == b"220 "
            except OSError:
                return False

        wait_for(connects, "a banner inside TLS through the proxy")
    host.server.wait_for_log("connect from unknown[127.0.0.78]")


def swaks(host: Host, kind: str, *options: str) -> str:
    command = ["swaks", "--server", "127.0.0.1", "--port", str(host.ports[kind]), "--from", "a@b.example", "--to",
               "u@elsewhere.test", "--helo", "client.example", *options]  # fmt: skip
    require_program("swaks")
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    ("family", "source", "dest", "relays"),
    [
        ("TCP4", "192.0.2.9", "198.51.100.1", True),
        ("TCP4", "203.0.113.9", "198.51.100.1", False),
        ("TCP6", "2001:db8::9", "2001:db8::1", False),
    ],
)
def test_swaks_behind_a_proxy(host: Host, version: str, family: str, source: str, dest: str, relays: bool) -> None:
    family = family if version == "1" else {"TCP4": "AF_INET", "TCP6": "AF_INET6"}[family]
    said = swaks(
        host, "plain", "--proxy-version", version, "--proxy-family", family, "--proxy-source", source,
        "--proxy-source-port", "4711", "--proxy-dest", dest, "--proxy-dest-port", "25",
        *(() if version == "1" else ("--proxy-protocol", "STREAM", "--proxy-command", "PROXY")),
    )  # fmt: skip
    assert ("250 2.0.0 Ok: queued as" in said) is relays, said
    assert ("554 5.7.1 <u@elsewhere.test>: Relay access denied" in said) is not relays, said
    host.server.wait_for_log(f"connect from unknown[{source}]")


def test_swaks_as_a_gateway(host: Host) -> None:
    attributes = ("--xclient-addr", "192.0.2.44", "--xclient-name", "trusted.example", "--xclient-login", "ann")
    said = swaks(host, "gateway", *attributes, "--xclient-helo", "inner.example", "--xclient-port", "4712")
    assert "250 2.0.0 Ok: queued as" in said, said
    queue_id = re.findall(r"queued as (\w+)", said)[0]
    host.server.wait_for_log(f"{queue_id}: client=trusted.example[192.0.2.44]")
    assert "554 5.7.1" in swaks(host, "gateway", "--xclient-addr", "203.0.113.5")


def test_a_real_postfix_forwards_who_its_client_was(host: Host) -> None:
    settings = {"smtp_send_xforward_command": "yes", "smtpd_authorized_xclient_hosts": "127.0.0.1"}
    with running_postfix(settings, next_hop=f"127.0.0.1:{host.ports['filtered']}") as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="gw.example", timeout=60) as client:
            client.ehlo()
            client.docmd("XCLIENT", "NAME=origin.example ADDR=127.0.0.99")
            client.ehlo("inner.example")
            client.sendmail("a@b.example", ["u@here.test"], "Subject: x\r\n\r\nHello\r\n")
        wait_for(lambda: "status=sent (250 2.0.0 Ok: queued as" in postfix.log, f"a delivery:\n{postfix.log}")
        queue_id = re.findall(r"queued as (\w+)\)", postfix.log)[-1]
        original = re.findall(r"smtpd\[\d+\]: (\w+): client=", postfix.log)[-1]
    told = rf"orig_queue_id={original}, orig_client=origin\.example\[127\.0\.0\.99\]"
    pattern = rf"{queue_id}: client=unknown\[127\.0\.0\.1\], {told}"
    wait_for(lambda: re.search(pattern, host.server.log), f"the client of before:\n{host.server.log}")


def test_a_real_postfix_hears_from_us_who_the_client_was(host: Host) -> None:
    with running_postfix({"smtpd_authorized_xforward_hosts": "127.0.0.1"}) as postfix:
        settings = {
            "relayhost": f"[127.0.0.1]:{postfix.port}",
            "smtp_send_xforward_command": "yes",
            "mynetworks": "127.0.0.0/8 198.51.100.0/24",
            "smtpd_authorized_xclient_hosts": "127.0.0.1",
            "smtpd_peername_lookup": "no",
        }
        with running_server(main_cf=settings) as server, SmtpSocket(server.port) as client:
            client.hear()
            client.say("XCLIENT NAME=origin.example ADDR=198.51.100.99")
            client.say("EHLO inner.example")
            client.say("MAIL FROM:<a@b.example>")
            client.say("RCPT TO:<c@here.test>")
            client.say("DATA")
            queue_id = client.say("Subject: x\r\n\r\nHello\r\n.").rpartition(" ")[2]
            postfix.wait_for_mail("c@here.test")
            log = postfix.log
    assert f"orig_queue_id={queue_id}, orig_client=origin.example[198.51.100.99]" in log


@pytest.mark.parametrize(
    "said",
    [
        b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 " + b"9" * 5_000_000,
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + bytes(65535),
        b"EHLO client.example\r\n",
    ],
)
@pytest.mark.parametrize("kind", ["strangers", "plain"])
def test_what_is_no_header_or_nobody_s_to_send_is_dropped(host: Host, kind: str, said: bytes) -> None:
    if kind == "plain" and said.endswith(b"4711 25\r\n"):
        return  # that one is right there
    with SmtpSocket(host.ports[kind]) as client, contextlib.suppress(ConnectionError):
        client.send(said)
        assert client.line() == b""
    host.server.wait_for_log("dropping a connection from [127.0.0.1]:")


def test_a_slow_header_has_its_own_time(host: Host) -> None:
    with SmtpSocket(host.ports["tls"]) as client:
        client.send(b"PROXY TCP4 ")
        assert client.line() == b""
    host.server.wait_for_log("no PROXY header within smtpd_upstream_proxy_timeout")

"""Tokens of a real HTTPS issuer, in a running server: by its keys, and by its word."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from joserfc import jwt
from joserfc.jwk import ECKey

from support.requirements import require_program
from support.running import RunningServer, open_directory, wait_for
from support.smtp_socket import SmtpSocket

_KEY = ECKey.generate_key("P-256", {"kid": "one"})
_ISSUER = "https://issuer.example"


class Issuer(http.server.ThreadingHTTPServer):
    """``said`` is the answer about a token; ``asked`` is what came: path, Authorization, body."""

    said: dict[str, Any]
    asked: list[tuple[str, str, bytes]]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, "", b""))
        self._answer({"keys": [_KEY.as_dict(private=False)]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers.get("Authorization", ""), body))
        self._answer(self.server.said)

    def _answer(self, facts: dict[str, Any]) -> None:
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[tuple[Issuer, bytes]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = Issuer(("127.0.0.1", 0), _Handler)
    server.said, server.asked = {"active": False}, []
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, authority.cert_pem.bytes()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serving(certificate: bytes, **settings: str) -> Iterator[RunningServer]:
    with open_directory() as directory:
        server = RunningServer(
            directory,
            main_cf={
                "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "ekiden", "smtpd_tls_auth_only": "no",
                "sasl_oauth_issuer": _ISSUER, "sasl_oauth_audience": "mail",
                "sasl_oauth_ca_file": f"{directory}/ca.pem", "smtpd_auth_failure_sleep_time": "0s", **settings,
            },
        )  # fmt: skip
        (directory / "ca.pem").write_bytes(certificate)
        (directory / "ca.pem").chmod(0o644)
        server.start()
        try:
            yield server
        finally:
            server.close()


def login(server: RunningServer, token: str) -> str:
    message = base64.b64encode(f"user=anna@example.com\x01auth=Bearer {token}\x01\x01".encode())
    with SmtpSocket(server.port) as client:
        client.hear()
        client.say("EHLO client.example")
        answer = client.say(b"AUTH XOAUTH2 " + message)
        return client.say("") if answer.startswith("334") else answer


def claims(**changes: object) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": _ISSUER, "aud": "mail", "exp": now + 300, "email": "anna@example.com", **changes}


def test_a_token_by_the_keys_of_its_issuer(issuer: tuple[Issuer, bytes]) -> None:
    service, certificate = issuer
    url = f"https://localhost:{service.server_port}/keys"
    with serving(certificate, sasl_oauth_keys_url=url, worker_processes="1") as server:

        def signed(**changes: object) -> str:
            return str(jwt.encode({"alg": "ES256", "kid": "one"}, claims(**changes), _KEY, ["ES256"]))

        for _ in range(3):
            assert login(server, signed()).startswith("235 ")
        assert service.asked == [("/keys", "", b"")]
        for changes in ({"aud": "web"}, {"exp": 1}, {"email": "bert@example.com"}):
            assert login(server, signed(**changes)).startswith("535 ")
        wait_for(lambda: "it has expired" in server.log, "the reason in the log")


def test_a_token_by_the_word_of_its_issuer(issuer: tuple[Issuer, bytes], tmp_path: Path) -> None:
    service, certificate = issuer
    url = f"https://localhost:{service.server_port}/ask"
    with serving(certificate, sasl_oauth_introspection_url=url) as server:
        assert login(server, "opaque").startswith("535 ")
        service.said = claims(active=True)
        assert login(server, "opaque").startswith("235 ")
        assert service.asked[-1] == ("/ask", "", b"token=opaque&token_type_hint=access_token")
        (server.etc / "client").write_text("mail:se cret\n")
        (server.etc / "client").chmod(0o644)
        server.main_cf["sasl_oauth_client_file"] = str(server.etc / "client")
        server.reload()
        assert login(server, "opaque").startswith("235 ")
        assert service.asked[-1][1] == "Basic " + base64.b64encode(b"mail:se%20cret").decode()


def test_an_issuer_that_cannot_show_who_it_is_is_not_believed(issuer: tuple[Issuer, bytes]) -> None:
    service, _ = issuer
    service.said = claims(active=True)
    url = f"https://localhost:{service.server_port}/ask"
    with serving(trustme.CA().cert_pem.bytes(), sasl_oauth_introspection_url=url) as server:
        assert login(server, "opaque").startswith("454 ")
        assert service.asked == []


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_curl_and_msmtp_bring_tokens(issuer: tuple[Issuer, bytes], mechanism: str, tmp_path: Path) -> None:
    service, certificate = issuer
    url = f"https://localhost:{service.server_port}/keys"
    token = str(jwt.encode({"alg": "ES256", "kid": "one"}, claims(), _KEY, ["ES256"]))

    def run(*words: str) -> str:
        done = subprocess.run(
            [require_program(words[0]), *words[1:]],
            input=b"Subject: x\r\n\r\nx\r\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    with serving(certificate, sasl_oauth_keys_url=url, default_transport="discard:") as server:

        def curl(bearer: str) -> str:
            return run(
                "curl", "--silent", "--verbose", "--login-options", f"AUTH={mechanism}", "--user", "anna@example.com:x",
                "--oauth2-bearer", bearer, "--mail-from", "a@b.example", "--mail-rcpt", "c@far.example",
                "--url", f"smtp://127.0.0.1:{server.port}/client.example", "--upload-file", "-",
            )  # fmt: skip

        def msmtp(bearer: str) -> str:
            (tmp_path / "token").write_text(f"{bearer}\n")
            return run(
                "msmtp", "--file=/dev/null", "--debug", "--host=127.0.0.1", f"--port={server.port}", "--tls=off",
                f"--auth={mechanism.lower()}", "--user=anna@example.com", f"--passwordeval=cat {tmp_path}/token",
                "--from=a@b.example", "c@far.example",
            )  # fmt: skip

        for program in (curl, msmtp):
            assert "235 2.7.0 Authentication successful" in program(token), program
            refused = program("wrong.token")
            assert "334 " in refused
            assert "235 " not in refused
        # msmtp 1.8.23 takes the one mechanism for the other.
        wait_for(lambda: server.log.count(", sasl_username=anna@example.com\n") >= 4, "two logins and two failures")
        assert f", sasl_method={mechanism}, " in server.log

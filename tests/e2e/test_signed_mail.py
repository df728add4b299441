"""Mail of our own leaves signed by DKIM, whichever way it came; dkimpy verifies it. Mail of strangers is not signed."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator

import dkim
import pytest

from ekiden.auth.dkim.keys import ED25519_SHA256, RSA_SHA256, new_private_key, signing_key
from support.recording_sink import RecordingSink, recording_sink
from support.running import RunningServer, free_port, running_server, wait_for

PEMS = {"rsa": new_private_key(RSA_SHA256), "ed": new_private_key(ED25519_SHA256)}
RECORDS = {
    f"{selector}._domainkey.here.test": signing_key("here.test", selector, pem).record for selector, pem in PEMS.items()
}
LISTENERS = {
    "own": (),
    "strangers": ("mynetworks=192.0.2.0/24",),
    "filter": ("receive_override_options=no_milters",),
    "required": ("dkim_signing_required=yes", "dkim_signing_table=inline:{here.test=here.test:gone:gone.pem}"),
    "missing": ("dkim_signing_table=inline:{here.test=here.test:gone:gone.pem}",),
}
PORTS = {name: free_port() for name in LISTENERS}


@pytest.fixture(scope="module")
def sink() -> Iterator[RecordingSink]:
    with recording_sink() as running:
        yield running


@pytest.fixture(scope="module")
def server(sink: RecordingSink) -> Iterator[RunningServer]:
    main_cf = {
        "relayhost": sink.next_hop,
        "myhostname": "mx.here.test",
        "myorigin": "here.test",
        "mydestination": "",
        "relay_domains": "far.test",
        "worker_processes": "1",
        "spf_policy": "none",
        "dmarc_policy": "none",
        "dkim_verification": "no",
        "arc_verification": "no",
        "dkim_signing_table": "inline:{ {here.test = here.test:rsa:rsa.pem, here.test:ed:ed.pem} }",
    }
    lines = [
        f"127.0.0.1:{PORTS[name]} inet n - n - - smtpd" + "".join(f" -o {option}" for option in options)
        for name, options in LISTENERS.items()
    ]
    with running_server(main_cf=main_cf, master_cf=lines, start=False) as running:
        folder = running.etc / "dkim"
        folder.mkdir()
        for name, pem in PEMS.items():
            (folder / f"{name}.pem").write_bytes(pem)
            (folder / f"{name}.pem").chmod(0o600)
        running.start()
        yield running
        assert "Traceback" not in running.output + running.log


def message(sender: str = "anna@here.test", body: str = "Hello.\r\n") -> bytes:
    return f"From: {sender}\r\nTo: bob@far.test\r\nSubject: hello\r\nMessage-ID: <1@here.test>\r\n\r\n{body}".encode()


def send(listener: str, content: bytes) -> str:
    with smtplib.SMTP("127.0.0.1", PORTS[listener], timeout=60) as client:
        client.ehlo()
        try:
            client.sendmail("anna@here.test", ["bob@far.test"], content)
        except smtplib.SMTPDataError as refused:
            return f"{refused.smtp_code} {refused.smtp_error.decode()}"  # type: ignore[union-attr]
    return "250"


def lookup(name: bytes, timeout: int = 5) -> bytes:
    del timeout
    return RECORDS.get(name.decode().rstrip("."), "").encode()


def verified(content: bytes) -> list[bool]:
    """What dkimpy finds of each signature."""
    count = content.partition(b"\r\n\r\n")[0].count(b"DKIM-Signature:")
    return [dkim.DKIM(content).verify(idx=at, dnsfunc=lookup) for at in range(count)]


def by_smtp(_: RunningServer) -> None:
    assert send("own", message()) == "250"


def large(_: RunningServer) -> None:
    assert send("own", message(body=("x" * 70 + "\r\n") * 20_000)) == "250"


def by_sendmail(server: RunningServer) -> None:
    subprocess.run(
        [sys.executable, "-m", "ekiden.cli.main", "sendmail", "-f", "anna@here.test", "bob@far.test"],
        input=message().replace(b"\r\n", b"\n"),
        env={**server.environment, "EKIDEN_CONFIG": str(server.etc)},
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("way", [by_smtp, large, by_sendmail])
def test_what_leaves_is_signed_with_all_its_keys(
    server: RunningServer, sink: RecordingSink, way: Callable[[RunningServer], None]
) -> None:
    way(server)
    [found] = sink.take()
    assert found.content.startswith(b"DKIM-Signature: ")
    assert verified(found.content) == [True, True]
    # What a server on the way adds is no field of the author's, and what the body loses shows.
    assert verified(found.content.replace(b"Subject: hello", b"Subject: other")) == [False, False]


@pytest.mark.parametrize(
    ("listener", "content"),
    [("strangers", message()), ("filter", message()), ("own", message("carl@elsewhere.test"))],
)
def test_what_is_not_ours_is_not_signed(
    server: RunningServer, sink: RecordingSink, listener: str, content: bytes
) -> None:
    assert send(listener, content) == "250"
    [found] = sink.take()
    assert b"DKIM-Signature" not in found.content


def test_a_key_that_cannot_be_used_is_a_warning_or_a_reason_to_wait(server: RunningServer, sink: RecordingSink) -> None:
    assert send("missing", message()) == "250"
    [found] = sink.take()
    assert b"DKIM-Signature" not in found.content
    server.wait_for_log("warning: ")
    assert "gone.pem" in server.log
    assert send("required", message()).startswith("451 4.3.5 ")
    assert sink.messages(0) == []


def test_a_new_key_is_used_without_a_restart(server: RunningServer, sink: RecordingSink) -> None:
    newer = new_private_key(ED25519_SHA256)
    file = server.etc / "dkim" / "ed.pem"
    file.write_bytes(newer)
    try:
        RECORDS["ed._domainkey.here.test"] = signing_key("here.test", "ed", newer).record

        def signs_anew() -> bool:
            assert send("own", message()) == "250"
            [found] = sink.take()
            return verified(found.content) == [True, True]

        wait_for(signs_anew, "a signature by the new key")
    finally:
        RECORDS["ed._domainkey.here.test"] = signing_key("here.test", "ed", PEMS["ed"]).record
        file.write_bytes(PEMS["ed"])

"""The running server reports what DMARC finds of mail: counted, sent once, read by parsedmarc as it was counted."""

from __future__ import annotations

import json
import smtplib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import parsedmarc
import pytest

from ekiden.auth.dkim.keys import ED25519_SHA256, new_private_key, signing_key
from ekiden.reports.collect import AggregateCounts, Evaluated
from ekiden.tls.tlsrpt import day_of
from support.dkim_oracle import records, verifies
from support.dmarc import evaluated
from support.nsd import running_nsd
from support.recording_sink import RecordingSink, recording_sink
from support.running import RunningServer, running_server, wait_for

OWNER = "v=DMARC1; p=reject; rua=mailto:dmarc@owner.test,mailto:all@watch.test!10m,mailto:v@victim.test"
ZONES = {
    "test": "",  # the walk for an organization ends here
    "owner.test": f'_dmarc TXT "{OWNER}"\n@ TXT "v=spf1 ip4:127.0.0.1 -all"\n@ A 127.0.0.1\n',
    "watch.test": 'owner.test._report._dmarc TXT "v=DMARC1"\n@ A 127.0.0.1\n',
    "victim.test": "@ A 127.0.0.1\n",
    "told.test": '_dmarc TXT "v=DMARC1; p=none; ruf=mailto:f@told.test"\n@ A 127.0.0.1\n',
    "quiet.test": '_dmarc TXT "v=DMARC1; p=none"\n@ A 127.0.0.1\n',
}

PEM = new_private_key(ED25519_SHA256)
KEY = signing_key("our.test", "s", PEM)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RecordingSink]]:
    with running_nsd(tmp_path_factory.mktemp("nsd"), ZONES) as resolver, recording_sink() as sink:
        settings = {
            "dns_resolvers": resolver,
            "myhostname": "mx.our.test",
            "mydomain": "our.test",
            "mynetworks": "192.0.2.0/24",  # who comes from the loopback is a stranger here
            "mydestination": "our.test",
            "local_recipient_maps": "",
            "transport_maps": "inline:{ { our.test = discard: } }",
            "relayhost": sink.next_hop,
            "dmarc_report_organization_name": "Our Test",
            "worker_processes": "2",
            "dmarc_failure_reports": "yes",
            "dkim_signing_table": "inline:{ our.test = our.test:s:s.pem, .our.test = our.test:s:s.pem }",
        }
        with running_server(main_cf=settings, start=False) as server:
            (server.etc / "dkim").mkdir()
            (server.etc / "dkim" / "s.pem").write_bytes(PEM)
            server.start()
            assert server.command("dmarc", "send").stdout == "0 reports sent\n"  # it makes its file
            yield server, sink


def counts(server: RunningServer) -> AggregateCounts:
    return AggregateCounts(
        server.queue / "reports" / "dmarc.sqlite", limit=1000, record_limit=100, domain_limit=100, warn=pytest.fail
    )


def test_a_report_reaches_whoever_asked_for_it_and_has_agreed(world: tuple[RunningServer, RecordingSink]) -> None:
    server, sink = world
    yesterday = time.time() - 86_400
    store = counts(server)
    messages: list[Evaluated] = [
        *(evaluated(domain="owner.test", record=OWNER, now=yesterday) for _ in range(5)),
        evaluated(domain="owner.test", record=OWNER, now=yesterday, passed=False, client="2001:db8::7"),
        evaluated(domain="quiet.test", record="v=DMARC1; p=none", now=yesterday),
    ]
    for message in messages:
        store.add(message)
    store.close()
    shown = [json.loads(line) for line in server.command("dmarc", "show", "--json").stdout.splitlines()]
    assert [report["policy"]["domain"] for report in shown] == ["owner.test"]
    assert "owner.test: p=reject: 6 messages, 1 not authentic" in server.command("dmarc", "show").stdout

    done = server.command("dmarc", "send")
    assert done.stdout == "2 reports sent\n", (done.stderr, server.log)
    arrived = sink.take(2)
    assert {each.recipients for each in arrived} == {("dmarc@owner.test",), ("all@watch.test",)}
    for each in arrived:
        assert each.sender == "postmaster@our.test"
        # RFC 9990 §3.5.2: the mail is authentic, and aligned with its From: field.
        assert verifies(each.content, records(KEY))
        assert each.field("From") == "postmaster@our.test"
        report: Any = parsedmarc.parse_report_email(each.content, offline=True)["report"]
        assert report["report_metadata"]["org_name"] == "Our Test"
        assert report["policy_published"]["domain"] == "owner.test"
        assert {record["source"]["ip_address"]: record["count"] for record in report["records"]} == {
            "192.0.2.1": 5,
            "2001:db8::7": 1,
        }
        assert each.field("Subject") == (
            f"Report Domain: owner.test Submitter: mx.our.test Report-ID: <{day_of(yesterday)}.owner.test@mx.our.test>"
        )
    assert server.command("dmarc", "send").stdout == "0 reports sent\n"
    assert "victim.test does not agree" in server.log


def test_a_restart_sends_nothing_twice(world: tuple[RunningServer, RecordingSink]) -> None:
    server, sink = world
    store = counts(server)
    store.add(evaluated(domain="owner.test", record=OWNER, now=time.time() - 86_400))  # late
    store.close()
    server.stop()
    server.start()
    assert server.command("dmarc", "send").stdout == "0 reports sent\n"
    assert sink.messages(0) == []


def deliver(server: RunningServer, sender: str, author: str, *, header: str = "", notify: str = "FAILURE") -> int:
    """One message from the loopback; the code of the reply to its content."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        client.ehlo("client.owner.test")
        client.mail(sender)
        assert client.rcpt("u@our.test", [f"NOTIFY={notify}"])[0] == 250
        code, _ = client.data(f"From: {author}\r\nTo: u@our.test\r\nSubject: x\r\n{header}\r\nHello\r\n")
        return code


def test_mail_comes_in_a_day_passes_and_its_owner_hears_of_it(world: tuple[RunningServer, RecordingSink]) -> None:
    server, sink = world
    for _ in range(3):
        assert deliver(server, "a@owner.test", "a@owner.test") == 250
    assert deliver(server, "a@elsewhere.test", "a@owner.test") == 550, "p=reject"
    assert deliver(server, "a@quiet.test", "a@quiet.test") == 250
    # A report on mail of ours, from them: what they send of that kind is not counted.
    assert deliver(server, "a@owner.test", "a@owner.test", header="Content-Type: multipart/report\r\n") == 250

    def shown() -> str:
        return server.command("dmarc", "show").stdout

    wait_for(lambda: "owner.test: p=reject: 4 messages, 1 not authentic" in shown(), f"counts:\n{server.log}", 40)
    assert "quiet.test" not in shown()
    assert server.command("dmarc", "send").stdout == "0 reports sent\n", "the day is not over"
    # The day passes.
    earlier = day_of(time.time() - 3 * 86_400)
    with sqlite3.connect(server.queue / "reports" / "dmarc.sqlite", timeout=10) as database:
        for table in ("policy", "message"):
            database.execute(f"UPDATE {table} SET day = ?", (earlier,))
    assert server.command("dmarc", "send").stdout == "2 reports sent\n"
    report: Any = parsedmarc.parse_report_email(sink.take(2)[0].content, offline=True)["report"]
    found = {
        (record["policy_evaluated"]["disposition"], record["policy_evaluated"]["spf"]): record
        for record in report["records"]
    }
    assert {key: record["count"] for key, record in found.items()} == {("pass", "pass"): 3, ("reject", "fail"): 1}
    good, bad = found["pass", "pass"], found["reject", "fail"]
    assert {record["source"]["ip_address"] for record in found.values()} == {"127.0.0.1"}
    assert good["identifiers"]["envelope_from"] == "owner.test"
    assert bad["identifiers"] == {
        "envelope_from": "elsewhere.test", "header_from": "owner.test", "envelope_to": "our.test",
    }  # fmt: skip
    assert good["auth_results"]["spf"] == [
        {"domain": "owner.test", "scope": "mfrom", "result": "pass", "human_result": None}
    ]
    assert report["policy_published"]["discovery_method"] == "treewalk"


def test_who_asks_for_it_is_told_of_a_message_that_fails(world: tuple[RunningServer, RecordingSink]) -> None:
    server, sink = world
    assert deliver(server, "mallory@elsewhere.test", "Alice <alice@told.test>") == 250, "p=none"
    (mail,) = sink.take()
    assert mail.recipients == ("f@told.test",)
    assert verifies(mail.content, records(KEY))
    report: Any = parsedmarc.parse_report_email(mail.content, offline=True)["report"]
    assert report["feedback_type"] == "auth-failure"
    assert report["reported_domain"] == "told.test"
    assert report["source"]["ip_address"] == "127.0.0.1"
    assert report["authentication_mechanisms"] == ["dkim", "spf"]
    assert report["delivery_result"] == "delivered"
    assert report["sample_headers_only"] is True
    for private in (b"alice", b"Alice", b"mallory", b"u@our.test", b"Hello"):
        assert private not in mail.content.partition(b"\r\n\r\n")[2], private


def test_a_notification_is_signed_for_the_domain_of_its_author(world: tuple[RunningServer, RecordingSink]) -> None:
    server, sink = world
    assert deliver(server, "b@quiet.test", "b@quiet.test", notify="SUCCESS") == 250
    (mail,) = sink.take()
    assert (mail.sender, mail.recipients) == ("", ("b@quiet.test",))
    assert "MAILER-DAEMON@mx.our.test" in (mail.field("From") or "")
    assert verifies(mail.content, records(KEY))

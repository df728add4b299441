"""Mail of strangers is examined: what was found stands in header and log, and is acted on as main.cf says.

The domains live in a real name server (nsd); signatures are made by dkimpy; mail goes on to a sink that keeps it.
"""

from __future__ import annotations

import base64
import re
import smtplib
from collections.abc import Iterator

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.nsd import running_nsd
from support.recording_sink import Received, RecordingSink, recording_sink
from support.running import RunningServer, free_port, running_server

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
PUBLIC = base64.b64encode(
    KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
).decode()
RECORD = f'TXT "v=DKIM1; k=rsa; " "p={PUBLIC[:200]}" "{PUBLIC[200:]}"'

# name: SPF record, DMARC record
DOMAINS = {
    "good.test": ("v=spf1 ip4:127.0.0.0/8 -all", "v=DMARC1; p=reject"),
    "strict.test": ("v=spf1 -all", "v=DMARC1; p=reject"),
    "junk.test": ("v=spf1 -all", "v=DMARC1; p=quarantine"),
    "loose.test": ("v=spf1 ~all", "v=DMARC1; p=none"),
    "told.test": ("v=spf1 -all exp=why.told.test", ""),
}

# What differs from listener to listener.
LISTENERS = {
    "usual": (),
    "nothing": (
        *("spf_policy=none", "dmarc_policy=none", "dkim_verification=no"),
        "arc_verification=no",
    ),
    "no_milters": ("receive_override_options=no_milters",),
    "spf": ("spf_policy=refuse",),
    "soft": ("spf_policy=soft-refuse",),
    "mark": ("dmarc_policy=mark",),
    "quarantine": ("dmarc_policy=quarantine",),
    "hold": ("dmarc_quarantine_action=hold",),
    "override": ("dmarc_override_maps=inline:{strict.test=ours}",),
    "exempt": ("authentication_exempt_clients=127.0.0.0/8",),
    "trusted": ("mynetworks=127.0.0.0/8",),
    "restricted": ("smtpd_end_of_data_restrictions=reject_spf_fail",),
    "sealing": ("arc_seal_key=here.test:seal:seal.pem",),
    "sealing_all": ("arc_seal_key=here.test:seal:seal.pem", "arc_seal=all"),
    "sealing_none": ("arc_seal_key=here.test:seal:seal.pem", "arc_seal=no"),
    "trusting": ("arc_trusted_sealers=here.test",),
    "quiet": ("spf_received_header=no", "authserv_id=ours.test", "spf_checks_helo=no"),
}
PORTS = {name: free_port() for name in LISTENERS}


@pytest.fixture(scope="module")
def sink() -> Iterator[RecordingSink]:
    with recording_sink() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def server(sink: RecordingSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    zones = {}
    for name, (spf, dmarc) in DOMAINS.items():
        records = f'@ TXT "{spf}"\n@ A 127.0.0.1\nk1._domainkey {RECORD}\nwhy TXT "%{{i}} is none of ours"\n'
        zones[name] = records + (f'_dmarc TXT "{dmarc}"\n' if dmarc else "")
    zones["here.test"] = f"seal._domainkey {RECORD}\n"
    with running_nsd(tmp_path_factory.mktemp("zones"), zones) as resolver:
        main_cf = {
            "dns_resolvers": resolver,
            "dns_lookup_time_limit": "5s",
            "myhostname": "mx.here.test",
            "mynetworks": "192.0.2.0/24",
            "relay_domains": "here.test",
            "relayhost": sink.next_hop,
            "virtual_alias_domains": "alias.test",
            "virtual_alias_maps": "inline:{bob@alias.test=bob@far.test}",
            "srs_domain": "",
            "worker_processes": "1",
        }
        lines = [
            f"127.0.0.1:{PORTS[name]} inet n - n - - smtpd" + "".join(f" -o {option}" for option in options)
            for name, options in LISTENERS.items()
        ]
        with running_server(main_cf=main_cf, master_cf=lines, start=False) as running:
            (running.etc / "dkim").mkdir()
            (running.etc / "dkim" / "seal.pem").write_bytes(PEM)
            running.start()
            yield running
            assert "Traceback" not in running.output + running.log


def message(domain: str, *, signed: str = "", more: str = "", body: str = "Hello.\r\n") -> bytes:
    content = (
        f"{more}From: Anna <anna@{domain}>\r\nTo: bob@here.test\r\nSubject: hello\r\n"
        f"Date: Sun, 29 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@{domain}>\r\n\r\n{body}"
    ).encode()
    if not signed:
        return content
    signature = dkim.sign(content, b"k1", signed.encode(), PEM, canonicalize=(b"relaxed", b"relaxed"))
    return bytes(signature) + content


def send(
    listener: str, content: bytes, *, sender: str, helo: str = "good.test", recipient: str = "bob@here.test"
) -> str:
    """The last reply: "250 ..." for a message that was taken."""
    with smtplib.SMTP("127.0.0.1", PORTS[listener], local_hostname=helo, timeout=60) as client:
        client.ehlo()
        try:
            client.sendmail(sender, [recipient], content)
        except smtplib.SMTPRecipientsRefused as refused:
            code, text = refused.recipients[recipient]
            return f"{code} {text.decode()}"
        except smtplib.SMTPDataError as refused:
            return f"{refused.smtp_code} {refused.smtp_error.decode()}"  # type: ignore[union-attr]
    return "250"


def taken(sink: RecordingSink, listener: str, content: bytes, *, sender: str, helo: str = "good.test") -> Received:
    assert send(listener, content, sender=sender, helo=helo) == "250"
    [found] = sink.take()
    return found


def results(received: Received) -> str:
    return received.field("Authentication-Results") or ""


def test_what_is_authentic_passes_and_is_told_at_the_top(server: RunningServer, sink: RecordingSink) -> None:
    found = taken(sink, "usual", message("good.test", signed="good.test"), sender="anna@good.test")
    assert found.content.startswith(b"Authentication-Results: mx.here.test;")
    told = results(found)
    assert "spf=pass" in told
    assert "smtp.mailfrom=good.test" in told
    assert "dkim=pass" in told
    assert "header.d=good.test" in told
    assert "dmarc=pass" in told
    assert "header.from=good.test" in told
    assert (found.field("Received-SPF") or "").lower().startswith("pass")
    server.wait_for_log("authentication: ")
    assert "dmarc=pass" in server.log


def test_who_only_says_so_is_refused_because_the_owner_asks_for_it(server: RunningServer, sink: RecordingSink) -> None:
    answer = send("usual", message("strict.test"), sender="anna@strict.test")
    assert answer.startswith("550 5.7.26 ")
    assert "strict.test" in answer
    assert "reject: END-OF-MESSAGE" in server.log
    assert sink.messages(0) == []


def test_a_signature_saves_what_spf_fails(sink: RecordingSink) -> None:
    found = taken(sink, "usual", message("strict.test", signed="strict.test"), sender="anna@strict.test")
    assert "spf=fail" in results(found)
    assert "dmarc=pass" in results(found)


def test_a_changed_body_is_found_out(sink: RecordingSink) -> None:
    content = message("strict.test", signed="strict.test").replace(b"Hello.", b"Hell0.")
    assert send("usual", content, sender="anna@strict.test").startswith("550 5.7.26 ")
    found = taken(sink, "mark", content, sender="anna@strict.test")
    assert "dkim=fail" in results(found)
    assert "dmarc=fail" in results(found)
    assert found.field("X-Spam-Flag") is None


def test_quarantine_is_a_field_or_on_hold(server: RunningServer, sink: RecordingSink) -> None:
    found = taken(sink, "usual", message("junk.test"), sender="anna@junk.test")
    assert found.field("X-Spam-Flag") == "YES"
    found = taken(sink, "quarantine", message("strict.test"), sender="anna@strict.test")
    assert found.field("X-Spam-Flag") == "YES"
    assert send("hold", message("junk.test"), sender="anna@junk.test") == "250"
    listed = server.command("postqueue", "-j").stdout
    assert '"queue_name": "hold"' in listed
    assert sink.messages(0) == []
    assert server.command("postsuper", "-H", "ALL").returncode == 0
    assert server.command("postqueue", "-f").returncode == 0
    [released] = sink.take()
    assert "dmarc=fail" in results(released)


def test_an_override_lets_mail_pass_and_says_why(server: RunningServer, sink: RecordingSink) -> None:
    found = taken(sink, "override", message("strict.test"), sender="anna@strict.test")
    assert "dmarc=fail" in results(found)
    server.wait_for_log("strict.test asks to reject, passed: local_policy ours")


@pytest.mark.parametrize("listener", ["nothing", "no_milters", "exempt", "trusted"])
def test_who_is_not_asked_is_not_examined(sink: RecordingSink, listener: str) -> None:
    claim = "Authentication-Results: mx.here.test; dmarc=pass\r\n"
    found = taken(sink, listener, message("strict.test", more=claim), sender="anna@strict.test")
    # What the next server of ours has found stays: its mail comes from a client of ours.
    assert results(found) == "mx.here.test; dmarc=pass"


def test_what_claims_to_be_ours_is_taken_out_and_foreign_findings_stay(sink: RecordingSink) -> None:
    more = "Authentication-Results: mx.here.test; dmarc=pass\r\nAuthentication-Results: other.test; spf=pass\r\n"
    found = taken(sink, "mark", message("strict.test", more=more), sender="anna@strict.test")
    fields = [value for name, value in found.fields if name == "Authentication-Results"]
    assert len(fields) == 2
    assert "dmarc=fail" in fields[0]
    assert fields[1] == "other.test; spf=pass"


def test_spf_refuses_where_that_is_wanted(sink: RecordingSink) -> None:
    content = message("told.test")
    answer = send("spf", content, sender="anna@told.test")
    assert answer.startswith("550 5.7.23 ")
    assert "told.test explains: 127.0.0.1 is none of ours" in answer
    assert send("soft", content, sender="anna@told.test").startswith("451 4.7.23 ")
    assert send("restricted", content, sender="anna@told.test").startswith("550 5.7.23 ")
    assert "spf=softfail" in results(taken(sink, "spf", message("loose.test"), sender="anna@loose.test"))


def test_dns_that_cannot_say_is_neither_failure_nor_pass(sink: RecordingSink) -> None:
    # The name server is not responsible for that domain, and refuses the question.
    found = taken(sink, "usual", message("elsewhere.test"), sender="anna@elsewhere.test")
    assert "spf=temperror" in results(found)
    assert "dmarc=temperror" in results(found)
    assert send("spf", message("elsewhere.test"), sender="anna@elsewhere.test").startswith("451 4.7.24 ")


def test_the_null_sender_is_known_by_its_helo_name(sink: RecordingSink) -> None:
    found = taken(sink, "usual", message("good.test"), sender="", helo="good.test")
    assert "spf=pass" in results(found)
    assert "dmarc=pass" in results(found)


def test_a_large_message_has_its_findings_at_the_top_too(sink: RecordingSink) -> None:
    content = message("good.test", signed="good.test", body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 20_000)
    found = taken(sink, "usual", content, sender="anna@good.test")
    assert found.content.startswith(b"Authentication-Results: mx.here.test;")
    assert "dkim=pass" in results(found)
    assert found.content.endswith(content)


def lookup(name: bytes, timeout: int = 5) -> bytes:
    del timeout
    wanted = name.decode().rstrip(".")
    return f"v=DKIM1; k=rsa; p={PUBLIC}".encode() if wanted == "seal._domainkey.here.test" else b""


def sealed(sink: RecordingSink, listener: str, recipient: str) -> bytes:
    """What arrives of a message that DMARC proves by SPF alone, which the next hop would not."""
    assert send(listener, message("good.test"), sender="anna@good.test", recipient=recipient) == "250"
    [found] = sink.take()
    return found.content


@pytest.mark.parametrize(
    ("listener", "recipient", "seals"),
    [
        ("sealing", "bob@alias.test", True),
        ("sealing", "bob@here.test", True),  # a relay domain: another host takes its mail
        ("sealing_all", "bob@here.test", True),
        ("sealing_none", "bob@alias.test", False),
    ],
)
def test_what_is_passed_on_is_sealed_and_dkimpy_verifies_the_chain(
    sink: RecordingSink, listener: str, recipient: str, seals: bool
) -> None:
    content = sealed(sink, listener, recipient)
    assert content.startswith(b"ARC-Seal:") is seals
    outcome, _, reason = dkim.ARC(content).verify(dnsfunc=lookup)
    assert outcome == (b"pass" if seals else b"none"), reason


def test_a_trusted_sealer_vouches_for_what_dmarc_fails(server: RunningServer, sink: RecordingSink) -> None:
    content = sealed(sink, "sealing", "bob@alias.test")
    assert send("usual", content, sender="anna@loose.test").startswith("550 5.7.26 ")
    found = taken(sink, "trusting", content, sender="anna@loose.test")
    assert "dmarc=fail" in results(found)
    assert "arc=pass" in results(found)
    server.wait_for_log("good.test asks to reject, passed: trusted_forwarder here.test")
    # What was changed behind the seal is no word of the sealer's.
    changed = content.replace(b"Subject: hello", b"Subject: other")
    assert send("trusting", changed, sender="anna@loose.test").startswith("550 5.7.26 ")


def test_less_is_said_where_less_is_wanted(sink: RecordingSink) -> None:
    found = taken(sink, "quiet", message("good.test"), sender="anna@good.test", helo="strict.test")
    assert results(found).startswith("ours.test;")
    assert found.field("Received-SPF") is None
    assert "smtp.helo" not in results(found)


def test_a_crooked_helo_and_sender_make_no_line_of_their_own(sink: RecordingSink, server: RunningServer) -> None:
    with smtplib.SMTP("127.0.0.1", PORTS["usual"], timeout=60) as client:
        client.docmd("EHLO", "x;dmarc=pass")
        client.docmd("MAIL", 'FROM:<"a;\\"b dmarc=pass"@loose.test>')
        client.docmd("RCPT", "TO:<bob@here.test>")
        assert client.data(message("loose.test"))[0] == 250
    [found] = sink.take()
    lines = [line for line in server.log.splitlines() if "authentication: " in line]
    for told in (results(found), lines[-1]):
        outside_of_quotes = re.sub(r'"(?:[^"\\]|\\.)*"', '""', told)
        assert re.findall(r"(?<![.])dmarc=[a-z]*", outside_of_quotes) == ["dmarc=fail"]

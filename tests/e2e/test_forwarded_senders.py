"""Mail that aliases and .forward files send to other hosts has a sender of ours, which takes bounces back (SRS)."""

from __future__ import annotations

import json
import os
import pwd
import re
import smtplib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.requirements import require_root
from support.running import RunningServer, running_server, wait_for
from support.smtp_sink import SmtpSink, smtp_sink

SENDER = "ann@origin.test"
OURS = "=origin.test=ann@mx.test"


@contextmanager
def forwarding(**settings: str) -> Iterator[tuple[RunningServer, SmtpSink]]:
    """A server for here.test, whose mail to others goes to a sink."""
    with smtp_sink() as sink, running_server(start=False) as server:
        aliases = server.directory / "aliases"
        aliases.write_text("team: outside@far.test, \\games\nlist: member@far.test\nowner-list: boss@here.test\n")
        server.main_cf |= {
            "mydestination": "here.test",
            "myorigin": "here.test",
            "relayhost": sink.relayhost,
            "alias_maps": f"texthash:{aliases}",
            "virtual_alias_maps": "inline:{ out@here.test=outside@far.test, "
            "{both@here.test = outside@far.test discarded@inside.test} }",
            "virtual_mailbox_domains": "inside.test",
            "virtual_transport": "discard:",
            **settings,
        }
        server.write_configuration()
        yield server.start(), sink


def send(server: RunningServer, recipient: str, sender: str = SENDER, *options: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        client.ehlo()
        client.sendmail(sender, [recipient], "Subject: x\r\n\r\n", mail_options=options)


def senders(sink: SmtpSink, count: int) -> list[str]:
    return sorted(message.facts["X-Mail-Args"][0].split()[0].strip("<>") for message in sink.messages(count))


def ours(server: RunningServer, sink: SmtpSink) -> str:
    """A sender of ours, of a forwarded message."""
    send(server, "out@here.test")
    (sender,) = senders(sink, 1)
    assert sender.startswith("SRS0=")
    assert sender.endswith(OURS)
    return sender


def refusal(server: RunningServer, recipient: str, sender: str = "") -> tuple[int, str]:
    with smtplib.SMTP("127.0.0.1", server.port) as client:
        client.helo("client.test")
        client.mail(sender)
        code, text = client.rcpt(recipient)
        return code, text.decode()


def test_an_alias_at_reception_leads_outside_with_a_sender_of_ours() -> None:
    with forwarding() as (server, sink):
        sender = ours(server, sink)
        server.wait_for_log(f"forwarded to outside@far.test: leaves with the sender {sender}")
        secret = server.queue / "srs.secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.read_text().strip() not in server.log


def test_recipients_inside_keep_the_sender() -> None:
    with forwarding(virtual_transport="smtp:", mydestination="here.test") as (server, sink):
        server.main_cf["virtual_transport"] = f"smtp:{sink.relayhost}"
        server.reload()
        send(server, "both@here.test")
        inside, outside = sorted(senders(sink, 2), key=lambda each: each.startswith("SRS0"))
    assert inside == SENDER
    assert outside.endswith(OURS)


def test_an_alias_at_delivery_leads_outside_with_a_sender_of_ours() -> None:
    with forwarding(mailbox_transport="discard:") as (server, sink):
        send(server, "team@here.test")
        (sender,) = senders(sink, 1)
    assert sender.endswith(OURS)


def test_a_forward_file_leads_outside_with_a_sender_of_ours() -> None:
    require_root()
    with forwarding() as (server, sink):
        games = pwd.getpwnam("games")
        forward = server.directory / "games.forward"
        forward.write_text("outside@far.test\n")
        os.chown(forward, games.pw_uid, games.pw_gid)
        server.main_cf["forward_path"] = f"{server.directory}/$user.forward"
        server.reload()
        send(server, "games@here.test")
        (sender,) = senders(sink, 1)
    assert sender.endswith(OURS)


@pytest.mark.parametrize(
    ("recipient", "sender", "leaves_from"),
    [
        ("out@here.test", "", ""),  # notifications have no sender to rewrite
        ("out@here.test", "user@here.test", "user@here.test"),  # ours in any case
        ("out@here.test", "user@inside.test", "user@inside.test"),
        ("out@here.test", "user@friend.test", "user@friend.test"),  # srs_exclude_domains
        ("list@here.test", SENDER, "owner-list@here.test"),  # the alias has an owner
        ("any@far.test", SENDER, SENDER),  # only passed on
        ("out@here.test", f"{'v' * 50}@origin.test", f"{'v' * 50}@origin.test"),  # no room for it
    ],
)
def test_who_keeps_a_sender(recipient: str, sender: str, leaves_from: str) -> None:
    with forwarding(srs_exclude_domains="friend.test") as (server, sink):
        send(server, recipient, sender)
        assert senders(sink, 1) == [leaves_from]


def test_a_longer_local_part_if_one_wants_it() -> None:
    with forwarding(srs_local_part_limit="0") as (server, sink):
        send(server, "out@here.test", f"{'v' * 50}@origin.test")
        (sender,) = senders(sink, 1)
    assert sender.endswith(f"=origin.test={'v' * 50}@mx.test")


def test_targets_that_are_like_our_own_see_who_wrote() -> None:
    with forwarding(srs_exclude_domains="far.test") as (server, sink):
        send(server, "out@here.test")
        assert senders(sink, 1) == [SENDER]


def test_a_domain_of_its_own_and_none() -> None:
    with forwarding(srs_domain="srs.test", srs_separator="+", srs_hash_length="8") as (server, sink):
        send(server, "out@here.test")
        (sender,) = senders(sink, 1)
    assert sender.startswith("SRS0+")
    assert sender.index("=") == len("SRS0+") + 8
    assert sender.endswith("=origin.test=ann@srs.test")
    with forwarding(srs_domain="") as (server, sink):
        send(server, "out@here.test")
        assert senders(sink, 1) == [SENDER]


def test_what_another_host_has_forwarded_names_the_first_of_them() -> None:
    with forwarding() as (server, sink):
        send(server, "out@here.test", "SRS0=abcd=AB=origin.test=ann@first.test")
        (sender,) = senders(sink, 1)
    assert sender.startswith("SRS1=")
    assert sender.endswith("=first.test==abcd=AB=origin.test=ann@mx.test")


@pytest.mark.parametrize("destination", ["here.test, mx.test", "here.test"], ids=["our domain", "in no list"])
@pytest.mark.parametrize("bounce_from", ["", "reply@far.test"])
def test_a_bounce_comes_back_to_who_wrote(destination: str, bounce_from: str) -> None:
    settings = {"mydestination": destination, "mynetworks": "192.0.2.0/24"}
    with forwarding(**settings) as (server, sink):
        sender = ours(server, sink)
        # Hosts on the way may have changed its case.
        send(server, sender.lower(), bounce_from)
        server.wait_for_log(f"to=<{SENDER}>, orig_to=<{sender.lower()}>")
        came_back = [each for each in sink.messages(2) if each.facts["X-Rcpt-Args"][0].startswith(f"<{SENDER}>")]
        assert len(came_back) == 1
        named = came_back[0].facts["X-Mail-Args"][0]
        # Who answers by hand is forwarded in turn.
        assert (
            named.startswith("<SRS0=") and named.endswith("=far.test=reply@mx.test>") if bounce_from else named == "<>"
        )


def test_what_does_not_lead_back_is_refused_with_the_reason() -> None:
    with forwarding(mydestination="here.test, mx.test", mynetworks="192.0.2.0/24") as (server, sink):
        sender = ours(server, sink)
        forged = sender.replace("ann", "bob")
        assert refusal(server, forged) == (
            550,
            f"5.1.1 <{forged}>: Recipient address rejected: SRS address with a wrong hash",
        )
        assert "malformed SRS address" in refusal(server, "SRS0=x@mx.test")[1]
        # Elsewhere it is an address like any other.
        assert "Relay access denied" in refusal(server, sender.replace("mx.test", "far.test"))[1]
        # A new secret: the old one is known no more.
        (server.queue / "srs.secret").write_text("another\n")
        server.reload()
        assert refusal(server, sender)[0] == 550
        server.stop()


def test_secrets_change_without_a_restart_and_old_senders_still_lead_back() -> None:
    with forwarding(tls_certificate_check_interval="1s") as (server, sink):
        ours(server, sink)
        secret = server.queue / "srs.secret"
        newer = server.directory / "newer"
        newer.write_text(f"the new secret\n{secret.read_text()}")
        newer.replace(secret)

        def made() -> set[str]:
            send(server, "out@here.test")
            return set(re.findall(r"leaves with the sender (SRS0\S+)", server.log))

        wait_for(lambda: len(made()) > 1, "a sender that the new secret has signed")
        for sender in made():
            assert refusal(server, sender)[0] == 250


def test_without_a_secret_mail_goes_on_and_bounces_wait(tmp_path: Path) -> None:
    with forwarding(srs_secret_file=str(tmp_path / "missing"), mydestination="here.test, mx.test") as (server, sink):
        server.wait_for_log("missing: No such file or directory; forwarded mail keeps its sender")
        send(server, "out@here.test")
        assert senders(sink, 1) == [SENDER]
        assert refusal(server, f"SRS0=abcd=AB{OURS}")[0] == 451


def explained(server: RunningServer, *arguments: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in server.command("why", *arguments, "--json").stdout.splitlines()]


def test_the_path_of_a_message_tells_its_sender_and_the_reason() -> None:
    with forwarding() as (server, sink):
        sender = ours(server, sink)
        steps = explained(server, "out@here.test", "--from", SENDER)
        (step,) = [step for step in steps if step["kind"] == "sender"]
        assert f"the sender {sender}" in step["text"]
        assert step["recipient"] == "outside@far.test"
        assert step["setting"] == "srs_domain"
        steps = explained(server, "list@here.test", "--from", SENDER)
        assert any("owner-list@here.test: the sender stays" in step["text"] for step in steps)
        steps = explained(server, "team@here.test", "--from", SENDER)
        assert any(step["kind"] == "sender" and sender in step["text"] for step in steps)
        steps = explained(server, sender, "--client", "192.0.2.1")
        assert any(f"stands for {SENDER}" in step["text"] for step in steps)
        steps = explained(server, sender.replace("ann", "bob"), "--client", "192.0.2.1")
        assert steps[-1]["kind"] == "refused"

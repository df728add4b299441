"""Restriction lists: a real Postfix and Ekiden say the same to the same clients, word by word.

Each case is a listener of its own in both servers, with lists of its own.
"""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from support.peers import running_postfix
from support.running import RunningServer, free_port, open_directory

COMMON = {
    "myhostname": "mx.here.test",
    "mynetworks": "127.0.0.1/32",
    "relay_domains": "here.test",
    "relay_recipient_maps": "inline:{user@here.test=x, other@here.test=x}",
    "smtpd_peername_lookup": "no",
    "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
    "smtpd_restriction_classes": "strict, lenient",
    "strict": "reject_non_fqdn_sender, permit_mynetworks, reject",
    "lenient": "permit_auth_destination",
}
_HARD = "smtpd_relay_restrictions=permit_mynetworks,reject_unauth_destination"
# What `-o` says on each listener.
CASES = {
    "default": "",
    "hard": _HARD,
    "codes": f"{_HARD} relay_domains_reject_code=550",
    "reject-client": "smtpd_client_restrictions=permit_mynetworks,reject",
    "reject-helo": "smtpd_helo_restrictions=permit_mynetworks,reject",
    "reject-sender": "smtpd_sender_restrictions=permit_mynetworks,reject reject_code=550",
    "defer-recipient": "smtpd_recipient_restrictions=permit_mynetworks,defer",
    "defer-code": "smtpd_sender_restrictions=defer defer_code=451",
    "if-permit": "smtpd_sender_restrictions=defer_if_permit",
    "if-permit-permitted": "smtpd_client_restrictions=defer_if_permit smtpd_recipient_restrictions=permit",
    "if-reject": "smtpd_recipient_restrictions=defer_if_reject,reject",
    "if-reject-permitted": "smtpd_recipient_restrictions=defer_if_reject,permit",
    "warns": "smtpd_recipient_restrictions=warn_if_reject,reject,warn_if_reject,defer,permit",
    "warns-if-permit": "smtpd_recipient_restrictions=warn_if_reject,defer_if_permit,permit",
    "class": "smtpd_recipient_restrictions=strict",
    "class-permits": "smtpd_recipient_restrictions=lenient,reject",
    "class-warns": "smtpd_recipient_restrictions=warn_if_reject,strict,permit",
    "invalid-helo": "smtpd_helo_restrictions=reject_invalid_helo_hostname",
    "non-fqdn-helo": "smtpd_helo_restrictions=reject_non_fqdn_helo_hostname non_fqdn_reject_code=550",
    "old-helo": "smtpd_helo_restrictions=reject_invalid_hostname,reject_non_fqdn_hostname",
    "non-fqdn-sender": "smtpd_recipient_restrictions=reject_non_fqdn_sender",
    "non-fqdn-recipient": "smtpd_recipient_restrictions=reject_non_fqdn_recipient",
    "unlisted-sender": "smtpd_sender_restrictions=reject_unlisted_sender",
    "unlisted-recipient": f"{_HARD} smtpd_client_restrictions=reject_unlisted_recipient",
    "unlisted-off": f"{_HARD} smtpd_reject_unlisted_recipient=no",
    "plaintext": "smtpd_client_restrictions=reject_plaintext_session plaintext_reject_code=550",
    "unknown-client": "smtpd_client_restrictions=permit_mynetworks,reject_unknown_client_hostname",
    "own-only": "smtpd_relay_restrictions=permit_auth_destination,reject",
    "guard-in-recipient": "smtpd_relay_restrictions= "
    "smtpd_recipient_restrictions=permit_mynetworks,reject_unauth_destination",
    "relay-after": "smtpd_relay_before_recipient_restrictions=no smtpd_recipient_restrictions=defer",
    "data": "smtpd_data_restrictions=permit_mynetworks,reject",
    "upper-case": "smtpd_recipient_restrictions=PERMIT_MYNETWORKS,Reject",
    "permit-early": f"{_HARD} smtpd_client_restrictions=permit smtpd_sender_restrictions=reject",
    "sender-login-without-login": "smtpd_sender_restrictions=reject_sender_login_mismatch "
    "smtpd_sender_login_maps=static:al",
}
ADDRESSES = {case: f"127.73.0.{number}" for number, case in enumerate(CASES, 1)}


class Talk(NamedTuple):
    source: str
    helo: str
    sender: str


TALKS = [
    Talk("127.0.0.1", "client.test", "a@sender.test"),
    Talk("127.0.0.2", "client.test", "a@sender.test"),
    Talk("127.0.0.2", "short", ""),
    Talk("127.0.0.2", "-bad-.test", "a@short"),
    Talk("127.0.0.2", "[127.0.0.2]", "nobody@here.test"),
    Talk("127.0.0.2", "[127.0.0.2", "user@here.test"),
    Talk("127.0.0.2", "127.0.0.2", "a@[127.0.0.1]"),
    Talk("127.0.0.2", "12345", "a@sender.test"),
    Talk("127.0.0.2", "a_b.test.", "a@sender.test"),
]
RECIPIENTS = ("user@here.test", "nobody@here.test", "a@far.test", "a@far", "postmaster", "other@here.test")


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The port of each server, on the addresses of the cases."""
    with contextlib.ExitStack() as stack:
        found = {server: free_port(ADDRESSES["default"]) for server in ("postfix", "ekiden")}

        def lines(server: str) -> list[str]:
            return [
                f"{ADDRESSES[case]}:{found[server]} inet n - n - - smtpd "
                + " ".join(f"-o {option}" for option in options.split())
                for case, options in CASES.items()
            ]

        local = {"local_recipient_maps": "inline:{postmaster=x}", "smtpd_soft_error_limit": "1000"}
        limits = {"smtpd_hard_error_limit": "1000", "smtpd_client_connection_count_limit": "0"}
        stack.enter_context(
            running_postfix({**COMMON, **local, **limits}, next_hop="[127.0.0.1]:1", master_cf=lines("postfix"))
        )
        directory = stack.enter_context(open_directory())
        discard = {"relay_transport": "discard:", "default_transport": "discard:", "local_transport": "discard:"}
        server = RunningServer(directory, main_cf={**COMMON, **local, **limits, **discard}, master_cf=lines("ekiden"))
        stack.callback(server.close)
        server.start()
        yield found


def heard(address: str, port: int, talk: Talk) -> list[str]:
    """What a server says to MAIL, to each recipient and to DATA."""
    said = []
    with smtplib.SMTP(address, port, timeout=30, source_address=(talk.source, 0)) as client:

        def say(line: str) -> int:
            client.putcmd(line)
            code, text = client.getreply()
            said.append(f"{line}: {code} {text.decode()}")
            return code

        client.docmd("EHLO", talk.helo)
        say(f"MAIL FROM:<{talk.sender}>")
        codes = [say(f"RCPT TO:<{recipient}>") for recipient in RECIPIENTS]
        if 250 in codes:
            said.append(f"DATA: {client.docmd('DATA')[0]}")
            client.close()
    return said


@pytest.mark.parametrize("case", CASES)
def test_both_say_the_same(case: str, ports: dict[str, int]) -> None:
    with ThreadPoolExecutor(2 * len(TALKS)) as pool:
        said = {
            server: [pool.submit(heard, ADDRESSES[case], ports[server], talk) for talk in TALKS]
            for server in ("ekiden", "postfix")
        }
    for talk, ours, theirs in zip(TALKS, said["ekiden"], said["postfix"], strict=True):
        assert ours.result() == theirs.result(), talk

"""Values of old textbooks: read, kept within what is safe today, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.check import check
from ekiden.config.load import build
from ekiden.config.problem import Level, Problem
from ekiden.config.unsafe import tls_versions

# main.cf as the textbooks print it, each parameter once (requirements A7).
TEXTBOOK = """\
# main.cf
myhostname = mail.example.com
mydomain = example.com
myorigin = $mydomain
inet_interfaces = all
mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain
relayhost =
mynetworks = 127.0.0.0/8, 192.168.0.0/16
home_mailbox = Maildir/
relay_domains =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_authenticated_header = yes
smtpd_sasl_security_options = noanonymous
smtpd_sasl_local_domain = $myhostname
smtpd_tls_cert_file = /etc/ssl/certs/mail.crt
smtpd_tls_key_file = /etc/ssl/private/mail.key
smtpd_tls_security_level = may
smtp_tls_security_level = may
smtpd_tls_protocols = !SSLv2, !SSLv3
smtpd_tls_ciphers = medium
smtpd_tls_mandatory_protocols = !SSLv2, !SSLv3
smtpd_recipient_restrictions =
    permit_mynetworks,
    permit_sasl_authenticated,
    reject_unauth_destination,
    reject_rbl_client zen.spamhaus.org,
    check_policy_service unix:private/policy
smtpd_client_restrictions =
    permit_mynetworks,
    reject_unknown_client_hostname,
    reject_rbl_client zen.spamhaus.org
smtpd_helo_restrictions =
    permit_mynetworks,
    reject_invalid_helo_hostname,
    reject_non_fqdn_helo_hostname
smtpd_sender_restrictions =
    permit_mynetworks,
    reject_non_fqdn_sender,
    reject_unknown_sender_domain
content_filter = amavis:[127.0.0.1]:10024
receive_override_options = no_address_mappings
"""


def problems(main: str, master: str | None = None) -> list[Problem]:
    return check(build(Path("/c"), main, master, hostname="mx.x.y"))


def said(main: str, master: str | None = None) -> list[str]:
    return [problem.text for problem in problems(main, master)]


def test_every_line_of_the_textbooks_is_known() -> None:
    found = problems(TEXTBOOK)
    assert not [problem for problem in found if problem.level is Level.ERROR or "unknown parameter" in problem.text]
    parameters = build(Path("/c"), TEXTBOOK, None, hostname="mx.x.y").parameters
    assert parameters.mydestination == ("mail.example.com", "localhost.example.com", "localhost", "example.com")
    assert (parameters.myorigin, parameters.home_mailbox) == ("example.com", "Maildir/")
    assert parameters.mynetworks == ("127.0.0.0/8", "192.168.0.0/16")
    assert (parameters.relayhost, parameters.relay_domains) == ("", ())
    assert parameters.expanded("$smtpd_sasl_local_domain") == "mail.example.com"


def test_the_textbooks_tls_protocols_meet_the_floor() -> None:
    text = "still allows TLSv1 and TLSv1.1: TLS 1.2 is the floor, and stays it; write >=TLSv1.2"
    found = [str(problem) for problem in problems(TEXTBOOK) if "floor" in problem.text]
    assert found == [
        f"/c/main.cf:21: warning: smtpd_tls_protocols = !SSLv2, !SSLv3 {text}",
        f"/c/main.cf:23: warning: smtpd_tls_mandatory_protocols = !SSLv2, !SSLv3 {text}",
    ]


@pytest.mark.parametrize(
    ("main", "says"),
    [
        ("smtp_tls_protocols = >=TLSv1.1", "still allows TLSv1.1:"),
        ("p = >=TLSv1\nsmtpd_tls_protocols = $p", "= >=TLSv1 still allows TLSv1 and TLSv1.1"),
        ("smtpd_tls_protocols = SSLv3, TLSv1", "leaves nothing of TLS 1.2 and newer"),
        ("smtpd_tls_protocols = TLSv9", "'TLSv9' names no version of TLS"),
        ("smtpd_tls_protocols = =TLSv1.2", "'=TLSv1.2': write a version"),
        ("smtpd_tls_mandatory_ciphers = export", "the floor is medium"),
        ("smtp_tls_fingerprint_digest = md5", "can be forged"),
    ],
)
def test_unsafe_values_are_reported(main: str, says: str) -> None:
    assert [text for text in said(main) if says in text]


@pytest.mark.parametrize(
    "main",
    ["smtpd_tls_protocols = >=TLSv1.2", "smtpd_tls_protocols = TLSv1.2, TLSv1.3", "smtp_tls_ciphers = high",
     "smtpd_tls_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1", "smtpd_tls_fingerprint_digest = sha256"],
)  # fmt: skip
def test_safe_values_are_not(main: str) -> None:
    assert all("does not honour yet" in text for text in said(main))


def test_an_unsafe_value_of_one_service_has_its_line() -> None:
    master = "25 inet n - n - - smtpd\n  -o smtpd_tls_protocols=!SSLv2\n"
    assert [p for p in problems("", master) if "floor" in p.text and (p.file, p.line) == ("/c/master.cf", 1)]


@pytest.mark.parametrize(
    ("value", "versions"),
    [
        ("", ("SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")),
        ("!SSLv2:!sslv3", ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")),
        (">=TLSv1.1 <=TLSv1.2", ("TLSv1.1", "TLSv1.2")),
        ("TLSv1.0, TLSv1.3", ("TLSv1", "TLSv1.3")),
        (">=0303", ("TLSv1.2", "TLSv1.3")),
        ("TLSv1, !TLSv1", ()),
    ],
)
def test_lists_of_protocols(value: str, versions: tuple[str, ...]) -> None:
    assert tls_versions(value) == versions


MAPPINGS = "receive_override_options = no_address_mappings\n"
FRONT = "25 inet n - n - - smtpd\n"
BACK = "127.0.0.1:10025 inet n - n - - smtpd\n  -o content_filter=\n"


def test_no_address_mappings_needs_a_listener_that_resets_it() -> None:
    [told] = [p for p in problems(MAPPINGS, FRONT + BACK) if "reset it" in p.text]
    assert (told.file, told.line, told.level) == ("/c/main.cf", 1, Level.WARNING)
    assert "no mail at all is mapped" in told.text
    assert "(127.0.0.1:10025): -o receive_override_options=" in told.text
    reset = BACK + "  -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks\n"
    assert not [text for text in said(MAPPINGS, FRONT + reset) if "reset it" in text]
    kept = BACK + "  -o receive_override_options=no_address_mappings\n"
    assert [text for text in said(MAPPINGS, FRONT + kept) if "reset it" in text]
    assert not [text for text in said("", FRONT + BACK) if "reset it" in text]


def test_what_is_not_needed_says_why() -> None:
    [told] = problems("hash_queue_depth = 2\n")
    assert str(told) == (
        "/c/main.cf:1: info: hash_queue_depth is not needed: the queue is a database with an index, not a tree of files"
    )


def test_references_to_nothing_are_told() -> None:
    [told] = problems("mail_name = $nowhere${nowhere?x}\n")
    assert str(told) == (
        "/c/main.cf:1: warning: mail_name refers to $nowhere, which is nowhere defined and counts as empty"
    )
    assert problems("mail_name = ${nowhere?x}$mua_x\nmua_x = 1\n") == []
    assert build(Path("/c"), "mail_name = x$nowhere", None, hostname="h").parameters.mail_name == "x"
    # What Postfix has and Ekiden does not honour yet has Postfix's default.
    assert build(Path("/c"), "mail_name = $milter_default_action", None).parameters.mail_name == "shutdown"

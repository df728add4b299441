"""The restriction language: what lists decide for whom, and what is said to the client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ekiden.auth.verdict import DmarcVerdict, Result, SpfVerdict, Verdicts
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import Mx
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal, reply
from ekiden.message.tls_facts import TlsFacts
from ekiden.policy.access_rules import AccessRules, Decision, access_lists, passed_over
from ekiden.policy.relay_guard import is_guarded
from ekiden.policy.restriction_names import ALL_NAMES, HONOURED, NOT_YET, NOT_YET_WITH_ARGUMENT
from ekiden.policy.restriction_parser import parse_restrictions
from ekiden.policy.restrictions import _RESTRICTIONS, Evaluation, Facilities, Situation, Stage
from ekiden.policy.sender_login import SenderLogins
from ekiden.policy.unknown_domains import MailDomains
from ekiden.tables.open import open_tables
from support.fake_resolver import SERVFAIL, FakeResolver
from support.honours import honours

STRANGER = Client(name="client.example", address="192.0.2.1", helo="client.example")
BOB = Client(name="client.example", address="192.0.2.1", helo="client.example", login="Bob", login_method="PLAIN")
HERE, FAR = Address("user", "here.example"), Address("user", "far.example")
NOBODY = Address("nobody", "here.example")
SENDER = Address("bob", "sender.example")
OPEN = {"smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination"}


ZONE: dict[tuple[str, str], object] = {
    ("MX", "sender.example"): [Mx(10, "mx.sender.example")],
    ("A", "client.example"): ["192.0.2.1"],
    ("MX", "null.example"): [Mx(0, "")],
    ("MX", "trouble.example"): SERVFAIL,
}


class Destinations:
    def lasts(self, address: Address) -> bool:
        return False

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        return address.domain == "here.example"

    async def check_recipient(self, address: Address) -> Refusal | None:
        if address.local == "nobody":
            text = f"<{address}>: Recipient address rejected: User unknown"
            return Refusal(reply(550, "5.1.1", text), "unknown-user")
        return None


async def is_local(domain: str) -> bool:
    return domain == "here.example"


def facilities(parameters: Parameters, certificates: str = "") -> Facilities:
    maps = open_tables(parameters.smtpd_sender_login_maps, parameters=parameters)
    logins = SenderLogins(maps, delimiter="+", is_local=is_local)
    domains = MailDomains(FakeResolver(ZONE), Destinations().is_relay_allowed_destination)
    return Facilities(parameters, Destinations(), logins, open_tables(certificates.split()), domains=domains)


def rules(certificates: str = "", /, **settings: str) -> AccessRules:
    parameters = Parameters({**OPEN, **settings})
    found = facilities(parameters, certificates)
    return AccessRules(access_lists(parameters), found, reject_unlisted_recipient=True)


def at_rcpt(recipient: Address = HERE, /, **options: Any) -> Decision:
    """What is decided of a client, sender, is_trusted; certificates; everything else is a setting."""
    client, sender = options.pop("client", STRANGER), options.pop("sender", SENDER)
    situation = Situation(client, options.pop("is_trusted", False), sender, recipient)
    return asyncio.run(rules(options.pop("certificates", ""), **options).recipient(situation))


def text(decision: Decision) -> str:
    return decision.refusal.reply.text if decision.refusal is not None else ""


def test_each_name_is_in_one_list_and_each_honoured_one_has_its_function() -> None:
    assert _RESTRICTIONS.keys() | {"warn_if_reject"} == HONOURED
    assert len(HONOURED | NOT_YET | NOT_YET_WITH_ARGUMENT) == len(HONOURED) + len(NOT_YET) + len(NOT_YET_WITH_ARGUMENT)


# What lists say.


@honours("smtpd_relay_restrictions")
def test_relaying_is_for_those_whom_the_list_permits() -> None:
    assert text(at_rcpt(FAR)) == "554 5.7.1 <user@far.example>: Relay access denied"
    assert text(at_rcpt(FAR, is_trusted=True)) == ""
    assert text(at_rcpt(FAR, client=BOB)) == ""
    assert text(at_rcpt(HERE)) == ""
    default = Parameters().smtpd_relay_restrictions
    assert default == ("permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination")
    assert text(at_rcpt(FAR, smtpd_relay_restrictions=", ".join(default))) == (
        "554 5.7.1 <user@far.example>: Relay access denied"
    )
    strict = {"smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination"}
    assert text(at_rcpt(FAR, client=BOB, **strict)) == "554 5.7.1 <user@far.example>: Relay access denied"
    soft = {"smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"}
    assert text(at_rcpt(FAR, **soft)) == "454 4.7.1 <user@far.example>: Relay access denied"


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("smtpd_client_restrictions", "<client.example[192.0.2.1]>: Client host rejected"),
        ("smtpd_helo_restrictions", "<client.example>: Helo command rejected"),
        ("smtpd_sender_restrictions", "<bob@sender.example>: Sender address rejected"),
        ("smtpd_recipient_restrictions", "<user@here.example>: Recipient address rejected"),
    ],
)
@honours(
    "smtpd_client_restrictions",
    "smtpd_helo_restrictions",
    "smtpd_sender_restrictions",
    "smtpd_recipient_restrictions",
    "reject_code",
    "defer_code",
)
def test_each_list_names_what_it_is_about(name: str, about: str) -> None:
    assert text(at_rcpt(**{name: "reject"})) == f"554 5.7.1 {about}: Access denied"
    assert text(at_rcpt(**{name: "reject"}, reject_code="450")) == f"450 4.7.1 {about}: Access denied"
    assert text(at_rcpt(**{name: "defer"})) == f"450 4.3.2 {about}: Try again later"
    assert text(at_rcpt(**{name: "defer"}, defer_code="451")) == f"451 4.3.2 {about}: Try again later"
    assert text(at_rcpt(**{name: "permit_mynetworks, reject"}, is_trusted=True)) == ""
    assert at_rcpt(**{name: "permit_mynetworks, reject"}).by == f"{name}: reject"


@honours("smtpd_data_restrictions", "smtpd_end_of_data_restrictions")
def test_the_content_has_lists_of_its_own() -> None:
    situation = Situation(STRANGER, False, SENDER, HERE)
    made = rules(smtpd_data_restrictions="permit_mynetworks, reject", smtpd_end_of_data_restrictions="defer")
    assert text(asyncio.run(made.data(situation))) == "554 5.7.1 <DATA>: Data command rejected: Access denied"
    refusal = "450 4.3.2 <END-OF-MESSAGE>: End-of-data rejected: Try again later"
    assert text(asyncio.run(made.end_of_data(situation))) == refusal
    assert text(asyncio.run(made.data(Situation(STRANGER, True, SENDER, HERE)))) == ""
    assert text(asyncio.run(made.recipient(situation))) == ""


@honours("smtpd_relay_before_recipient_restrictions")
def test_which_of_two_lists_comes_first_can_be_chosen() -> None:
    lists = {"smtpd_recipient_restrictions": "defer"}
    assert text(at_rcpt(FAR, **lists)).startswith("554 5.7.1 ")
    assert text(at_rcpt(FAR, **lists, smtpd_relay_before_recipient_restrictions="no")).startswith("450 4.3.2 ")


@honours("smtpd_restriction_classes")
def test_a_class_stands_for_its_list() -> None:
    classes = {"smtpd_restriction_classes": "ours, inner", "ours": "inner, reject", "inner": "permit_mynetworks"}
    assert text(at_rcpt(**classes, smtpd_recipient_restrictions="ours")).startswith("554 5.7.1 ")
    assert text(at_rcpt(**classes, smtpd_recipient_restrictions="ours, reject", is_trusted=True)) == ""
    with pytest.raises(ConfigError, match="smtpd_restriction_classes: ours is named, but not defined"):
        rules(smtpd_restriction_classes="ours")
    with pytest.raises(ConfigError, match="names itself"):
        rules(smtpd_restriction_classes="ours", ours="ours", smtpd_recipient_restrictions="ours")


def test_warn_if_reject_says_what_it_would_have_refused_and_goes_on() -> None:
    decision = at_rcpt(smtpd_recipient_restrictions="warn_if_reject reject, warn_if_reject permit_mynetworks, defer")
    assert [warning.reply.code for warning in decision.warnings] == [554]
    assert text(decision).startswith("450 ")
    classes = {"smtpd_restriction_classes": "ours", "ours": "defer_if_permit, reject"}
    decision = at_rcpt(smtpd_recipient_restrictions="warn_if_reject, ours", **classes)
    assert [warning.reply.code for warning in decision.warnings] == [450, 554]
    assert decision.refusal is None


def test_what_wants_to_be_deferred_is_so_when_it_would_be_permitted_or_refused() -> None:
    permit = at_rcpt(smtpd_sender_restrictions="defer_if_permit", smtpd_recipient_restrictions="permit")
    assert text(permit) == "450 4.7.0 <bob@sender.example>: Sender address rejected: defer_if_permit requested"
    assert text(at_rcpt(FAR, smtpd_sender_restrictions="defer_if_permit")).startswith("554 5.7.1 ")
    refused = at_rcpt(smtpd_recipient_restrictions="defer_if_reject, reject")
    assert text(refused) == "450 4.7.0 <user@here.example>: Recipient address rejected: defer_if_reject requested"
    assert text(at_rcpt(smtpd_recipient_restrictions="defer_if_reject, permit")) == ""


# Restrictions, one by one.


def test_clients_with_certificates_are_permitted_by_fingerprint_or_authority() -> None:
    facts = TlsFacts("TLSv1.3", "x", fingerprint="AA:BB", key_fingerprint="CC:DD")
    guest = Client(address="192.0.2.1", tls=facts)
    by_print = {"smtpd_relay_restrictions": "permit_tls_clientcerts, reject_unauth_destination"}
    by_authority = {"smtpd_relay_restrictions": "permit_tls_all_clientcerts, reject_unauth_destination"}
    assert text(at_rcpt(FAR, client=guest, certificates="inline:{AA:BB=x}", **by_print)) == ""
    assert text(at_rcpt(FAR, client=guest, certificates="inline:{CC:DD=x}", **by_print)) == ""
    assert text(at_rcpt(FAR, client=guest, certificates="inline:{EE:FF=x}", **by_print)).startswith("554 ")
    assert text(at_rcpt(FAR, certificates="static:x", **by_print)).startswith("554 ")
    assert text(at_rcpt(FAR, client=guest, **by_authority)).startswith("554 ")
    trusted = Client(address="192.0.2.1", tls=TlsFacts("TLSv1.3", "x", fingerprint="AA:BB", trusted=True))
    assert text(at_rcpt(FAR, client=trusted, **by_authority)) == ""
    without = Client(address="192.0.2.1", tls=TlsFacts("TLSv1.3", "x", trusted=True))
    assert text(at_rcpt(FAR, client=without, certificates="static:x", **by_authority)).startswith("554 ")


def test_own_destinations_are_permitted() -> None:
    assert text(at_rcpt(smtpd_recipient_restrictions="permit_auth_destination, reject")) == ""
    only = {"smtpd_relay_restrictions": "permit_auth_destination, reject"}
    assert text(at_rcpt(FAR, **only)).startswith("554 5.7.1 <user@far.example>: Recipient address rejected")


def test_recipients_and_senders_that_do_not_exist_are_refused() -> None:
    unknown = "550 5.1.1 <nobody@here.example>: Recipient address rejected: User unknown"
    assert text(at_rcpt(NOBODY)) == unknown
    assert text(at_rcpt(NOBODY, smtpd_recipient_restrictions="permit")) == unknown
    listed = at_rcpt(NOBODY, smtpd_recipient_restrictions="check_recipient_maps, permit")
    assert listed.by == "smtpd_recipient_restrictions: reject_unlisted_recipient"
    sender = at_rcpt(sender=NOBODY, smtpd_sender_restrictions="reject_unlisted_sender")
    assert text(sender) == "550 5.1.0 <nobody@here.example>: Sender address rejected: User unknown"
    assert text(at_rcpt(sender=NOBODY)) == ""
    assert text(at_rcpt(sender=NOBODY, smtpd_reject_unlisted_sender="yes")) == text(sender)


@honours("smtpd_sender_login_maps")
def test_senders_belong_to_their_logins() -> None:
    maps = {
        "smtpd_sender_login_maps": "inline:{{bob@sender.example = BOB, al} {@shared.example = bob al}}, "
        "inline:{eve@x.example=eve}"
    }
    eve, shared, free = Address("eve", "x.example"), Address("info", "shared.example"), Address("a", "free.example")
    extended = Address("bob+list", "sender.example")

    def refused(restriction: str, client: Client, sender: Address) -> str:
        login = {"smtpd_sasl_auth_enable": "yes"}
        return text(at_rcpt(client=client, sender=sender, smtpd_sender_restrictions=restriction, **maps, **login))

    not_owned = "553 5.7.1 <{}>: Sender address rejected: not owned by user Bob"
    not_logged_in = "553 5.7.1 <{}>: Sender address rejected: not logged in"
    for restriction in ("reject_sender_login_mismatch", "reject_authenticated_sender_login_mismatch"):
        assert refused(restriction, BOB, SENDER) == ""
        assert refused(restriction, BOB, extended) == ""
        assert refused(restriction, BOB, shared) == ""
        assert refused(restriction, BOB, NULL_SENDER) == ""
        assert refused(restriction, BOB, eve) == not_owned.format(eve)
        assert refused(restriction, BOB, free) == not_owned.format(free)
    for restriction in ("reject_sender_login_mismatch", "reject_unauthenticated_sender_login_mismatch"):
        assert refused(restriction, STRANGER, eve) == not_logged_in.format(eve)
        assert refused(restriction, STRANGER, free) == ""
        assert refused(restriction, STRANGER, NULL_SENDER) == ""
    assert refused("reject_authenticated_sender_login_mismatch", STRANGER, eve) == ""
    assert refused("reject_unauthenticated_sender_login_mismatch", BOB, eve) == ""
    # Where nobody can log in, nobody is expected to.
    assert text(at_rcpt(sender=eve, smtpd_sender_restrictions="reject_sender_login_mismatch", **maps)) == ""
    known = "reject_known_sender_login_mismatch"
    assert refused(known, BOB, free) == ""
    assert refused(known, BOB, eve) == not_owned.format(eve)
    assert refused(known, STRANGER, eve) == not_logged_in.format(eve)


@honours("plaintext_reject_code")
def test_a_session_without_tls_can_be_refused() -> None:
    plain = {"smtpd_client_restrictions": "reject_plaintext_session"}
    assert text(at_rcpt(**plain)) == "450 4.7.1 Session encryption is required"
    assert text(at_rcpt(**plain, plaintext_reject_code="550")) == "550 5.7.1 Session encryption is required"
    assert text(at_rcpt(client=Client(tls=TlsFacts("TLSv1.3", "x")), **plain)) == ""


@honours("unknown_client_reject_code")
def test_a_client_without_a_name_can_be_refused() -> None:
    unnamed = Client(address="192.0.2.1")
    refusal = "4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]"
    for word in ("reject_unknown_client_hostname", "reject_unknown_client"):
        assert text(at_rcpt(client=unnamed, smtpd_client_restrictions=word)) == f"450 {refusal}"
        assert text(at_rcpt(smtpd_client_restrictions=word)) == ""
    hard = at_rcpt(client=unnamed, smtpd_client_restrictions="reject_unknown_client", unknown_client_reject_code="550")
    assert text(hard).startswith("550 5.7.25 ")


@pytest.mark.parametrize(
    ("name", "valid", "whole"),
    [
        ("client.example", True, True),
        ("client.example.", True, True),
        ("client", True, False),
        ("a_b.example", True, True),
        ("1.2.3.4", True, False),
        ("-a.example", False, False),
        ("a..example", False, False),
        ("a?b.example", False, False),
        ("12345", False, False),
        ("x" * 64 + ".example", False, False),
        ("[192.0.2.1]", True, True),
        ("[IPv6:2001:db8::1]", True, True),
    ],
)
@honours("invalid_hostname_reject_code", "non_fqdn_reject_code")
def test_helo_names_can_be_judged(name: str, valid: bool, whole: bool) -> None:
    client = Client(helo=name)
    invalid = at_rcpt(client=client, smtpd_helo_restrictions="reject_invalid_helo_hostname")
    assert text(invalid) == ("" if valid else f"501 5.5.2 <{name}>: Helo command rejected: Invalid name")
    short = at_rcpt(client=client, smtpd_recipient_restrictions="reject_non_fqdn_hostname")
    assert text(short) == ("" if whole else f"504 5.5.2 <{name}>: Helo command rejected: need fully-qualified hostname")
    codes = {"invalid_hostname_reject_code": "450", "non_fqdn_reject_code": "451"}
    soft = at_rcpt(client=client, smtpd_helo_restrictions="reject_invalid_hostname reject_non_fqdn_hostname", **codes)
    assert text(soft)[:10] == ("" if whole else "451 4.5.2 <" if valid else "450 4.5.2 <")[:10]


@pytest.mark.parametrize("name", ["[::]", "[ipv6::::]", "[192.0.2.1", "[]", "[a.example]", "[IPv6:192.0.2.1]"])
def test_address_literals_must_be_some(name: str) -> None:
    for word in ("reject_invalid_helo_hostname", "reject_non_fqdn_helo_hostname"):
        decision = at_rcpt(client=Client(helo=name), smtpd_helo_restrictions=word)
        assert text(decision) == f"501 5.5.2 <{name}>: Helo command rejected: invalid ip address"


def test_addresses_must_have_whole_domains_where_that_is_wanted() -> None:
    lists = {"smtpd_sender_restrictions": "reject_non_fqdn_sender"}
    refusal = "504 5.5.2 <a@short>: Sender address rejected: need fully-qualified address"
    assert text(at_rcpt(sender=Address("a", "short"), **lists)) == refusal
    assert text(at_rcpt(sender=Address("a"), **lists)).startswith("504 5.5.2 ")
    for sender in (NULL_SENDER, SENDER, Address("a", "[192.0.2.1]"), Address("a", "例え.jp")):
        assert text(at_rcpt(sender=sender, **lists)) == ""
    lists = {"smtpd_recipient_restrictions": "reject_non_fqdn_recipient"}
    refusal = "504 5.5.2 <a@short>: Recipient address rejected: need fully-qualified address"
    assert text(at_rcpt(Address("a", "short"), is_trusted=True, **lists)) == refusal
    assert text(at_rcpt(Address("Postmaster"), is_trusted=True, **lists)) == ""


def test_a_restriction_without_its_facts_decides_nothing() -> None:
    """All lists may hold all restrictions: at DATA of a message for many there is no recipient to judge."""
    parameters = Parameters(OPEN)
    nothing = Situation(Client(), False)
    for name in sorted(
        HONOURED - {"warn_if_reject", "reject", "defer", "permit", "defer_if_permit", "defer_if_reject"}
    ):

        async def run(name: str = name) -> object:
            evaluation = Evaluation(facilities(parameters), nothing)
            return await evaluation.run(parse_restrictions("smtpd_data_restrictions", [name]), Stage.DATA)

        outcome = asyncio.run(run())
        expected = name in ("reject_plaintext_session", "reject_unknown_client_hostname")
        assert isinstance(outcome, Refusal) is expected, name


# What can be written, and what cannot.


def test_what_is_not_there_yet_is_passed_over_and_told() -> None:
    words = (
        "reject_rbl_client zen.example, permit_inet_interfaces, check_policy_service { inet:127.0.0.1:1, timeout=1 }, "
        "CHECK_CLIENT_ACCESS hash:/x, hash:/y, sleep 5, Permit_MyNetworks, reject"
    )
    parameters = Parameters({**OPEN, "smtpd_recipient_restrictions": words})
    assert list(passed_over(parameters)) == [
        ("smtpd_recipient_restrictions", written)
        for written in (
            "reject_rbl_client zen.example",
            "permit_inet_interfaces",
            "check_policy_service { inet:127.0.0.1:1, timeout=1 }",
            "check_client_access hash:/x",
            "hash:/y",
            "sleep 5",
        )
    ]
    assert access_lists(parameters).names_of("smtpd_recipient_restrictions") == ["permit_mynetworks", "reject"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("reject_unauth_destinations", "did you mean reject_unauth_destination"),
        ("permit_mynetwork", "did you mean permit_mynetworks"),
        ("xyzzy", "there is no restriction 'xyzzy'"),
        ("reject_rbl_client", "lacks its argument"),
        ("check_relay_domains", "no longer there"),
    ],
)
def test_what_is_no_restriction_is_an_error(words: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"^smtpd_recipient_restrictions: ") as caught:
        rules(smtpd_recipient_restrictions=words)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("relay", "recipient", "guarded"),
    [
        ("permit_mynetworks, reject_unauth_destination", "", True),
        ("permit_mynetworks, defer_unauth_destination", "", True),
        ("", "permit_mynetworks, permit_sasl_authenticated, reject", True),
        ("", "permit_sasl_authenticated, defer", True),
        ("", "defer_if_permit", True),
        ("permit", "reject_unauth_destination", True),
        ("", "", False),
        ("permit", "", False),
        ("permit, reject", "", False),
        ("permit_mynetworks", "permit_mynetworks", False),
        ("permit_mynetworks, reject_unlisted_recipient", "", False),
        ("warn_if_reject reject_unauth_destination", "", False),
        ("warn_if_reject ours", "", False),
        ("ours", "", True),
        ("theirs, reject", "permit", False),
        ("reject_plaintext_session, reject_non_fqdn_sender", "defer_if_reject", False),
        ("reject_rbl_client zen.example", "", False),
    ],
)
def test_no_list_makes_an_open_relay(relay: str, recipient: str, guarded: bool) -> None:
    settings = {
        "smtpd_relay_restrictions": relay,
        "smtpd_recipient_restrictions": recipient,
        "smtpd_restriction_classes": "ours, theirs",
        "ours": "permit_mynetworks, reject_unauth_destination",
        "theirs": "permit",
    }
    if guarded:
        lists = access_lists(Parameters(settings))
        assert is_guarded(*(found.restrictions for found in lists.by_name.values()))
        assert text(at_rcpt(FAR, **settings)) != ""
    else:
        with pytest.raises(
            ConfigError, match=r"^smtpd_relay_restrictions: neither it nor smtpd_recipient_restrictions"
        ):
            access_lists(Parameters(settings))


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, True),
        ({"smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination"}, True),
        ({"smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination"}, False),
        ({"smtpd_relay_restrictions": "permit_mynetworks, reject"}, False),
        ({"smtpd_recipient_restrictions": "reject_non_fqdn_recipient"}, False),
        ({"smtpd_recipient_restrictions": "reject_rbl_client zen.example"}, True),
        ({"smtpd_data_restrictions": "reject_unauth_pipelining"}, True),
    ],
)
def test_the_usual_lists_need_no_walk(settings: dict[str, str], plain: bool) -> None:
    assert access_lists(Parameters(settings)).is_plain is plain


def test_every_known_name_can_be_parsed() -> None:
    for name in ALL_NAMES - {"check_relay_domains", "permit_naked_ip_address", "reject_maps_rbl"}:
        parse_restrictions("x", [name, "argument"] if name in NOT_YET_WITH_ARGUMENT else [name])


def test_postmaster_is_open_to_everybody() -> None:
    """RFC 5321 §4.5.1"""
    assert text(at_rcpt(Address("PostMaster"), smtpd_client_restrictions="reject")) == ""
    assert text(at_rcpt(Address("postmaster", "far.example"), smtpd_client_restrictions="reject")) != ""


@honours("unknown_address_reject_code", "unknown_hostname_reject_code")
def test_domains_that_dns_does_not_have_can_be_refused() -> None:
    senders = {"smtpd_sender_restrictions": "reject_unknown_sender_domain"}
    unknown = "4.1.8 <a@none.example>: Sender address rejected: Domain not found"
    assert text(at_rcpt(sender=Address("a", "none.example"), **senders)) == f"450 {unknown}"
    hard = at_rcpt(sender=Address("a", "none.example"), **senders, unknown_address_reject_code="550")
    assert text(hard) == f"550 5{unknown[1:]}"
    for domain in ("sender.example", "client.example", "here.example", "[192.0.2.1]"):
        assert text(at_rcpt(sender=Address("a", domain), **senders)) == ""
    assert text(at_rcpt(sender=NULL_SENDER, **senders)) == ""
    null = "<a@null.example>: {} address rejected: Domain null.example does not accept mail (nullMX)"  # RFC 7505
    assert text(at_rcpt(sender=Address("a", "null.example"), **senders)) == f"550 5.7.27 {null.format('Sender')}"
    recipients = {"smtpd_recipient_restrictions": "reject_unknown_recipient_domain", "is_trusted": True}
    assert text(at_rcpt(Address("a", "none.example"), **recipients)).startswith("450 4.1.2 <a@none.example>: Recipient")
    assert text(at_rcpt(Address("a", "null.example"), **recipients)) == f"556 5.1.10 {null.format('Recipient')}"
    names = {"smtpd_helo_restrictions": "reject_unknown_hostname"}
    for helo in ("none.example", "192.0.2.1", "a..b"):
        refusal = f"4.7.1 <{helo}>: Helo command rejected: Host not found"
        assert text(at_rcpt(client=Client(helo=helo), **names)) == f"450 {refusal}"
    hard = at_rcpt(client=Client(helo="none.example"), **names, unknown_hostname_reject_code="550")
    assert text(hard).startswith("550 5.7.1 ")
    for helo in ("client.example", "sender.example", "null.example", "[192.0.2.1]", ""):
        assert text(at_rcpt(client=Client(helo=helo), **names)) == ""


def test_what_dns_cannot_say_now_is_deferred_only_when_nothing_else_refuses() -> None:
    sender = Address("a", "trouble.example")
    lists = {"smtpd_sender_restrictions": "reject_unknown_sender_domain"}
    assert (
        text(at_rcpt(sender=sender, **lists))
        == "450 4.1.8 <a@trouble.example>: Sender address rejected: Domain not found"
    )
    assert text(at_rcpt(FAR, sender=sender, **lists)).startswith("554 5.7.1 ")
    warned = at_rcpt(sender=sender, smtpd_sender_restrictions="warn_if_reject reject_unknown_sender_domain")
    assert (text(warned), len(warned.warnings)) == ("", 1)
    helo = at_rcpt(client=Client(helo="trouble.example"), smtpd_helo_restrictions="reject_unknown_helo_hostname")
    assert text(helo) == "450 4.7.1 <trouble.example>: Helo command rejected: Host not found"


def at_end_of_data(verdicts: Verdicts, restriction: str) -> str:
    situation = Situation(STRANGER, False, SENDER, HERE, verdicts)
    return text(asyncio.run(rules(smtpd_end_of_data_restrictions=restriction).end_of_data(situation)))


@pytest.mark.parametrize(
    ("restriction", "verdicts", "answer"),
    [
        ("reject_spf_fail", Verdicts(), ""),
        ("reject_spf_fail", Verdicts(spf=SpfVerdict(Result.PASS, domain="x.example")), ""),
        ("reject_spf_fail", Verdicts(spf=SpfVerdict(Result.SOFTFAIL, domain="x.example")), ""),
        (
            "reject_spf_fail",
            Verdicts(spf=SpfVerdict(Result.FAIL, domain="x.example")),
            "550 5.7.23 x.example: SPF fails",
        ),
        (
            "reject_spf_fail",
            Verdicts(spf=SpfVerdict(Result.TEMPERROR, domain="x.example")),
            "451 4.7.24 x.example: SPF cannot be checked now",
        ),
        ("reject_dmarc_fail", Verdicts(), ""),
        ("reject_dmarc_fail", Verdicts(dmarc=DmarcVerdict(Result.NONE, "x.example")), ""),
        (
            "reject_dmarc_fail",
            Verdicts(dmarc=DmarcVerdict(Result.FAIL, "x.example")),
            "550 5.7.26 x.example: DMARC fails",
        ),
        (
            "reject_dmarc_fail",
            Verdicts(dmarc=DmarcVerdict(Result.TEMPERROR, "x.example")),
            "451 4.7.26 x.example: DMARC cannot be checked now",
        ),
    ],
)
def test_what_was_found_in_the_content_can_be_refused(restriction: str, verdicts: Verdicts, answer: str) -> None:
    assert at_end_of_data(verdicts, restriction) == answer


def test_what_only_the_content_tells_is_asked_for_nowhere_else() -> None:
    for settings in (
        {"smtpd_recipient_restrictions": "reject_spf_fail"},
        {"smtpd_data_restrictions": "ours", "smtpd_restriction_classes": "ours", "ours": "reject_dmarc_fail"},
    ):
        with pytest.raises(ConfigError, match=r"can only stand in smtpd_end_of_data_restrictions"):
            access_lists(Parameters({**OPEN, **settings}))

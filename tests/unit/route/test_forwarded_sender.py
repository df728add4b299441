"""Who keeps a sender when mail is forwarded, who gets one of ours, and what each is told as the reason."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.cleanup.address_rewriting import local_rewriting
from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.way import INTERNAL
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.envelope import Recipient
from ekiden.policy.relay_access import RelayAccess
from ekiden.policy.srs_addresses import SrsAddresses
from ekiden.route.forwarded_sender import ForwardedSenders, Leaving
from ekiden.route.resolve import Router
from ekiden.tables.open import open_table
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import KeyFiles

SECRET_FILE = "/etc/ekiden/srs.secret"
BASE = {
    "myhostname": "mx.here.test",
    "mydestination": "here.test",
    "virtual_mailbox_domains": "virtual.test",
    "relay_domains": "relay.test",
    "srs_secret_file": SECRET_FILE,
    "srs_exclude_domains": ".friend.test",
}
NOW = 20_000 * 86400.0


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


class Host:
    def __init__(self, **settings: str) -> None:
        self.parameters = Parameters({**BASE, **settings})
        self.files = KeyFiles({SECRET_FILE: b"secret\n"})
        self.srs = SrsAddresses(self.parameters, lambda: self.files, lambda: NOW)
        self.router = Router(
            self.parameters, user_exists=lambda name: name == "jane", local_aliases=NoAliases(), srs=self.srs
        )
        self.senders = ForwardedSenders(
            self.parameters,
            self.srs,
            self.router.class_of,
            open_table,
            complete=local_rewriting(self.parameters).address,
        )

    def leaving(self, sender: str, to: str = "out@far.test", original: str = "user@here.test") -> Leaving:
        recipient = Recipient(address(to), address(original) if original else None)
        return asyncio.run(self.senders.leaving(recipient, address(sender)))

    def cleaned(self, to: str) -> Recipient:
        cleanup = Cleanup(self.parameters, is_local=self.router.is_local, srs=self.srs)
        found = asyncio.run(cleanup.envelope(Address("", ""), [Recipient(address(to))], INTERNAL))
        return found.recipients[0]  # type: ignore[union-attr]

    def rcpt(self, to: str) -> str:
        found = asyncio.run(self.router.check_recipient(address(to)))
        return "" if found is None else f"{found.reply.text} [{found.reason}]"

    def is_open_to(self, to: str) -> bool:
        return asyncio.run(self.router.is_relay_allowed_destination(address(to)))


class NoAliases:
    async def lookup(self, key: str) -> list[str] | None:
        return None


def test_forwarded_mail_of_others_gets_a_sender_of_ours() -> None:
    leaving = Host().leaving("ann@origin.test")
    assert str(leaving.sender).startswith("SRS0=")
    assert str(leaving.sender).endswith("=origin.test=ann@mx.here.test")
    assert leaving.setting == "srs_domain"


@pytest.mark.parametrize(
    ("sender", "to", "original", "reason"),
    [
        ("ann@origin.test", "out@far.test", "", ""),  # nobody forwarded it
        ("ann@origin.test", "out@far.test", "out@far.test", ""),
        ("ann@origin.test", "jane@here.test", "team@here.test", ""),  # stays inside
        ("ann@origin.test", "user@relay.test", "team@here.test", ""),
        ("ann@origin.test", "out@far.test", "out@FAR.example", ""),  # only another name for those outside
        ("@", "out@far.test", "user@here.test", "the null sender stays"),
        ("jane@here.test", "out@far.test", "user@here.test", "the sender stays: here.test is a domain of this host"),
        ("x@relay.test", "out@far.test", "user@here.test", "the sender stays: relay.test is a domain of this host"),
        ("jane@mx.here.test", "out@far.test", "user@here.test",
         "the sender stays: mx.here.test is a domain of this host"),
        ("ann@a.friend.test", "out@far.test", "user@here.test",
         "the sender stays: a.friend.test is excluded from SRS"),
        ("ann@origin.test", "out@a.friend.test", "user@here.test",
         "the sender stays: a.friend.test is excluded from SRS"),
        (f"{'v' * 60}@origin.test", "out@far.test", "user@here.test",
         "the sender stays: local part would be too long (85 octets, the limit is 64)"),
    ],
)  # fmt: skip
def test_who_keeps_a_sender(sender: str, to: str, original: str, reason: str) -> None:
    leaving = Host().leaving(sender, to, original)
    assert leaving.sender == address(sender)
    assert leaving.reason == reason


def test_an_address_that_was_only_completed_is_not_forwarded() -> None:
    host = Host(myorigin="far.test")
    assert host.leaving("ann@origin.test", to="root@far.test", original="root@").reason == ""
    assert host.leaving("ann@origin.test", to="user@host", original="host!user@").reason == ""
    # What an alias made of it is: the address that came was one of this host.
    host = Host(myorigin="here.test")
    assert host.leaving("ann@origin.test", to="out@far.test", original="root@").reason != ""


def test_a_bounce_that_was_answered_by_hand_is_forwarded_in_turn() -> None:
    host = Host()
    back = str(host.leaving("ann@origin.test").sender)
    assert str(host.leaving("bob@far.test", "ann@origin.test", back).sender).endswith("=far.test=bob@mx.here.test")


def test_what_comes_back_is_taken_for_who_is_behind_it() -> None:
    host = Host()
    back = str(host.leaving("ann@origin.test").sender)
    # srs_domain is in no list of domains, and still nobody is denied to send a bounce there.
    assert host.is_open_to(back)
    assert host.rcpt(back) == ""
    assert host.cleaned(back) == Recipient(address("ann@origin.test"), address(back))
    forged = back.replace("ann", "bob")
    assert not host.is_open_to(forged)
    wrong = "Recipient address rejected: SRS address with a wrong hash [srs-forged]"
    assert host.rcpt(forged) == f"550 5.1.1 <{forged}>: {wrong}"
    assert host.cleaned(forged) == Recipient(address(forged))
    # A percent sign in it asks for no way through other hosts.
    back = str(host.leaving("ann%x@origin.test").sender)
    assert host.is_open_to(back)


def test_old_senders_are_told_that_they_are() -> None:
    host = Host()
    host.srs._time = lambda: NOW - 30 * 86400
    back = str(host.leaving("ann@origin.test").sender)
    access = RelayAccess(host.router)
    assert asyncio.run(access.check(address(back), trusted=False)) is None
    assert not access.is_open(address(back))
    host.srs._time = lambda: NOW
    assert host.rcpt(back).endswith("SRS address has expired (30 days old, the limit is 21) [srs-expired]")


def test_addresses_of_another_program_are_its_maps_matter() -> None:
    theirs = "SRS0=abcd=AB=x.test=user@mx.here.test"
    settings = {"mydestination": "here.test, mx.here.test"}
    assert "wrong hash" in Host(**settings).rcpt(theirs)
    known = Host(**settings, recipient_canonical_maps="static:user@x.test")
    assert known.rcpt(theirs) == ""
    assert known.cleaned(theirs).address == address("user@x.test")
    off = Host(**settings, srs_domain="")
    assert off.rcpt(theirs).endswith("User unknown in local recipient table [unknown-user]")
    assert off.leaving("ann@origin.test").sender == address("ann@origin.test")


def test_secrets_are_read_anew_and_without_one_mail_goes_on() -> None:
    host = Host()
    back = str(host.leaving("ann@origin.test").sender)
    host.files = KeyFiles({SECRET_FILE: b"newer\r\n\r\nsecret\r\n"})
    assert host.rcpt(back) == ""
    newer = str(host.leaving("ann@origin.test").sender)
    assert newer != back
    host.files = KeyFiles({SECRET_FILE: b"\n"})
    assert "there is no secret in it" in host.srs.trouble
    host.files = KeyFiles({}, {}, {SECRET_FILE: "Permission denied"})
    leaving = host.leaving("ann@origin.test")
    assert leaving.sender == address("ann@origin.test")
    assert leaving.reason == f"the sender stays: srs_secret_file = {SECRET_FILE}: Permission denied"
    assert host.cleaned(newer).address == address(newer)
    with pytest.raises(TableTrouble):  # not refused for good: the client comes back
        host.rcpt(newer)
    host.files = KeyFiles()  # as before the first reading
    assert host.srs.trouble == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"srs_domain": "not a domain"},
        {"srs_hash_length": "5", "srs_hash_minimum": "6"},
        {"srs_max_age": "1023d"},
    ],
)
def test_what_cannot_work_is_refused_at_the_start(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="srs_"):
        Host(**settings)

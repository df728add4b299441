"""POP before SMTP: opt-in, for a time, for the address that logged in and no other, across processes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.envelope import Client
from ekiden.message.reply import Refusal
from ekiden.policy.access_rules import AccessLists, access_lists
from ekiden.policy.open_access import open_access
from ekiden.policy.pop_before_smtp import PopBeforeSmtp
from ekiden.policy.relay_guard import is_guarded
from ekiden.runtime.shared_logins import SharedLogins
from ekiden.tables.open import open_table

_LIST = "permit_mynetworks, permit_pop_before_smtp, reject_unauth_destination"


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Destinations:
    def lasts(self, address: Address) -> bool:
        return False

    async def is_relay_allowed_destination(self, address: Address) -> bool:
        return False

    async def check_recipient(self, address: Address) -> Refusal | None:
        return None


def lets(shared: SharedLogins, address: str, **settings: str) -> bool:
    """Whether a client there may send to a stranger's domain."""

    async def is_local(_domain: str) -> bool:
        return False

    parameters = Parameters({"smtpd_relay_restrictions": _LIST, **settings})
    destinations: Any = _Destinations()
    access = open_access(
        parameters, destinations, is_local=is_local, open_table=open_table, mailbox_logins=shared.of_process(0)
    )
    client = Client(address=address)
    found = asyncio.run(_judged(access, client))
    return found is None


async def _judged(access: Any, client: Client) -> Refusal | None:
    from ekiden.policy.restrictions import Situation

    rules = access.rules
    decision = await rules.recipient(Situation(client, False, Address("a", "b.example"), Address("x", "far.example")))
    refusal: Refusal | None = decision.refusal
    return refusal


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_login_opens_the_way_for_its_time_and_its_address(address: str) -> None:
    time = Time()
    shared = SharedLogins(2, time)
    settings = {"pop_before_smtp_time": "600s"}
    assert not lets(shared, address, **settings)
    shared.of_process(1).note(address)
    assert lets(shared, address, **settings)
    assert not lets(shared, "192.0.2.2", **settings)
    time.now += 599
    assert lets(shared, address, **settings)
    time.now += 2
    assert not lets(shared, address, **settings)
    shared.of_process(0).note(address)
    assert lets(shared, address, **settings)


def test_it_is_off_without_the_time_and_without_the_word() -> None:
    shared = SharedLogins(1, Time())
    shared.of_process(0).note("192.0.2.1")
    assert not lets(shared, "192.0.2.1")
    settings = {"pop_before_smtp_time": "600s", "smtpd_relay_restrictions": "reject_unauth_destination"}
    settings["smtpd_client_restrictions"] = "permit_mynetworks"  # not the short way
    assert not lets(shared, "192.0.2.1", **settings)
    assert Parameters({}).pop_before_smtp_time == 0


def test_no_other_address_is_taken_for_one_that_logged_in() -> None:
    shared = SharedLogins(1, Time())
    logins = shared.of_process(0)
    for number in range(20_000):
        logins.note(f"10.0.{number // 256}.{number % 256}")
    rule = PopBeforeSmtp(logins, 600)
    assert not any(rule.allows(f"11.0.{number // 256}.{number % 256}") for number in range(20_000))
    assert sum(rule.allows(f"10.0.{number // 256}.{number % 256}") for number in range(20_000)) > 10_000


def test_processes_see_each_others_logins() -> None:
    shared = SharedLogins(2)
    pid = os.fork()
    if pid == 0:
        shared.of_process(1).note("192.0.2.1")
        os._exit(0)
    os.waitpid(pid, 0)
    age_s = shared.of_process(0).age_s("192.0.2.1")
    assert age_s is not None
    assert age_s < 60


def test_a_list_with_it_needs_a_guard_all_the_same() -> None:
    found: AccessLists = access_lists(Parameters({"smtpd_relay_restrictions": _LIST}))
    assert is_guarded(found.by_name["smtpd_relay_restrictions"].restrictions)

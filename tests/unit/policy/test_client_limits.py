"""Who counts as one client, and how long what it did counts."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import Client
from ekiden.policy.client_limits import ClientLimits, ClientRates, Deed, LocalRates
from ekiden.runtime.shared_rates import SharedRates
from support.honours import honours


def limits_of(rates: ClientRates, **settings: str) -> ClientLimits:
    parameters = Parameters(settings)
    return ClientLimits(parameters, rates, service="smtp", unit_s=parameters.anvil_rate_time_unit)


def local(clock: Callable[[], float]) -> ClientRates:
    return LocalRates(clock)


def shared(clock: Callable[[], float]) -> ClientRates:
    return SharedRates(3, clock).of_worker(1)


@honours("smtpd_client_ipv4_prefix_length", "smtpd_client_ipv6_prefix_length")
@pytest.mark.parametrize(
    ("address", "settings", "network"),
    [
        ("192.0.2.77", {}, "192.0.2.77"),
        ("192.0.2.77", {"smtpd_client_ipv4_prefix_length": "24"}, "192.0.2.0/24"),
        ("192.0.2.77", {"smtpd_client_ipv4_prefix_length": "0"}, "0.0.0.0/0"),
        ("2001:db8:1:2:3:4:5:6", {}, "2001:db8:1:2:3::/84"),
        ("2001:db8:1:2:3:4:5:6", {"smtpd_client_ipv6_prefix_length": "56"}, "2001:db8:1::/56"),
        ("2001:db8:1:2:3:4:5:6", {"smtpd_client_ipv6_prefix_length": "128"}, "2001:db8:1:2:3:4:5:6"),
        ("fe80::1%eth0", {"smtpd_client_ipv6_prefix_length": "64"}, "fe80::/64"),
        ("unknown", {"smtpd_client_ipv4_prefix_length": "24"}, "unknown"),
    ],
)
def test_how_much_of_an_address_is_a_client(address: str, settings: dict[str, str], network: str) -> None:
    assert limits_of(LocalRates(lambda: 0.0), **settings).network_of(address) == network


@honours("anvil_rate_time_unit")
@pytest.mark.parametrize("table", [local, shared])
def test_what_was_done_counts_for_one_unit_of_time(table: Callable[[Callable[[], float]], ClientRates]) -> None:
    now = 1000.0
    limits = limits_of(table(lambda: now), smtpd_client_message_rate_limit="2", anvil_rate_time_unit="100s")

    def send() -> bool:
        return limits.check_rate(Deed.MESSAGE, Client(address="192.0.2.1"), "192.0.2.1") is None

    assert [send() for _ in range(3)] == [True, True, False]
    now = 1099.9
    assert not send()
    now = 1100.0
    assert [send() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("table", [local, shared])
def test_deeds_clients_and_services_do_not_mix(table: Callable[[Callable[[], float]], ClientRates]) -> None:
    rates = table(lambda: 0.0)
    for key in ("smtp 192.0.2.1", "smtp 192.0.2.2", "submission 192.0.2.1"):
        for deed in Deed:
            assert rates.count(deed, key, 60.0) == 1


def test_a_limit_of_nothing_counts_nothing() -> None:
    class Never:
        def count(self, deed: Deed, client: str, unit_s: float) -> int:
            raise AssertionError

    limits = limits_of(Never(), smtpd_client_connection_count_limit="0")
    assert not limits
    # Whoever guesses passwords is counted all the same (policy.login_failures).
    assert limits_of(Never(), smtpd_client_connection_count_limit="0", smtpd_sasl_auth_enable="yes")
    assert limits.check_rate(Deed.MESSAGE, Client(), "x") is None


def test_workers_count_together() -> None:
    rates = SharedRates(2, lambda: 0.0)
    pid = os.fork()
    if pid == 0:
        for _ in range(3):
            rates.of_worker(1).count(Deed.MESSAGE, "x", 60.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert rates.of_worker(0).count(Deed.MESSAGE, "x", 60.0) == 4

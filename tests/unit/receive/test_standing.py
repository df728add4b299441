"""receive.standing: what is known of a client is remembered as long as it cannot change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import Client
from ekiden.policy.client_limits import ClientLimits, LocalRates
from ekiden.protocol.smtp.data import BareNewline
from ekiden.receive.standing import Standing, Standings
from ekiden.tables.match import client_list

CLIENT = Client(name="mx.client.example", address="192.0.2.7")


def standings(settings: dict[str, str], bare_newline: BareNewline = BareNewline.REJECT) -> Standings:
    parameters = Parameters(settings)
    return Standings(
        trusted=client_list(parameters, "mynetworks"),
        xclient_hosts=client_list(parameters, "smtpd_authorized_xclient_hosts"),
        xforward_hosts=client_list(parameters, "smtpd_authorized_xforward_hosts"),
        unlimited=client_list(parameters, "smtpd_client_event_limit_exceptions"),
        limits=ClientLimits(parameters, LocalRates(lambda: 0.0), service="smtp", unit_s=60.0),
        bare_newline=bare_newline,
        newline_exclusions=client_list(parameters, "smtpd_forbid_bare_newline_exclusions"),
    )


STRANGER = Standing(
    trusted=False, may_xclient=False, may_xforward=False, network="192.0.2.7", newline=BareNewline.REJECT
)


@pytest.mark.parametrize(
    ("settings", "standing"),
    [
        ({"mynetworks": "127.0.0.1"}, STRANGER),
        (
            # Who is trusted is not counted (smtpd_client_event_limit_exceptions = $mynetworks).
            {"mynetworks": "192.0.2.0/24", "smtpd_forbid_bare_newline_exclusions": "192.0.2.7"},
            Standing(True, may_xclient=False, may_xforward=False, network="", newline=BareNewline.NORMALIZE),
        ),
        (
            # A proxy is not counted: the clients behind it are many.
            {"mynetworks": "127.0.0.1", "smtpd_authorized_xclient_hosts": "192.0.2.7"},
            Standing(False, may_xclient=True, may_xforward=False, network="", newline=BareNewline.REJECT),
        ),
        (
            {"mynetworks": "127.0.0.1", "smtpd_authorized_xforward_hosts": ".client.example"},
            Standing(False, may_xclient=False, may_xforward=True, network="192.0.2.7", newline=BareNewline.REJECT),
        ),
    ],
)
def test_the_lists_say_what_a_client_may_do(settings: dict[str, str], standing: Standing) -> None:
    made = standings(settings)
    assert made.known((CLIENT.address, CLIENT.name)) is None
    assert asyncio.run(made.of(CLIENT)) == standing
    assert made.known((CLIENT.address, CLIENT.name)) == standing


def test_only_what_is_to_be_rejected_has_exclusions() -> None:
    made = standings({"mynetworks": "192.0.2.0/24"}, BareNewline.NOTE)
    assert asyncio.run(made.of(CLIENT)).newline is BareNewline.NOTE


def test_with_a_table_among_the_lists_they_are_asked_each_time(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("192.0.2.7 x\n")
    made = standings({"mynetworks": f"texthash:{tmp_path / 'table'}"})
    assert asyncio.run(made.of(CLIENT)).trusted
    assert made.known((CLIENT.address, CLIENT.name)) is None

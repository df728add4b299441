"""The delivery agents of master.cf's transports, wired as a worker wires them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from ekiden.config.load import build
from ekiden.config.master_cf import Service
from ekiden.message.address import Address
from ekiden.message.delivery import DeliveryResult
from ekiden.runtime.stations import Doors, Stations
from ekiden.runtime.system_clock import SystemClock
from support.fake_peer import FakePeer
from support.honours import honours
from support.smtp_delivery import Notes, request

MASTER = """\
smtp   unix - - n - - smtp
slow   unix - - n - - smtp -o smtp_tcp_port=1 -o smtp_delivery_status_filter=static:4.9.9
lmtp   unix - - n - - lmtp
error  unix - - n - - error
"""


def stations(main_cf: str) -> Stations:
    configuration = build(Path("/nowhere"), f"myhostname = me.example\n{main_cf}", MASTER)
    assert not configuration.errors, configuration.errors
    nothing = cast("Any", None)
    doors = Doors(
        intake=nothing, content_writer=nothing, has_space=nothing, new_queue_id=nothing, mailboxes=nothing,
        counts=nothing, observer=Notes(), clock=SystemClock(), flush_site=nothing,
    )  # fmt: skip
    return Stations(configuration, doors)


def deliver(main_cf: str, transport: str, next_hop: str) -> DeliveryResult:
    async def work() -> DeliveryResult:
        made = stations(main_cf)
        (result,) = await made.deliver(structs.replace(request("a"), transport=transport, next_hop=next_hop))
        await made.close()
        return result

    return asyncio.run(work())


@honours("best_mx_transport")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "failed 5.4.6 mail for [127.0.0.1] loops back to myself"),
        ("error:5.0.0 passed on", "failed 5.0.0 passed on"),
        ("nosuch", "delayed 4.3.5 mail transport unavailable: master.cf has no service nosuch"),
    ],
)
def test_mail_whose_best_host_is_this_one(value: str, expected: str) -> None:
    result = deliver(f"best_mx_transport = {value}\n", "smtp", "[127.0.0.1]")
    assert f"{result.action.value} {result.status} {result.text}" == expected


@honours("smtp_tcp_port", "lmtp_tcp_port")
def test_the_port_of_next_hops_that_name_none() -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            made = stations(f"smtp_tcp_port = {peer.port}\nlmtp_tcp_port = {peer.port}\n")
            for transport, status in (("smtp", "2.0.0"), ("lmtp", "2.0.0"), ("slow", "4.9.9")):
                asked = structs.replace(request("a"), transport=transport, next_hop="[127.0.0.1]")
                assert [str(result.status) for result in await made.deliver(asked)] == [status]
            await made.close()

    asyncio.run(work())


@honours("default_delivery_status_filter", "smtp_delivery_status_filter", "lmtp_delivery_status_filter")
def test_the_results_of_a_transport_are_filtered() -> None:
    both = "default_delivery_status_filter = static:4.1.1\n"
    assert str(deliver(both, "error", "5.0.0 no").status) == "4.1.1"
    assert str(deliver(both, "smtp", "[127.0.0.1]").status) == "4.1.1"
    assert str(deliver(both, "lmtp", "[127.0.0.1]:1").status) == "4.4.1"  # lmtp has a default of its own
    assert str(deliver("lmtp_delivery_status_filter = static:4.1.1\n", "lmtp", "[127.0.0.1]:1").status) == "4.1.1"
    assert str(deliver("smtp_delivery_status_filter = static:4.1.1\n", "error", "5.0.0 no").status) == "5.0.0"


@honours("local_delivery_status_filter", "virtual_delivery_status_filter", "pipe_delivery_status_filter")
@pytest.mark.parametrize("command", ["local", "virtual", "pipe"])
def test_each_kind_of_transport_has_a_filter_of_its_own(command: str) -> None:
    made = stations(f"{command}_delivery_status_filter = static:4.1.1\n")
    assert made.filter_words(Service("x", "unix", command=command)) == ("static:4.1.1",)
    assert made.filter_words(Service("y", "unix", command="error")) == ()


@honours("lmtp_host_lookup", "smtp_host_lookup")
@pytest.mark.parametrize("transport", ["smtp", "lmtp"])
def test_where_hosts_are_looked_up_is_each_agents_own(transport: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 only.here.example\n")

    async def work() -> None:
        async with FakePeer() as peer:
            made = stations(f"{transport}_host_lookup = native\nnative_hosts_file = {tmp_path}/hosts\n")
            asked = structs.replace(request("a"), transport=transport, next_hop=f"[only.here.example]:{peer.port}")
            (result,) = await made.deliver(asked)
            assert str(result.status) == "2.0.0", result
            await made.close()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("aggregate", "failure", "counts"), [("yes", "no", True), ("no", "yes", True), ("no", "no", False)]
)
def test_what_dmarc_found_is_told_to_whoever_reports_it(aggregate: str, failure: str, counts: bool) -> None:
    made = stations(f"dmarc_aggregate_reports = {aggregate}\ndmarc_failure_reports = {failure}\n")
    service = made.smtp_service(Service("25", "inet", command="smtpd"))
    assert service.authentication is not None
    assert (service.authentication.report is not None) is counts


@honours("smtpd_peername_lookup")
@pytest.mark.parametrize(("lookup", "name"), [("yes", "client.example"), ("no", "unknown")])
def test_client_names_are_looked_up_or_not(lookup: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.7 client.example\n")
    made = stations(f"smtpd_peername_lookup = {lookup}\nnative_hosts_file = {tmp_path}/hosts\n")
    service = made.smtp_service(Service("25", "inet", command="smtpd"))
    assert service.names.known("192.0.2.7") == name


@honours("relay_domains_reject_code")
@pytest.mark.parametrize(("code", "reply"), [("", "554 5.7.1"), ("450", "450 4.7.1"), ("defer", "454 4.7.1")])
def test_the_code_for_mail_that_is_not_relayed(code: str, reply: str) -> None:
    relay = "smtpd_relay_restrictions = permit_mynetworks, defer_unauth_destination\n" if code == "defer" else ""

    async def work() -> None:
        made = stations(relay + (f"relay_domains_reject_code = {code}\n" if code.isdigit() else ""))
        listener = Service("25", "inet", command="smtpd")
        refusal = await made.smtp_service(listener).relay_access.check(Address("x", "far.example"), trusted=False)
        assert refusal is not None
        assert refusal.reply.text == f"{reply} <x@far.example>: Relay access denied"
        await made.close()

    asyncio.run(work())

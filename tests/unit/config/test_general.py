"""The parameters that say who this host is, and those that exist to be referred to."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

import pytest

from ekiden import __version__
from ekiden.config.check import check
from ekiden.config.interfaces import Interface, networks_of_style, own_interfaces, parse_addresses
from ekiden.config.load import Configuration, build
from ekiden.config.snapshot import Parameters
from support.honours import honours
from support.requirements import require_program

INTERFACES: tuple[Interface, ...] = (
    ipaddress.IPv4Interface("127.0.0.1/8"),
    ipaddress.IPv6Interface("::1/128"),
    ipaddress.IPv4Interface("10.1.2.3/24"),
    ipaddress.IPv4Interface("172.16.1.1/30"),
    ipaddress.IPv4Interface("192.0.2.9/28"),
    ipaddress.IPv6Interface("2001:db8::5/64"),
)


def built(main: str, master: str | None = None) -> Configuration:
    return build(Path("/c"), main, master, hostname="mx.example.com", interfaces=lambda: INTERFACES)


@honours("mynetworks_style")
@pytest.mark.parametrize(
    ("main", "networks"),
    [
        ("mynetworks_style = host", ("10.1.2.3/32", "172.16.1.1/32", "192.0.2.9/32", "[2001:db8::5]/128")),
        ("mynetworks_style = subnet", ("10.1.2.0/24", "172.16.1.0/30", "192.0.2.0/28", "[2001:db8::]/64")),
        ("s = class\nmynetworks_style = $s", ("10.0.0.0/8", "172.16.0.0/16", "192.0.2.0/24", "[2001:db8::]/64")),
        ("", ()),
    ],
)
def test_what_a_style_trusts(main: str, networks: tuple[str, ...]) -> None:
    configuration = built(main)
    assert configuration.errors == ()
    assert configuration.parameters.mynetworks == ("127.0.0.0/8", "[::1]/128", *networks)


def test_mynetworks_goes_before_its_style_and_class_is_warned_of() -> None:
    configuration = built("mynetworks_style = class\nmynetworks = 10.0.0.0/8\n")
    assert configuration.parameters.mynetworks == ("10.0.0.0/8",)
    assert any("mynetworks_style = class trusts the whole network class" in p.text for p in check(configuration))
    assert [str(p) for p in built("mynetworks_style = all").errors] == [
        "/c/main.cf:1: error: mynetworks_style = all: must be one of host, subnet, class"
    ]


def test_addresses_that_are_not_known_are_an_error_and_trust_nobody_more() -> None:
    def refuse() -> tuple[Interface, ...]:
        raise OSError(1, "not permitted")

    configuration = build(Path("/c"), "mynetworks_style = subnet", None, hostname="h.x", interfaces=refuse)
    assert "the addresses of this host are not known" in str(configuration.errors[0])
    assert configuration.parameters.mynetworks == ("127.0.0.0/8", "[::1]/128")


def test_the_addresses_of_this_host_are_those_that_ip_shows() -> None:
    shown = subprocess.run([require_program("ip"), "-j", "addr"], capture_output=True, check=True, timeout=30).stdout
    expected = {
        str(ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}"))
        for link in json.loads(shown)
        for address in link.get("addr_info", ())
    }
    assert {str(interface) for interface in own_interfaces()} == expected


@pytest.mark.parametrize("packet", [b"", b"\x00" * 40, b"\xff" * 40, b"\x14\x00\x00\x00" + b"\x14\x00" + b"\x00" * 14])
def test_odd_answers_of_the_kernel_hold_no_addresses(packet: bytes) -> None:
    assert list(parse_addresses(packet)) == []


def test_networks_are_named_once() -> None:
    twice = (ipaddress.IPv4Interface("10.1.2.3/24"), ipaddress.IPv4Interface("10.1.2.4/24"))
    assert networks_of_style("subnet", twice) == ("127.0.0.0/8", "[::1]/128", "10.1.2.0/24")


@honours("compatibility_level")
@pytest.mark.parametrize(
    ("level", "relayed"), [("0", ("a.example",)), ("1.9", ("a.example",)), ("2", ()), ("3.6", ()), ("", ())]
)
def test_an_old_level_brings_old_defaults_back(level: str, relayed: tuple[str, ...]) -> None:
    setting = f"compatibility_level = {level}\n" if level else ""
    parameters = built(f"{setting}mydestination = a.example\n").parameters
    assert parameters.relay_domains == relayed
    assert parameters.compatibility_level == ((*map(int, level.split(".")), 0, 0)[:3] if level else (3, 6, 0))
    assert built(f"{setting}mydestination = a.example\nrelay_domains = b.example\n").parameters.relay_domains == (
        "b.example",
    )


def test_a_level_that_is_none_is_an_error() -> None:
    assert [str(problem) for problem in built("compatibility_level = new").errors] == [
        "/c/main.cf:1: error: compatibility_level = new: must be a version of Postfix, such as 3.6"
    ]


@honours("mail_version")
def test_the_version_stands_in_other_values() -> None:
    assert built("smtpd_banner = x $mail_version").parameters.smtpd_banner == f"x {__version__}"
    assert built("smtpd_banner = x $mail_version\nmail_version = 1").parameters.smtpd_banner == "x 1"


@honours("service_name", "process_name")
def test_the_name_of_a_service_stands_in_its_options() -> None:
    master = (
        "submission inet n - n - - smtpd -o syslog_name=postfix/$service_name -o smtpd_banner=$process_name\n"
        "relay unix - - n - - smtp -o syslog_name=${multi_instance_name?{x}:{postfix}}/$service_name\n"
    )
    configuration = built("", master)
    submission, relay = (configuration.parameters_of(service) for service in configuration.services[:2])
    assert (submission.syslog_name, submission.smtpd_banner) == ("postfix/submission", "smtpd")
    assert relay.syslog_name == "postfix/relay"
    assert (Parameters().service_name, Parameters().process_name) == ("", "")

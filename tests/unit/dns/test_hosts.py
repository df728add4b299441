from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.dns.hosts import HostsResolver
from ekiden.dns.resolver import DnsTrouble, Found
from support.fake_resolver import SERVFAIL, FakeResolver, MovedClock
from support.honours import honours

HOSTS = """\
127.0.0.1\tlocalhost
192.0.2.7   mx.lan  MX   # the exchanger
2001:db8::7 mx.lan
not-an-address bad.lan
192.0.2.8 <script> ok.lan
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    return path


def resolver(inner: FakeResolver, path: Path, clock: MovedClock | None = None, **settings: str) -> HostsResolver:
    return HostsResolver(inner, clock or MovedClock(), Parameters({"native_hosts_file": str(path), **settings}))


def test_localhost_never_leaves_the_host(tmp_path: Path) -> None:
    inner = FakeResolver({("A", "localhost"): ["192.0.2.66"]})
    asked = resolver(inner, tmp_path)
    assert asyncio.run(asked.addresses("localhost")).records == ("::1", "127.0.0.1")
    assert asyncio.run(asked.addresses("Some.LOCALHOST")).records == ("::1", "127.0.0.1")
    only4 = resolver(inner, tmp_path, inet_protocols="ipv4")
    assert asyncio.run(only4.addresses("localhost")).records == ("127.0.0.1",)
    assert inner.asked == []


def test_by_default_the_file_is_not_read(hosts: Path) -> None:
    assert asyncio.run(resolver(FakeResolver({}), hosts).addresses("mx.lan")).found is Found.NXDOMAIN


@honours("smtp_host_lookup")
def test_native_reads_the_file_and_nothing_else(hosts: Path) -> None:
    inner = FakeResolver({("A", "far.example"): ["192.0.2.1"]})
    asked = resolver(inner, hosts, smtp_host_lookup="native")
    assert asyncio.run(asked.addresses("mx.LAN")).records == ("192.0.2.7", "2001:db8::7")
    assert asyncio.run(asked.addresses("ok.lan")).records == ("192.0.2.8",)
    for name in ("bad.lan", "<script>", "far.example"):
        assert asyncio.run(asked.addresses(name)).found is Found.NXDOMAIN
    assert inner.asked == []


@honours("smtp_host_lookup")
def test_both_ask_dns_first(hosts: Path) -> None:
    inner = FakeResolver({("A", "mx"): ["192.0.2.1"], ("A", "ok.lan"): SERVFAIL, ("A", "lost.lan"): SERVFAIL})
    asked = resolver(inner, hosts, smtp_host_lookup="native, dns")
    assert asyncio.run(asked.addresses("mx")).records == ("192.0.2.1",)
    assert asyncio.run(asked.addresses("mx.lan")).records == ("192.0.2.7", "2001:db8::7")
    assert asyncio.run(asked.addresses("ok.lan")).records == ("192.0.2.8",)
    with pytest.raises(DnsTrouble):
        asyncio.run(asked.addresses("lost.lan"))


def test_a_changed_file_is_seen_and_one_that_goes_is_empty(hosts: Path) -> None:
    clock = MovedClock()
    asked = resolver(FakeResolver({}), hosts, clock, smtp_host_lookup="native")
    assert asyncio.run(asked.addresses("new.lan")).found is Found.NXDOMAIN
    hosts.write_text("192.0.2.9 new.lan\n")
    os.utime(hosts, ns=(1, 1))
    clock.now += 10
    assert asyncio.run(asked.addresses("new.lan")).records == ("192.0.2.9",)
    hosts.unlink()
    clock.now += 10
    assert asyncio.run(asked.addresses("new.lan")).found is Found.NXDOMAIN


def test_other_records_come_from_dns(hosts: Path) -> None:
    inner = FakeResolver({("TXT", "t"): [b"x"]})
    asked = resolver(inner, hosts, smtp_host_lookup="native")
    assert asyncio.run(asked.txt("t")).records == (b"x",)
    assert asyncio.run(asked.mx("m")).found is Found.NXDOMAIN
    assert asyncio.run(asked.ptr("192.0.2.1")).found is Found.NXDOMAIN

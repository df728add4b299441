from __future__ import annotations

from pathlib import Path

from ekiden.route.own_addresses import own_addresses

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
        |-- 127.0.0.0
           /8 host LOCAL
           /32 link BROADCAST
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 192.0.2.7
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 80     eth0
nonsense
"""


def test_addresses_of_linux(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    assert own_addresses(["all"], proc=tmp_path) == {"127.0.0.1", "192.0.2.7", "::1", "2001:db8::7"}


def test_without_proc_the_loopback_is_ours(tmp_path: Path) -> None:
    assert own_addresses(["all"], proc=tmp_path) == {"127.0.0.1", "::1"}


def test_interfaces_and_proxies_as_they_are_written(tmp_path: Path) -> None:
    assert own_addresses(["loopback-only"], proc=tmp_path) == {"127.0.0.1", "::1"}
    assert own_addresses(["192.0.2.1", "[2001:DB8::1]"], ["203.0.113.9"], proc=tmp_path) == {
        "192.0.2.1",
        "2001:db8::1",
        "203.0.113.9",
    }
    assert own_addresses(["no such name"], proc=tmp_path) == frozenset()


def test_this_host_has_a_loopback() -> None:
    assert "127.0.0.1" in own_addresses(["all"])

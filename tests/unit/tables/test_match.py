"""Lists of domains and networks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.tables.match import ClientList, DomainList, Subdomains
from ekiden.tables.table import TableTrouble


def has(words: list[str], domain: str, subdomains: Subdomains = Subdomains.NEVER) -> bool:
    return asyncio.run(DomainList(words, subdomains=subdomains).matches(domain))


@pytest.mark.parametrize(
    ("words", "domain", "never", "dotted", "always"),
    [
        (["example.com"], "Example.COM", True, True, True),
        (["example.com"], "a.example.com", False, False, True),
        ([".example.com"], "a.b.example.com", False, True, False),
        ([".example.com"], "example.com", False, False, False),
        (["!a.example.com", "example.com", ".example.com"], "a.example.com", False, False, False),
        (["example.com", "!example.com"], "example.com", True, True, True),
        (["inline:{example.com=x}"], "example.com", True, True, True),
        (["inline:{example.com=x}"], "a.example.com", False, False, True),
        (["inline:{.example.com=x}"], "a.example.com", False, True, False),
        (["!inline:{b.c=x}", "static:y"], "b.c", False, False, False),
        ([], "example.com", False, False, False),
    ],
)
def test_domains(words: list[str], domain: str, never: bool, dotted: bool, always: bool) -> None:
    assert [has(words, domain, kind) for kind in Subdomains] == [never, dotted, always]


def test_files_are_members(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("# ours\none.example, two.example\n !three.example\n")
    outer.write_text(f"{inner}\n")
    assert has([str(outer)], "two.example")
    assert not has([str(outer), "three.example"], "three.example")
    assert not has([f"!{inner}", "one.example"], "one.example")
    assert is_client([f"!{_file(tmp_path, '10.1.0.0/16')}", "10.0.0.0/8"], "10.2.3.4")


def _file(folder: Path, text: str) -> Path:
    path = folder / "networks"
    path.write_text(text)
    return path


def test_files_that_cannot_be_members(tmp_path: Path) -> None:
    itself = tmp_path / "itself"
    itself.write_text(str(itself))
    with pytest.raises(ConfigError, match="each other"):
        DomainList([str(itself)])
    with pytest.raises(ConfigError, match="No such file"):
        DomainList([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match="nothing behind"):
        DomainList(["!"])


@pytest.mark.parametrize(
    ("address", "there"),
    [
        ("127.255.0.1", True),
        ("::1", True),
        ("::2", False),
        ("10.1.2.3", False),
        ("10.2.2.3", True),
        ("::ffff:10.2.2.3", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8:1::9", True),
        ("unknown", False),
        ("", False),
        ("10.2.2.3.4", False),
        ("010.2.2.3", False),
    ],
)
def test_networks(address: str, there: bool) -> None:
    networks = ClientList(["127.0.0.0/8", "[::1]/128", "!10.1.0.0/16", "10.0.0.0/8", "192.0.2.1", "[2001:db8::]/32"])
    for _ in range(2):
        assert asyncio.run(networks.matches(address)) is there


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("[2001:db8::1]/32", r"write \[2001:db8::\]/32"),
        ("10.0.0.0/33", "not a network"),
        ("a..b/8", "not a network"),
        ("10.0.0", "not a network"),
        ("nosuch:x", "there is no table type"),
        ("[::1", "not a network"),
    ],
)
def test_what_is_no_network(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ClientList([word])


def test_the_memory_of_clients_is_bounded() -> None:
    networks = ClientList(["10.0.0.0/8"])

    async def many() -> None:
        for number in range(12_000):
            await networks.matches(f"11.0.{number // 250}.{number % 250}")

    asyncio.run(many())
    assert networks._known is not None
    assert len(networks._known) <= 10_000


def is_client(
    words: list[str], address: str, name: str = "unknown", subdomains: Subdomains = Subdomains.DOTTED
) -> bool:
    return asyncio.run(ClientList(words, subdomains=subdomains).matches(address, name))


def test_clients_by_name() -> None:
    assert is_client(["mail.example.com"], "10.0.0.1", "Mail.Example.com")
    assert not is_client(["example.com"], "10.0.0.1", "mail.example.com")
    assert is_client([".example.com"], "10.0.0.1", "mail.example.com")
    assert is_client(["example.com"], "10.0.0.1", "mail.example.com", Subdomains.ALWAYS)
    assert not is_client(["!mail.example.com", "example.com"], "::1", "mail.example.com", Subdomains.ALWAYS)
    assert not is_client(["example.com"], "10.0.0.1")


def test_clients_by_table(tmp_path: Path) -> None:
    table = tmp_path / "clients"
    table.write_text("10.0.0.1 x\n.example.com x\n2001:db8::1 x\n")
    words = ["!inline:{10.0.0.2=x}", "cidr:{{10.0.0.2 x}, {192.0.2.0/24 x}}", f"hash:{table}"]
    assert is_client(words, "10.0.0.1")
    assert is_client(words, "::ffff:10.0.0.1")
    assert is_client(words, "2001:DB8:0::1")
    assert not is_client(words, "10.0.0.2")
    assert is_client(words, "192.0.2.9")
    assert is_client(words, "1.2.3.4", "a.b.example.com")
    assert not is_client(words, "1.2.3.4", "example.com")
    clients = ClientList([f"hash:{table}"])
    assert clients._known is None  # a table may change
    with pytest.raises(TableTrouble):
        is_client(["fail:x"], "10.0.0.1")


def test_pattern_tables_see_whole_names_only() -> None:
    words = ["regexp:{{/^example\\.com$/ x}}"]
    assert is_client(words, "10.0.0.1", "example.com", Subdomains.ALWAYS)
    assert not is_client(words, "10.0.0.1", "mail.example.com", Subdomains.ALWAYS)
    assert not has(words, "mail.example.com", Subdomains.ALWAYS)
    assert has(["inline:{example.com=x}"], "mail.example.com", Subdomains.ALWAYS)


@pytest.mark.parametrize(
    "member",
    ["bücher.example", "xn--bcher-kva.example", "inline:{bücher.example=x}", "inline:{xn--bcher-kva.example=x}"],
)
@pytest.mark.parametrize(
    "domain", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "Xn--Bcher-Kva.example"]
)
def test_internationalized_domains_match_in_either_form(member: str, domain: str) -> None:
    """RFC 5890 §2.3.2"""
    assert asyncio.run(DomainList([member]).matches(domain))
    assert asyncio.run(DomainList([member], subdomains=Subdomains.ALWAYS).matches(f"www.{domain}"))
    assert not asyncio.run(DomainList([member]).matches(f"www.{domain}"))

"""What ``ekiden check`` says of tables, domains and networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden.config.load import build
from ekiden.config.registry import Tables, Words
from ekiden.config.snapshot import Parameters
from ekiden.tables.check import check_tables
from ekiden.tables.open import TABLE_TYPES

_TYPES = "the types are " + ", ".join(TABLE_TYPES)


def said(main: str = "", master: str | None = None) -> list[str]:
    configuration = build(Path("/c"), main, master, hostname="mx.x.y")
    return [str(problem).replace("/c/", "") for problem in check_tables(configuration)]


def test_defaults_and_good_lists_are_not_talked_about(tmp_path: Path) -> None:
    table = tmp_path / "virtual"
    table.write_text("a@b c@d\n")
    assert said() == []
    good = (
        f"virtual_alias_maps = texthash:{table}, inline:{{a=b}}\n"
        "mynetworks = 127.0.0.0/8 [::1]/128 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 203.0.113.0/24 [fc00::]/7\n"
        "mydestination = $myhostname, localhost\n"
        "local_recipient_maps = unix:passwd.byname $alias_maps\n"
    )
    assert said(good) == []


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "[::]/0", "::/0"])
def test_an_open_relay_is_said_loudly(everything: str) -> None:
    [line] = said(f"\nmynetworks = 127.0.0.0/8, {everything}\n")
    assert line.startswith("main.cf:2: error: mynetworks: OPEN RELAY: ")
    [line] = said("", f"25 inet n - n - - smtpd -o mynetworks={everything}\n")
    assert line.startswith("master.cf:1: error: mynetworks: OPEN RELAY: ")
    [line] = said("relay_domains = static:all\n")
    assert "OPEN RELAY" in line


@pytest.mark.parametrize("wide", ["0.0.0.0/1 128.0.0.0/1", "8.0.0.0/8", "[2000::]/3"])
def test_nearly_the_whole_internet_is_warned_of(wide: str) -> None:
    [line] = said(f"mynetworks = {wide}\n")
    assert line.startswith("main.cf:1: warning: mynetworks: nearly an open relay")


def test_tables_that_do_not_open(tmp_path: Path) -> None:
    table = tmp_path / "virtual"
    table.write_text("# c\na@b\n")
    rules = tmp_path / "rules"
    rules.write_text("/ok/ x\n/(/ y\n")
    good = tmp_path / "good"
    good.write_text("a b\n")
    text = (
        f"virtual_alias_maps = texthash:{table} texthash:/none nosuch:/x hash:{good} pcre:{rules}\n"
        f"mydestination = btree:/y cidr:{rules}\n"
    )
    assert said(text) == [
        f"{table}:2: warning: virtual_alias_maps: expected format: key whitespace value",
        "main.cf:1: error: virtual_alias_maps: texthash:/none: No such file or directory",
        f"main.cf:1: error: virtual_alias_maps: there is no table type 'nosuch' (in 'nosuch:/x'); {_TYPES}",
        f"{rules}:2: warning: virtual_alias_maps: error in regex at offset 1: missing closing parenthesis",
        "main.cf:2: error: mydestination: btree:/y: No such file or directory",
        f'{rules}:1: warning: mydestination: bad mask value in "/ok/": skipping this rule',
        f'{rules}:2: warning: mydestination: bad mask value in "/(/": skipping this rule',
    ]
    assert said("alias_maps = hash:/no/aliases") == [
        "main.cf:1: warning: alias_maps: hash:/no/aliases: there is no such file"
    ]


def test_networks_that_are_none() -> None:
    assert said("mynetworks = 10.0.0.1/8") == [
        "main.cf:1: error: mynetworks: '10.0.0.1/8' has bits behind its mask: write 10.0.0.0/8"
    ]


def test_tables_in_lists_of_clients(tmp_path: Path) -> None:
    table = tmp_path / "clients"
    table.write_text("10.0.0.0/8 x\n10.0.0.1/8 x\n")
    wrong = (
        'non-null host address bits in "10.0.0.1/8", perhaps you should use "10.0.0.0/8" instead: skipping this rule'
    )
    assert said(f"mynetworks = fe80::/10 !cidr:{table} .example.com\n") == [f"{table}:2: warning: mynetworks: {wrong}"]
    [line] = said("mynetworks = static:all\n")
    assert "OPEN RELAY" in line
    assert said("mynetworks = !static:all\n") == []
    [line] = said("smtpd_client_event_limit_exceptions = static:all, hash:/none\n")
    assert line.endswith("hash:/none: No such file or directory")
    [line] = said("mynetworks = nosuch:x\n")
    assert "there is no table type" in line


def test_what_holds_tables_is_declared_so() -> None:
    """Then its tables are checked. A parameter that ends so and holds none has a type of its own, too."""
    for name, parameter in Parameters.declared().items():
        if name.endswith(("_maps", "_checks")) and isinstance(parameter, Words):
            assert isinstance(parameter, Tables), f"{name}: declare it as Tables (ekiden.config.registry)"


def test_tables_that_ask_a_server(tmp_path: Path) -> None:
    """What is wrong in a table's own file is told with the place there; what anybody may answer gives no rights."""
    good, bad = tmp_path / "good.cf", tmp_path / "bad.cf"
    good.write_text("dbpath = /nonexistent\nquery = SELECT x FROM t WHERE y = '%s'\nhost = z\n")
    bad.write_text("dbpath = /nonexistent\nquery = SELECT x FROM t WHERE y = %s\n")
    words = f"virtual_alias_maps = sqlite:{good} sqlite:{bad} tcp:h:1\nvirtual_mailbox_maps = tcp:h:1 sqlite:{good}\n"
    found = said(words + "alias_maps = socketmap:unix:/x:y\n")
    assert f"{good}:3: warning: virtual_alias_maps: host is no parameter of sqlite tables" in found
    assert [line for line in found if line.startswith(f"{bad}:2: error: virtual_alias_maps: query = SELECT")]
    refused = [line for line in found if "anybody may answer there" in line]
    assert [line.partition(":")[2].split(":")[0] for line in refused] == ["2", "3"]

"""ldap: tables and a real OpenLDAP (ldap_table(5))."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.tables.open import open_table
from ekiden.tables.table import TableTrouble
from support.databases import DatabaseServer, free_port, running_slapd
from support.table_lookups import HOSTILE_KEYS, IMPOSSIBLE_KEYS, look, trouble

_PEOPLE = """
dn: dc=example
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example
objectClass: organizationalUnit
ou: groups
"""

# A comma, a plus sign and the like in names are what RFC 4514 quoting is for.
_ODD = 'a,b+c"d;e<f>g=h#i \\j'


def _person(name: str, mail: str, *lines: str) -> str:
    encoded = base64.b64encode(name.encode()).decode()
    dn = base64.b64encode(f"cn={_quoted(name)},ou=people,dc=example".encode()).decode()
    values = "".join(f"{line}\n" for line in lines)
    mail = base64.b64encode(mail.encode()).decode()
    return f"\ndn:: {dn}\nobjectClass: inetOrgPerson\ncn:: {encoded}\nsn: x\nmail:: {mail}\n{values}"


def _quoted(name: str) -> str:
    return "".join(f"\\{byte:02x}" for byte in name.encode())


def _group(name: str, *members: str, mail: str = "") -> str:
    lines = "".join(f"{member}\n" for member in members)
    classes = "objectClass: extensibleObject\nobjectClass: groupOfNames"
    return f"\ndn: cn={name},ou=groups,dc=example\n{classes}\ncn: {name}\n{lines}{mail}"


def _ldif() -> str:
    members = [f"member: cn={name},ou=people,dc=example" for name in ("anna", "bert")]
    return "".join(
        (
            _PEOPLE,
            _person("anna", "anna@example", "mail: anna2@example", "description: vip", "uid: anna"),
            _person("bert", "bert@example", "uid: bert"),
            _person(_ODD, "odd@example"),
            *(_person(f"h{number}", "x@example", f"description:: {base64.b64encode(key.encode()).decode()}")
              for number, key in enumerate(HOSTILE_KEYS) if len(key) < 1000),
            _group("both", *members, mail="mail: both@example\n"),
            _group("nested", "member: cn=both,ou=groups,dc=example", "member: cn=gone,ou=people,dc=example"),
            _group("circle", "member: cn=circle,ou=groups,dc=example", "member: cn=both,ou=groups,dc=example"),
            _group("url", "member: cn=nobody", "labeledURI: ldap:///ou=people,dc=example?mail?one?(uid=b*)"),
            _group("held", *members, mail="description: held@example\n"),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    with running_slapd(_ldif(), general="authz-regexp gidNumber=.* cn=admin,dc=example") as running:
        yield running


class Described:
    """Writes the file of a table."""

    def __init__(self, path: Path, server: DatabaseServer) -> None:
        self._path, self._server = path, server

    def __call__(self, query: str = "(uid=%s)", **settings: str) -> str:
        base = {
            "server_host": f"127.0.0.1:{self._server.port}",
            "search_base": "dc=example",
            "result_attribute": "mail",
        }
        lines = {**base, "query_filter": query, **settings}
        file = self._path / "ldap.cf"
        file.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        return f"ldap:{file}"


@pytest.fixture
def table(tmp_path: Path, server: DatabaseServer) -> Described:
    return Described(tmp_path, server)


def test_found_not_found_and_several_values(table: Described) -> None:
    assert look(table(), "anna", "BERT", "none") == ["anna@example,anna2@example", "bert@example", None]
    assert look(table("(mail=%u@%d)", result_attribute="uid, description"), "anna@example") == ["anna,vip"]


def test_formats_and_limits(table: Described) -> None:
    assert look(table(result_format="%u at %S"), "anna") == ["anna at anna,anna2 at anna"]
    assert look(table(result_filter="<%s>"), "bert") == ["<bert@example>"]
    assert "expansion_limit = 1" in trouble(table(expansion_limit="1"), "anna")
    assert "size limit exceeded" in trouble(table("(uid=*)", size_limit="1"), "anna")
    assert look(table("(uid=%u)", domain="example"), "anna@example", "anna", "anna@other") == [
        "anna@example,anna2@example", None, None,
    ]  # fmt: skip


def test_where_to_search(table: Described) -> None:
    assert look(table(search_base="ou=groups,dc=example"), "anna") == [None]
    assert look(table(search_base="ou=nowhere,dc=example"), "anna") == [None]
    assert look(table(search_base="dc=%1"), "anna@x.example", "anna@x.elsewhere") == [None, None]
    assert look(table("(uid=%u)", search_base="dc=%1"), "anna@x.example") == ["anna@example,anna2@example"]
    assert look(table(scope="one"), "anna") == [None]
    assert look(table("objectClass=*", search_base="cn=%s,ou=people,dc=example", scope="base"), "bert") == [
        "bert@example"
    ]


def test_groups_are_followed(table: Described) -> None:
    word = table("(cn=%s)", special_result_attribute="member, labeledURI", search_base="ou=groups,dc=example")
    everybody = "anna@example,anna2@example,bert@example"
    assert look(word, "both", "nested", "circle") == [
        f"both@example,{everybody}", f"both@example,{everybody}", f"both@example,{everybody}",
    ]  # fmt: skip
    assert "invalid DN syntax" not in str(look(word, "nested"))
    leaf = {"leaf_result_attribute": "mail", "result_attribute": "", "special_result_attribute": "member"}
    assert look(table("(cn=%s)", search_base="ou=groups,dc=example", **leaf), "both", "nested") == [
        everybody,
        everybody,
    ]
    terminal = {**leaf, "terminal_result_attribute": "description"}
    assert look(table("(cn=%s)", search_base="ou=groups,dc=example", **terminal), "held", "both") == [
        "held@example", "vip,bert@example",
    ]  # fmt: skip
    url = {"leaf_result_attribute": "mail", "result_attribute": "", "special_result_attribute": "labeledURI"}
    assert look(table("(cn=%s)", search_base="ou=groups,dc=example", **url), "url") == ["bert@example"]
    assert "recursion_limit = 1" in trouble(
        table("(cn=%s)", search_base="ou=groups,dc=example", special_result_attribute="member", recursion_limit="1"),
        "nested",
    )


def test_hostile_keys_are_only_compared(table: Described) -> None:
    word = table("(description=%s)", result_attribute="cn")
    known = [(number, key) for number, key in enumerate(HOSTILE_KEYS) if len(key) < 1000]
    found = look(word, *(key for _, key in known))
    # The directory compares as its schema says: without regard to blanks at the ends, to case and to NFKC.
    blank = {"\n", "\t", "\x1a", "\x7f"}
    for (number, key), value in zip(known, found, strict=True):
        names = (value or "").split(",")
        assert f"h{number}" in names or (not value and key in blank), (key, value)
        assert len(names) <= 3, (key, value)
    assert look(word, *IMPOSSIBLE_KEYS) == [None] * len(IMPOSSIBLE_KEYS)
    assert look(table("(cn=%s)"), "*", "anna)(cn=*", "*)(|(cn=*", "\\2a") == [None] * 4


def test_hostile_keys_in_a_name(table: Described) -> None:
    word = table("objectClass=*", search_base="cn=%s,ou=people,dc=example", scope="base")
    assert look(word, _ODD, "anna,ou=people", "x+cn=anna", *HOSTILE_KEYS[:20]) == ["odd@example"] + [None] * 22


def test_ways_to_log_in(table: Described, server: DatabaseServer) -> None:
    admin = {"bind_dn": "cn=admin,dc=example", "bind_pw": "secret"}
    assert look(table(**admin), "bert") == ["bert@example"]
    assert look(table(bind="no"), "bert") == ["bert@example"]
    socket = f"ldapi://{server.socket.replace('/', '%2F')}"
    assert look(table(server_host=socket, bind="sasl", sasl_mechs="EXTERNAL"), "bert") == ["bert@example"]
    said = trouble(table(**{**admin, "bind_pw": "wr0ng"}), "bert")
    assert "invalid credentials" in said
    assert "wr0ng" not in said


def test_a_server_that_is_down_is_trouble_and_found_again(table: Described, server: DatabaseServer) -> None:
    async def main() -> None:
        asked = open_table(table())
        assert await asked.lookup("bert") == "bert@example"
        await asyncio.to_thread(server.stop)
        with pytest.raises(TableTrouble, match="refused"):
            await asked.lookup("bert")
        await asyncio.to_thread(server.start)
        assert await asked.lookup("bert") == "bert@example"
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert await asked.lookup("bert") == "bert@example"
        await asked.close()

    asyncio.run(main())


def test_servers_are_tried_in_their_order(table: Described, server: DatabaseServer) -> None:
    hosts = f"ldap://127.0.0.1:{free_port()} ldap://127.0.0.1:{server.port}"
    assert look(table(server_host=hosts), "bert") == ["bert@example"]


def test_a_slow_server_is_trouble_in_time(table: Described, server: DatabaseServer) -> None:
    began = time.monotonic()
    with server.frozen():
        assert "does not answer" in trouble(table(timeout="1"), "bert")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("settings", "line", "says"),
    [
        ({"query": "(uid=%s"}, 4, "missing"),
        ({"query": "(&(uid=%s)(x))"}, 4, "no attribute=value"),
        ({"search_base": ""}, 0, "search_base is not set"),
        ({"scope": "all"}, 5, "must be one of sub"),
        ({"server_host": "http://x"}, 1, "is not a server"),
        ({"chase_referrals": "1"}, 5, "not followed"),
        ({"bind": "sasl"}, 5, "EXTERNAL"),
        ({"bind_dn": "cn=admin"}, 5, "without a password"),
        ({"start_tls": "yes", "tls_ca_cert_file": "/nonexistent"}, 6, "cannot be used"),
        ({"recursion_limit": "0"}, 5, "from 1"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(table: Described, settings: dict[str, str], line: int, says: str) -> None:
    word = table(**settings)
    with pytest.raises(ConfigError, match=says) as told:
        open_table(word)
    assert (told.value.file, told.value.line) == (word.removeprefix("ldap:"), line)

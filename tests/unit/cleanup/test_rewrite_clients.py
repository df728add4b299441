"""local_header_rewrite_clients: who is local by its address, by its login, by its certificate."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.cleanup.rewrite_clients import RewriteClients
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.envelope import Client
from ekiden.message.tls_facts import TlsFacts
from ekiden.tables.match import client_list
from ekiden.tables.open import open_table
from support.cleanup import rewrite_clients_for
from support.honours import honours

STRANGER = Client(address="203.0.113.9")
LOGGED_IN = Client(address="203.0.113.9", login="ann", login_method="PLAIN")
NO_CERTIFICATE = Client(address="203.0.113.9", tls=TlsFacts("TLSv1.3", "x"))
UNTRUSTED = Client(address="203.0.113.9", tls=TlsFacts("TLSv1.3", "x", fingerprint="AA:BB", key_fingerprint="CC:DD"))
TRUSTED = Client(address="203.0.113.9", tls=TlsFacts("TLSv1.3", "x", fingerprint="EE:FF", trusted=True))
EVERYBODY = {
    "stranger": STRANGER,
    "logged in": LOGGED_IN,
    "no certificate": NO_CERTIFICATE,
    "untrusted": UNTRUSTED,
    "trusted": TRUSTED,
}


@honours("local_header_rewrite_clients")
@pytest.mark.parametrize(
    ("words", "local"),
    [
        ("", set()),
        ("permit_inet_interfaces", set()),
        ("permit_mynetworks", set()),
        ("permit_sasl_authenticated", {"logged in"}),
        ("permit_tls_all_clientcerts", {"trusted"}),
        ("permit_tls_clientcerts", {"untrusted"}),
        ("permit_inet_interfaces permit_sasl_authenticated permit_tls_all_clientcerts", {"logged in", "trusted"}),
        ("static:all", set(EVERYBODY)),
    ],
)
@pytest.mark.parametrize("known", ["AA:BB", "CC:DD"])  # a certificate, or its key
def test_who_is_local(words: str, local: set[str], known: str) -> None:
    settings = {"mynetworks": "192.0.2.0/24", "relay_clientcerts": f"inline:{{{known}=one}}"}
    clients = rewrite_clients_for(Parameters({**settings, "local_header_rewrite_clients": words}))

    async def ask() -> set[str]:
        return {name for name, client in EVERYBODY.items() if await clients.include(client)}

    assert asyncio.run(ask()) == local


def test_a_certificate_is_nothing_where_it_is_not_asked_for() -> None:
    settings = {"relay_clientcerts": "texthash:/no/such/file", "local_header_rewrite_clients": "permit_mynetworks"}
    assert not asyncio.run(rewrite_clients_for(Parameters(settings)).include(TRUSTED))
    with pytest.raises(ConfigError):
        rewrite_clients_for(Parameters({"local_header_rewrite_clients": "permit_everybody"}))


def test_a_wrong_word_is_told_of_the_parameter_that_has_it() -> None:
    with pytest.raises(ConfigError, match="dkim_signing_clients: 'everybody' is neither"):
        RewriteClients(
            ["everybody"],
            own_addresses=frozenset(),
            networks=client_list(Parameters(), "mynetworks"),
            open_table=open_table,
            parameter="dkim_signing_clients",
        )

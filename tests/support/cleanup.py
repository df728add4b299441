"""A Cleanup for tests, and the list of what it is to do."""

from __future__ import annotations

from ekiden.cleanup.cleanup import Cleanup
from ekiden.cleanup.rewrite_clients import RewriteClients
from ekiden.config.snapshot import Parameters
from ekiden.tables.match import client_list
from ekiden.tables.open import open_table

LOOPBACK = frozenset({"127.0.0.1", "::1"})


def cleanup_for(parameters: Parameters, *local: str) -> Cleanup:
    """``local``: the domains of this host beside myorigin."""

    async def is_local(domain: str) -> bool:
        return domain in {parameters.myorigin, *local}

    return Cleanup(parameters, is_local=is_local)


def rewrite_clients_for(parameters: Parameters, own_addresses: frozenset[str] = LOOPBACK) -> RewriteClients:
    return RewriteClients(
        parameters.local_header_rewrite_clients,
        own_addresses=own_addresses,
        networks=client_list(parameters, "mynetworks"),
        open_table=open_table,
        certificates=parameters.relay_clientcerts,
    )

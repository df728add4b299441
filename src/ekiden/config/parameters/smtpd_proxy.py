"""Programs that speak for other clients: load balancers (PROXY), content filters (XFORWARD) and gateways (XCLIENT)."""

from __future__ import annotations

from ekiden.config.registry import Choice, Clients, Duration, Group, Int


class SmtpdProxyParameters(Group):
    smtpd_upstream_proxy_protocol = Choice(
        "",
        "",
        "haproxy",
        doc="haproxy: each connection begins with a PROXY header (version 1 or 2) that says who the client is, before "
        "everything else, a TLS handshake too. Set it with -o on the listener that only the proxy reaches.",
    )
    smtpd_upstream_proxy_timeout = Duration("5s", minimum=1, doc="How long a proxy may take for its PROXY header.")
    smtpd_upstream_proxy_clients = Clients(
        "$mynetworks",
        doc="Clients (networks) whose PROXY header is believed; connections of others to such a listener are dropped.",
    )
    smtpd_upstream_proxy_header_limit = Int(
        "4096", minimum=216, maximum=65535, doc="The most bytes of addresses and extensions in a PROXY header."
    )
    smtpd_authorized_xclient_hosts = Clients(
        "", doc="Clients (networks) that may say with XCLIENT which client they speak for; no limits bind them."
    )
    smtpd_authorized_xforward_hosts = Clients(
        "",
        doc="Clients (networks) that may say with XFORWARD which client a message came from: for the log, bounces and "
        "delivery programs.",
    )

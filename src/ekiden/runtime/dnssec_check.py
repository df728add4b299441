"""Whether DNSSEC can do what the configuration leans on: part of ``ekiden check``.

In:   a configuration; the file that names this host's resolvers.
Out:  warnings, each with the line that leans on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ekiden.config.load import Configuration
from ekiden.config.problem import Level, Problem
from ekiden.dns.system_servers import name_servers

_DANE = ("dane", "dane-only")


def check_dnssec(configuration: Configuration, resolv_conf: Path = Path("/etc/resolv.conf")) -> Iterator[Problem]:
    parameters = configuration.parameters
    leaning = ""
    for prefix in ("smtp", "lmtp"):
        level, support = f"{prefix}_tls_security_level", f"{prefix}_dns_support_level"
        if getattr(parameters, support) == "dnssec":
            leaning = leaning or support
        elif getattr(parameters, level) in _DANE:
            text = (
                f"{level} = {getattr(parameters, level)} needs {support} = dnssec; without it nothing that DNS says of "
                f"certificates is believed, and mail goes encrypted to anybody, or not at all"
            )
            yield Problem(*configuration.place(level), Level.WARNING, text)
    if leaning and not any(server.trusted for server in name_servers(parameters.dns_resolvers, resolv_conf)):
        text = (
            f"{leaning} = dnssec: no name server of {resolv_conf} is on this host, so that none is believed; run a "
            "validating resolver (such as unbound) on 127.0.0.1, name one in dns_resolvers, or write options trust-ad"
        )
        yield Problem(*configuration.place(leaning), Level.WARNING, text)

"""The services that Ekiden has, and those that run where master.cf does not say otherwise."""

from __future__ import annotations

from ekiden.config.master_cf import Service

# What a service of master.cf can run here.
COMMANDS = frozenset(
    {
        "bounce",
        "cleanup",
        "discard",
        "error",
        "lmtp",
        "lmtpd",
        "local",
        "pickup",
        "pipe",
        "qmgr",
        "reports",
        "smtp",
        "smtpd",
        "tlsrpt",
        "virtual",
    }
)
# Those that listen: SMTP servers and LMTP servers (RFC 2033).
LISTENING = ("smtpd", "lmtpd")
# Programs of Postfix whose work is done inside the worker: their lines are accepted and start nothing.
ABSORBED = frozenset(
    {"anvil", "flush", "oqmgr", "postlogd", "proxymap", "scache", "showq", "tlsmgr", "trivial-rewrite", "verify"}
)
# Programs of Postfix that Ekiden has no counterpart for yet.
NOT_YET = frozenset({"dnsblog", "postscreen", "qmqpd", "spawn", "tlsproxy"})

# Those that are transports: each service that runs one has limits of its own name (TRANSPORT_destination_...).
AGENTS = frozenset({"discard", "error", "lmtp", "local", "pipe", "reports", "smtp", "tlsrpt", "virtual"})

# Without a master.cf: one SMTP server that only this host can reach, on a port that every user may open.
DEFAULT_LISTENERS = (Service("127.0.0.1:2525", "inet", private=False, command="smtpd"),)

# The transports and inner services are there whether or not master.cf names them.
BUILT_IN = (
    Service("pickup", "unix", private=False, wakeup=60, maxproc=1, command="pickup"),
    Service("cleanup", "unix", private=False, maxproc=0, command="cleanup"),
    Service("qmgr", "unix", private=False, wakeup=300, maxproc=1, command="qmgr"),
    Service("bounce", "unix", maxproc=0, command="bounce"),
    Service("defer", "unix", maxproc=0, command="bounce"),
    Service("trace", "unix", maxproc=0, command="bounce"),
    Service("smtp", "unix", command="smtp"),
    Service("relay", "unix", command="smtp"),
    Service("lmtp", "unix", command="lmtp"),
    Service("local", "unix", unprivileged=False, command="local"),
    Service("virtual", "unix", unprivileged=False, command="virtual"),
    Service("error", "unix", command="error"),
    Service("retry", "unix", command="error"),
    Service("discard", "unix", command="discard"),
    Service("reports", "unix", command="reports"),
    Service("tlsrpt", "unix", command="tlsrpt"),
)


def with_built_in(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """``services`` and the built-in ones that they do not replace (same name and type)."""
    named = {(service.name, service.type) for service in services}
    return services + tuple(service for service in BUILT_IN if (service.name, service.type) not in named)

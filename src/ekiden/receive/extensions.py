"""The SMTP extensions that a server session offers in its answer to EHLO (RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from collections.abc import Collection

from ekiden.config.snapshot import Parameters


def offered_extensions(parameters: Parameters, discarded: Collection[str]) -> list[str]:
    """Without those that are ``discarded``, in any case."""
    limit = parameters.message_size_limit
    offered = [
        "PIPELINING",
        f"SIZE {limit}" if limit else "SIZE",
        "VRFY",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
    ]
    dropped = {word.upper() for word in discarded}
    if parameters.disable_vrfy_command:
        dropped.add("VRFY")
    return [line for line in offered if line.partition(" ")[0] not in dropped]

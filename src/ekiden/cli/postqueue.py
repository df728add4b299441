"""postqueue(1): list the queue, and have deferred mail tried now, by any user whom main.cf lets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.trouble import CommandTrouble, complain

if TYPE_CHECKING:
    from ekiden.runtime.control_client import RunningServer

_USAGE = (
    "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site (all with [-c DIR])"
)
_QUEUE_ID = re.compile(r"[0-9A-Za-z]{1,100}\Z")
_SITE = re.compile(r"(?:[0-9A-Za-z_](?:[0-9A-Za-z_.-]{0,253}[0-9A-Za-z_])?|\[[0-9A-Fa-f.:]{2,60}\])\Z")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BadOption as error:
        complain("postqueue", str(error))
        complain("postqueue", f"fatal: {_USAGE}")
        return os.EX_UNAVAILABLE
    except CommandTrouble as trouble:
        complain("postqueue", f"fatal: {trouble}")
        return trouble.code


def _run(arguments: Sequence[str]) -> int:
    options, others = getopt(arguments, "c:fi:jps:v")
    config = None
    modes: list[tuple[str, str]] = []
    for letter, value in options:
        if letter == "c":
            config = value
        elif letter != "v":
            modes.append((letter, value))
    if len(modes) != 1 or others:
        raise CommandTrouble(os.EX_UNAVAILABLE, _USAGE)
    match modes[0]:
        case ("p" | "j") as letter, _:
            return list_queue(config, as_json=letter == "j", program="postqueue")
        case "f", _:
            return flush_queue(config)
        case "i", queue_id:
            return flush_message(config, queue_id)
        case _, site:
            return flush_site(config, site)


def list_queue(config: str | None, *, as_json: bool, program: str) -> int:
    """Print the whole queue, from disk when no server runs. Raises CommandTrouble."""
    from ekiden.cli import queue_access
    from ekiden.cli.queue_listing import json_line, postfix_listing, print_lines
    from ekiden.runtime.requests import Filter

    messages = queue_access.messages(
        queue_access.configuration(config),
        Filter(),
        lambda text: complain(program, text),
        "warning: Mail system is down -- accessing queue directly",
    )
    print_lines(map(json_line, messages) if as_json else postfix_listing(messages))
    return os.EX_OK


def flush_queue(config: str | None) -> int:
    """Raises CommandTrouble."""
    from ekiden.cli import queue_access

    with _server(config) as server:
        queue_access.asked(server.flush)
    return os.EX_OK


def flush_message(config: str | None, queue_id: str) -> int:
    """One message; that it is not there, or is being delivered, is no error. Raises CommandTrouble."""
    from ekiden.cli import queue_access
    from ekiden.queue.store import Change
    from ekiden.runtime.requests import Filter

    if _QUEUE_ID.match(queue_id) is None:
        raise CommandTrouble(os.EX_UNAVAILABLE, f'Cannot flush queue ID - invalid name: "{queue_id}"')
    with _server(config) as server:
        queue_access.asked(lambda: server.change(Change.REQUEUE, [queue_id], Filter()))
    return os.EX_OK


def flush_site(config: str | None, site: str) -> int:
    """What waits for recipients of one domain. Raises CommandTrouble."""
    from ekiden.cli import queue_access
    from ekiden.queue.store import Change
    from ekiden.runtime.requests import Filter

    if _SITE.match(site) is None:
        raise CommandTrouble(os.EX_UNAVAILABLE, f'Cannot flush mail queue - invalid destination: "{site}"')
    if not _is_eligible(config, site):
        text = f'Flush service is not configured for destination "{site}" (fast_flush_domains)'
        raise CommandTrouble(os.EX_UNAVAILABLE, text)
    with _server(config) as server:
        queue_access.asked(lambda: server.change(Change.REQUEUE, [], Filter(domain=site.lower())))
    return os.EX_OK


def _is_eligible(config: str | None, site: str) -> bool:
    import asyncio

    from ekiden.cli import queue_access
    from ekiden.config.errors import ConfigError
    from ekiden.tables.match import DomainList, Subdomains
    from ekiden.tables.table import TableTrouble

    words = queue_access.configuration(config).parameters.fast_flush_domains
    try:
        return asyncio.run(DomainList(words, subdomains=Subdomains.ALWAYS).matches(site))
    except (ConfigError, TableTrouble) as error:
        raise CommandTrouble(os.EX_UNAVAILABLE, f"fast_flush_domains: {error}") from error


def _server(config: str | None) -> RunningServer:
    from ekiden.cli import queue_access

    try:
        return queue_access.connect(queue_access.configuration(config), lambda text: complain("postqueue", text))
    except CommandTrouble as trouble:
        if trouble.code == os.EX_UNAVAILABLE:
            raise CommandTrouble(trouble.code, "Cannot flush mail queue - mail system is down") from trouble
        raise

"""``ekiden auth explain FILE`` and ``ekiden auth explain QUEUEID``: who really sent a message, and how we know."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from msgspec import structs

from ekiden.auth.verdict import Result
from ekiden.cli.queue_access import configuration, content_on_disk, entry_on_disk
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.dns.cache import CachingResolver
from ekiden.dns.cares import CaresResolver
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Client
from ekiden.policy.sender_authentication import SenderAuthentication
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.runtime.explain import listener_of_strangers
from ekiden.runtime.explain_acceptance import would_do
from ekiden.runtime.explain_authentication import Examined, Finding, findings, parted, verdicts_of
from ekiden.runtime.message_origin import origin_of
from ekiden.runtime.system_clock import SystemClock
from ekiden.tables.open import open_table

_SHOWN_CHARACTERS = 2000


def explain(options: argparse.Namespace) -> int:
    """EX_OK, whatever is found. Raises CommandTrouble."""
    found = configuration(options.config)
    if found.errors:
        raise CommandTrouble(os.EX_CONFIG, str(found.errors[0]))
    message, origin, arrived = _message(found, options)
    try:
        steps = [origin, *asyncio.run(_examine(found, message, arrived))]
    except ConfigError as error:
        raise CommandTrouble(os.EX_CONFIG, str(error)) from error
    print_lines(json.dumps(_facts(step), ensure_ascii=False) for step in steps) if options.json else _print(steps)
    return os.EX_OK


async def _examine(found: Configuration, message: Examined, arrived: float) -> list[Finding]:
    service = listener_of_strangers(found.services)
    parameters = found.parameters if service is None else found.parameters_of(service)
    clock = _Then(arrived)
    cares = CaresResolver(parameters)
    # Not the hosts file: what others publish of themselves is in DNS.
    resolver = CachingResolver(cares, clock, parameters)
    try:
        authentication = SenderAuthentication(
            parameters,
            resolver=resolver,
            clock=clock,
            open_table=partial(open_table, parameters=parameters),
            report=lambda evaluated, header: None,
        )
        verdicts = await verdicts_of(message, authentication, arrived)
        if (iprev := verdicts.iprev) is not None:
            failed = iprev.result is Result.TEMPERROR
            client = structs.replace(message.client, name=iprev.name or "unknown", name_failed=failed)
            message = structs.replace(message, client=client)
        return [*findings(verdicts), *await would_do(message, authentication)]
    finally:
        await cares.close()


class _Then(SystemClock):
    """A clock that shows when the message came; the time that passes goes on."""

    def __init__(self, at: float) -> None:
        self._at = at

    def time(self) -> float:
        return self._at


def _message(found: Configuration, options: argparse.Namespace) -> tuple[Examined, Finding, float]:
    """What is examined, where that is known from, and when it came."""
    path = Path(options.subject)
    if options.subject == "-" or path.exists():
        try:
            content = sys.stdin.buffer.read() if options.subject == "-" else path.read_bytes()
        except OSError as error:
            raise CommandTrouble(os.EX_NOINPUT, f"{path}: {error.strerror}") from error
        header, body = parted(content)
        read = origin_of(header)
        client = Client(address=read.address, helo=read.helo)
        of_client = f"Received: field {read.received} from the top" if read.received else ""
        sender, arrived = _sender(read.sender or ""), time.time()
        of_sender = "" if read.sender is None else "Return-Path:"
    else:
        entry = entry_on_disk(found, options.subject)
        if entry is None:
            raise CommandTrouble(os.EX_NOINPUT, f"{options.subject}: neither a file nor a message in the queue")
        header, body = parted(content_on_disk(entry))
        envelope, arrived = entry.message.envelope, entry.message.arrived
        client, sender = envelope.client, envelope.sender
        if _address(client.address) is None:
            client = Client(address="", helo=client.helo, login=client.login)
        of_client = of_sender = "the queue"
    if options.client:
        address = _address(options.client)
        if address is None:
            raise CommandTrouble(os.EX_USAGE, f"--client {options.client}: not an IP address")
        client, of_client = Client(address=address, helo=client.helo), "--client"
    if options.helo:
        client = Client(address=client.address, helo=options.helo, login=client.login)
        of_client = ", ".join(dict.fromkeys(part for part in (of_client, "--helo") if part))
    if options.sender is not None:
        sender, of_sender = _sender(options.sender.removeprefix("<").removesuffix(">")), "--from"
    origin = Finding(
        "message",
        "",
        f"{len(header) + 2 + len(body)} octets in canonical line ends, {len(body)} of them the body",
        (
            ("client", f"{client.address} (HELO {client.helo or 'unknown'}), from {of_client}")
            if client.address
            else ("client", "unknown"),
            ("sender", f"<{sender}>, from {of_sender}" if of_sender else "unknown, taken as <>"),
        ),
    )
    return Examined(header, body, client, sender), origin, arrived


def _sender(text: str) -> Address:
    if not text:
        return NULL_SENDER
    # What is no address by the rules of SMTP is looked at all the same.
    return parse_mailbox(text, lenient=True, utf8=True) or Address(*text.rpartition("@")[::2])


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _facts(step: Finding) -> dict[str, object]:
    return {
        "check": step.check,
        "result": step.result,
        "text": step.text,
        "details": dict(step.details),
        "setting": step.setting,
    }


def _print(steps: Iterable[Finding]) -> None:
    print_lines(_printable(line) for step in steps for line in _lines(step))


def _lines(step: Finding) -> Iterable[str]:
    yield f"{step.check:<9}{step.result:<11}{step.text}"
    for name, words in step.details:
        yield f"{'':<20}{name + ':':<11}{words}"
    if step.setting:
        yield f"{'':<20}[{step.setting}]"


def _printable(line: str) -> str:
    """What strangers wrote must not drive the terminal."""
    if len(line) > _SHOWN_CHARACTERS:
        line = line[:_SHOWN_CHARACTERS] + "..."
    return "".join(char if char.isprintable() else "?" for char in line)

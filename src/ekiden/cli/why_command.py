"""``ekiden why RECIPIENT`` and ``ekiden why QUEUEID``: what would become of mail, and which setting is the reason."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterator

from ekiden.cli.queue_access import configuration, show
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.envelope import Recipient
from ekiden.message.queued import QueueState
from ekiden.message.queueid import arrival_us
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.queue.retry import expires_at, retry_rules
from ekiden.runtime.explain import Explainer, Question, Step
from ekiden.runtime.requests import MessageLine
from ekiden.runtime.system_clock import SystemClock

_QUEUE_ID_LENGTH = 12


def run(options: argparse.Namespace) -> int:
    """EX_OK when there is a way, EX_UNAVAILABLE when the mail is refused, EX_TEMPFAIL when it would have to wait."""
    found = configuration(options.config)
    if found.errors:
        raise CommandTrouble(os.EX_CONFIG, str(found.errors[0]))
    try:
        steps = asyncio.run(_collect(found, options))
    except ConfigError as error:
        raise CommandTrouble(os.EX_CONFIG, str(error)) from error
    for step in steps:
        if options.json:
            print(json.dumps({name: getattr(step, name) for name in step.__struct_fields__}, ensure_ascii=False))
    if not options.json:
        _print(steps)
    kinds = {step.kind for step in steps}
    return os.EX_UNAVAILABLE if "refused" in kinds else os.EX_TEMPFAIL if "trouble" in kinds else os.EX_OK


async def _collect(found: Configuration, options: argparse.Namespace) -> list[Step]:
    explainer = Explainer(found, SystemClock())
    try:
        if _is_queue_id(options.subject):
            shown = show(found, options.subject)
            if shown.message is None:
                raise CommandTrouble(os.EX_DATAERR, f"{options.subject}: no such message in the queue")
            steps = _of_queue(found, explainer, shown.message)
        else:
            question = Question(
                _address(options.subject),
                _address(options.sender) if options.sender.strip("<>") else NULL_SENDER,
                options.client,
                options.helo,
            )
            steps = explainer.explain(question)
        return [step async for step in steps]
    finally:
        await explainer.close()


async def _of_queue(found: Configuration, explainer: Explainer, message: MessageLine) -> AsyncIterator[Step]:
    """What is known of a message, and the way of each recipient as it would be found now."""
    rules = retry_rules(found.parameters)
    until = expires_at(rules, message.arrived, null_sender=not message.sender)
    yield Step("queue", f"{message.state.value}, arrived {_time(message.arrived)}, {message.attempts} attempts so far")
    if message.state is QueueState.HOLD:
        yield Step("queue", "on hold: nothing happens until it is released (postsuper -H)")
    elif message.due > time.time():
        yield Step("queue", f"the next attempt is due {_time(message.due)}", "", "minimal_backoff_time")
        yield Step("queue", f"it is given up after {_time(until)}", "", "maximal_queue_lifetime")
    else:
        yield Step("queue", "the next attempt is due now")
    sender = _address(message.sender) if message.sender else NULL_SENDER
    for recipient in message.recipients:
        if recipient.reason:
            yield Step("last", recipient.reason, recipient.address)
        original = _address(recipient.original) if recipient.original else None
        asked = Recipient(_address(recipient.address), original)
        async for step in explainer.way_of(asked, sender, message.content_filter):
            yield step


def _print(steps: list[Step]) -> None:
    about = ""
    for step in steps:
        if step.recipient != about:
            about = step.recipient
            print(f"\n{about}" if about else "")
        print(f"  {step.kind:<10}{step.text}")
        if step.setting or step.place:
            print(f"{'':<12}[{', '.join(part for part in (step.setting, step.place) if part)}]")


def _is_queue_id(text: str) -> bool:
    if "@" in text or len(text) < _QUEUE_ID_LENGTH or "z" not in text[-3:]:
        return False
    try:
        arrival_us(text)
    except ValueError:
        return False
    return True


def _address(text: str) -> Address:
    address = parse_mailbox(text.removeprefix("<").removesuffix(">"), lenient=True, utf8=True)
    if address is None:
        raise CommandTrouble(os.EX_USAGE, f"{text!r} is not an address")
    return address


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))

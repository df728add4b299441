"""Changes to a queue that no server works on: each shard is taken into possession, changed and let go.

Errors: ShardInUse when a server starts meanwhile, StoreTrouble, PrivilegeTrouble.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.observe.log import MailLog
from ekiden.queue.on_disk import shard_numbers
from ekiden.queue.schema import database, shard_directory
from ekiden.queue.sqlite_store import SqliteStore
from ekiden.runtime.privileges import become, find_owner
from ekiden.runtime.queue_changes import NoScheduler, QueueChanges
from ekiden.runtime.requests import Changed, ChangeMessages
from ekiden.runtime.system_clock import SystemClock


def change_offline(parameters: Parameters, requests: Sequence[ChangeMessages]) -> list[Changed]:
    """Apply the requests in their order; one answer each. This process is the mail_owner afterwards."""
    if not shard_numbers(Path(parameters.queue_directory)):
        return [Changed(0) for _ in requests]
    log = MailLog(parameters, hostname=parameters.myhostname.partition(".")[0], pid=os.getpid(), clock_time=time.time)
    # What is written belongs to the owner of the queue, who must be able to read it when the server runs again.
    become(find_owner(parameters))
    try:
        return asyncio.run(_change(parameters, requests, log))
    finally:
        log.close()


async def _change(parameters: Parameters, requests: Sequence[ChangeMessages], log: MailLog) -> list[Changed]:
    clock, spool = SystemClock(), Path(parameters.queue_directory)
    answers = [Changed(0) for _ in requests]
    for shard in shard_numbers(spool):
        if not database(shard_directory(spool, shard)).exists():
            continue
        store = await SqliteStore.open(spool, shard=shard, clock=clock, parameters=parameters)
        try:
            changes = QueueChanges(store, NoScheduler(), log, clock, lambda: parameters.control_listing_limit)
            for at, request in enumerate(requests):
                changed = await changes.apply(request)
                answers[at] = Changed(answers[at].count + changed.count, answers[at].queue_ids + changed.queue_ids)
        finally:
            await store.close()
    return answers

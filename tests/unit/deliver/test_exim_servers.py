"""Our client with the server dialogues of Exim's test suite: each reply means for a recipient what its code says.

exim_servers.toml has a row for each dialogue that is not played, and for those where something else is right.
"""

from __future__ import annotations

import asyncio
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.smtp import SmtpAgent
from ekiden.runtime.system_clock import SystemClock
from support.exim_scripts import Dialogue, dialogues
from support.exim_server import Outcome, ScriptedServer
from support.requirements import ROOT, require_conformance
from support.smtp_delivery import Notes, agent_for, request, run

ROWS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("exim_servers.toml").read_text("utf-8"))
LOGIN = {
    "smtp_sasl_auth_enable": "yes",
    "smtp_sasl_password_maps": "static:userx:secret",
    "smtp_sasl_security_options": "noanonymous",
}
_ACTIONS = {"2": "relayed", "5": "failed"}


@cache
def found() -> dict[str, Dialogue]:
    folder = ROOT.parent / "shared" / "conformance" / "smtp" / "exim" / "scripts"
    return {each.name: each for each in dialogues(folder) if not each.is_client} if folder.exists() else {}


PLAYED = [name for name in found() if "not" not in ROWS.get(name, {})]


def test_every_dialogue_is_played_or_has_a_reason() -> None:
    require_conformance("smtp", "exim", "scripts")
    assert len(found()) == 187
    assert not set(ROWS) - set(found()), "rows of dialogues that are not there"
    left_out = {name: row["not"] for name, row in ROWS.items() if "not" in row}
    assert all(left_out.values())
    assert all("not" in row or "login" in row or row["why"] for row in ROWS.values())
    print(f"{len(PLAYED)} of {len(found())} server dialogues of Exim are played, {len(left_out)} are not:")
    for name, reason in left_out.items():
        print(f"  {name}: {reason}")
    assert len(PLAYED) == len(found()) - len(left_out)


@pytest.mark.parametrize("name", PLAYED)
def test_the_codes_of_the_server_decide(name: str) -> None:
    outcome = Outcome(found()[name])
    count = max(1, outcome.recipient_count)
    settings = LOGIN if ROWS.get(name, {}).get("login") else {}

    async def work() -> None:
        async with ScriptedServer(found()[name]) as server:

            async def hosts(_next_hop: str) -> list[Any]:
                return [server.host]

            agent: SmtpAgent | LmtpAgent
            if outcome.is_lmtp:
                parameters = Parameters({"myhostname": "me.example"})
                agent = LmtpAgent(parameters, hosts_for=hosts, clock=SystemClock(), observer=Notes())
            else:
                agent = agent_for(server.host, settings={"smtp_connection_cache_on_demand": "no", **settings})
            async with asyncio.timeout(15):
                results = await agent.deliver(request(*(f"r{number}" for number in range(count))))
            await agent.close()
            expected = [_ACTIONS.get(outcome.of_recipient(number)[:1], "delayed") for number in range(count)]
            expected = ROWS.get(name, {}).get("ours", expected)
            assert [result.action.value for result in results] == expected, [result.text for result in results]
            assert not server.trouble, server.said

    run(work())

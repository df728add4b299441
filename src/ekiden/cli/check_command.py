"""``ekiden check``: what is wrong in the configuration and with its directories, a line a problem."""

from __future__ import annotations

import argparse
import json
import os

from ekiden.cli.queue_access import configuration
from ekiden.config.check import check
from ekiden.config.problem import Level, Problem
from ekiden.runtime.access_check import check_access
from ekiden.runtime.directory_check import check_directories
from ekiden.runtime.dkim_check import check_dkim
from ekiden.runtime.keys_check import check_keys
from ekiden.runtime.listeners import ListenTrouble, wanted_listeners
from ekiden.runtime.stations_check import check_stations
from ekiden.runtime.system_clock import SystemClock
from ekiden.sasl.check import check_accounts
from ekiden.tables.check import check_tables


def run(options: argparse.Namespace) -> int:
    """EX_OK when there are no errors, else EX_CONFIG."""
    found = configuration(options.config)
    problems = [*check(found), *check_tables(found), *check_access(found), *check_directories(found)]
    try:
        wanted_listeners(found.services, found.parameters)
    except ListenTrouble as error:
        problems.append(Problem(found.master_cf, 0, Level.ERROR, str(error)))
    if not found.errors:
        problems += [*check_keys(found), *check_dkim(found)]
    if not any(problem.level is Level.ERROR for problem in problems):
        # Made of values and tables that are wrong, the stations would only say again what has been said.
        problems += check_stations(found)
        problems += check_accounts(found, SystemClock())
    for problem in dict.fromkeys(problems):
        if options.json:
            facts = {"file": problem.file, "line": problem.line, "level": problem.level.value, "text": problem.text}
            print(json.dumps(facts, ensure_ascii=False))
        else:
            print(problem)
    return os.EX_CONFIG if any(problem.level is Level.ERROR for problem in problems) else os.EX_OK

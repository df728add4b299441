"""``ekiden user ...``: the accounts in our own account file.

Passwords come from the terminal or from standard input, never from the command line, which others can see.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ekiden.cli.queue_access import configuration
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.runtime.privileges import PrivilegeTrouble, find_owner
from ekiden.runtime.system_clock import SystemClock
from ekiden.sasl.account_changes import (
    ScramPolicy,
    prepared_password,
    with_app_password,
    with_password,
    with_totp,
    without_app_password,
)
from ekiden.sasl.account_file import Account, AccountFile, AccountFileTrouble, folded_name
from ekiden.sasl.accounts import HashName, Outcome, Verdict
from ekiden.sasl.last_used import utc_day
from ekiden.sasl.open import last_used_of, open_accounts
from ekiden.sasl.totp import accepted_step, enrolment_url

_LINE_LIMIT = 65_536


def add(options: argparse.Namespace) -> int:
    file, parameters = _file(options)
    try:
        name = folded_name(options.name, stored=True)
    except ValueError as error:
        raise CommandTrouble(os.EX_DATAERR, f"the name cannot be used: {error}") from error
    account = Account(name, changed=_today())
    if not options.no_password:
        account = with_password(account, _new_password(parameters), _scram(parameters), _today())

    def edit(accounts: dict[str, Account]) -> None:
        if name in accounts:
            raise CommandTrouble(os.EX_DATAERR, f"there is an account {name} already")
        accounts[name] = account

    _change(file, parameters, edit)
    return os.EX_OK


def passwd(options: argparse.Namespace) -> int:
    file, parameters = _file(options)
    _must_exist(file, options.name)
    password = _new_password(parameters)

    def edit(account: Account) -> Account:
        return with_password(account, password, _scram(parameters), _today())

    _change_one(file, parameters, options.name, edit)
    return os.EX_OK


def disable(options: argparse.Namespace) -> int:
    """Also enable: ``options.disabled`` says which."""
    from msgspec.structs import replace

    file, parameters = _file(options)
    _change_one(file, parameters, options.name, lambda account: replace(account, disabled=options.disabled))
    return os.EX_OK


def delete(options: argparse.Namespace) -> int:
    file, parameters = _file(options)

    def edit(accounts: dict[str, Account]) -> None:
        del accounts[_existing(accounts, options.name).name]

    _change(file, parameters, edit)
    return os.EX_OK


def list_accounts(options: argparse.Namespace) -> int:
    file, _ = _file(options)
    accounts = _read(file)
    for account in (accounts[name] for name in sorted(accounts)):
        scram = sorted({text.partition("$")[0] for text in account.scram})
        facts = {
            "name": account.name,
            "disabled": account.disabled,
            "password": bool(account.password),
            "changed": account.changed,
            "app_passwords": len(account.app_passwords),
            "totp": bool(account.totp),
            "scram": scram,
        }
        if options.json:
            print(json.dumps(facts, ensure_ascii=False))
            continue
        words = ["disabled"] if account.disabled else []
        words += [] if account.password else ["no password"]
        words += ["TOTP"] if account.totp else []
        words += [f"{len(account.app_passwords)} app passwords"] if account.app_passwords else []
        words += scram
        print(f"{account.name}\t{account.changed or '-'}\t{', '.join(words)}".rstrip())
    return os.EX_OK


def check(options: argparse.Namespace) -> int:
    """Whether name and password are right, asked of all places in sasl_accounts as the server would."""
    _, parameters = _configuration(options)
    try:
        verdict = asyncio.run(_verify(parameters, options.name, _one_line("Password: ")))
    except ConfigError as error:
        raise CommandTrouble(os.EX_CONFIG, str(error)) from error
    facts = {"outcome": verdict.outcome.value, "account": verdict.account, "detail": verdict.detail}
    if options.json:
        print(json.dumps(facts | {"app_password": verdict.app_password}, ensure_ascii=False))
    else:
        print(f"{verdict.outcome.value}: {verdict.detail or verdict.account}")
    if verdict.outcome is Outcome.UNAVAILABLE:
        return os.EX_TEMPFAIL
    return os.EX_OK if verdict.accepted else os.EX_NOPERM


async def _verify(parameters: Parameters, name: str, password: str) -> Verdict:
    accounts = open_accounts(parameters, SystemClock(), notes_use=False)
    try:
        return await accounts.verify(name, password)
    finally:
        await accounts.aclose()


# --- app passwords


def add_app_password(options: argparse.Namespace) -> int:
    file, parameters = _file(options)
    shown = ""

    def edit(account: Account) -> Account:
        nonlocal shown
        changed, shown = with_app_password(account, options.label, _scram(parameters), _today())
        return changed

    _change_one(file, parameters, options.name, edit)
    print(json.dumps({"password": shown}) if options.json else shown)
    return os.EX_OK


def list_app_passwords(options: argparse.Namespace) -> int:
    file, parameters = _file(options)
    account = _existing(_read(file), options.name)
    days = last_used_of(parameters, SystemClock()).read().get(account.name, {})
    for each in account.app_passwords:
        facts = {"name": each.name, "created": each.created, "last_used": days.get(each.name)}
        if options.json:
            print(json.dumps(facts, ensure_ascii=False))
        else:
            print(f"{each.name}\tcreated {each.created}\tlast used {facts['last_used'] or 'never'}")
    return os.EX_OK


def revoke_app_password(options: argparse.Namespace) -> int:
    file, parameters = _file(options)
    _change_one(file, parameters, options.name, lambda account: without_app_password(account, options.label))
    return os.EX_OK


# --- the second factor


def totp_on(options: argparse.Namespace) -> int:
    file, parameters = _file(options)
    made = ""

    def edit(account: Account) -> Account:
        nonlocal made
        if account.totp:
            raise CommandTrouble(os.EX_DATAERR, f"{account.name} has TOTP already; turn it off first for a new secret")
        changed = with_totp(account)
        made = changed.totp
        return changed

    account = _change_one(file, parameters, options.name, edit)
    url = enrolment_url(made, account, parameters.myhostname)
    if options.json:
        print(json.dumps({"secret": made, "url": url}))
    else:
        print(
            f"secret: {made}\n{url}\nMail programs now need app passwords: ekiden user app-password add {account} NAME"
        )
    return os.EX_OK


def totp_off(options: argparse.Namespace) -> int:
    from msgspec.structs import replace

    file, parameters = _file(options)
    _change_one(file, parameters, options.name, lambda account: replace(account, totp=""))
    return os.EX_OK


def totp_check(options: argparse.Namespace) -> int:
    file, _ = _file(options)
    account = _existing(_read(file), options.name)
    if not account.totp:
        raise CommandTrouble(os.EX_DATAERR, f"{account.name} has no TOTP")
    if accepted_step(account.totp, _one_line("Code: "), time.time()) is None:
        raise CommandTrouble(os.EX_NOPERM, "the code is wrong")
    return os.EX_OK


# --- what all have in common


def _configuration(options: argparse.Namespace) -> tuple[Path, Parameters]:
    found = configuration(options.config)
    return found.directory, found.parameters


def _file(options: argparse.Namespace) -> tuple[AccountFile, Parameters]:
    """The first account file of sasl_accounts."""
    _, parameters = _configuration(options)
    for word in parameters.sasl_accounts:
        kind, _, where = word.partition(":")
        if kind == "file" and where.startswith("/"):
            return AccountFile(Path(where)), parameters
        if kind == "file" and where:
            return AccountFile(Path(os.path.abspath(where))), parameters
    raise CommandTrouble(os.EX_CONFIG, "sasl_accounts names no file:/path: these accounts are kept elsewhere")


def _read(file: AccountFile) -> dict[str, Account]:
    try:
        return file.read()
    except AccountFileTrouble as trouble:
        raise CommandTrouble(os.EX_CONFIG, str(trouble)) from trouble


def _change(file: AccountFile, parameters: Parameters, edit: Callable[[dict[str, Account]], None]) -> None:
    """The server, which does not run as root, must be able to read a file that root makes."""
    try:
        owner = find_owner(parameters)
    except PrivilegeTrouble as trouble:
        raise CommandTrouble(os.EX_CONFIG, str(trouble)) from trouble
    try:
        file.change(edit, owner=(owner.uid, owner.gid))
    except AccountFileTrouble as trouble:
        raise CommandTrouble(os.EX_CANTCREAT, str(trouble)) from trouble
    except ValueError as error:
        raise CommandTrouble(os.EX_DATAERR, str(error)) from error


def _change_one(file: AccountFile, parameters: Parameters, name: str, edit: Callable[[Account], Account]) -> str:
    """The canonical name of the account."""
    changed = ""

    def edit_all(accounts: dict[str, Account]) -> None:
        nonlocal changed
        account = _existing(accounts, name)
        accounts[account.name] = edit(account)
        changed = account.name

    _change(file, parameters, edit_all)
    return changed


def _existing(accounts: dict[str, Account], name: str) -> Account:
    try:
        return accounts[folded_name(name)]
    except (KeyError, ValueError):
        raise CommandTrouble(os.EX_NOUSER, f"there is no account {name}") from None


def _must_exist(file: AccountFile, name: str) -> None:
    """Before anybody is asked for a password."""
    _existing(_read(file), name)


def _scram(parameters: Parameters) -> ScramPolicy:
    hashes: list[HashName] = [name for name in ("sha1", "sha256") if name in parameters.sasl_scram_hashes]
    return ScramPolicy(hashes, parameters.sasl_scram_iterations)


def _today() -> str:
    return utc_day(time.time())


def _new_password(parameters: Parameters) -> str:
    """From the terminal, twice, or a line of standard input."""
    password = _one_line("New password: ")
    if sys.stdin.isatty() and getpass.getpass("Once more: ") != password:
        raise CommandTrouble(os.EX_DATAERR, "the passwords are not the same")
    try:
        return prepared_password(password, parameters.sasl_password_length_minimum)
    except ValueError as error:
        raise CommandTrouble(os.EX_DATAERR, str(error)) from error


def _one_line(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    line = sys.stdin.buffer.readline(_LINE_LIMIT)
    return line.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")

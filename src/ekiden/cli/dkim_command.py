"""``ekiden dkim ...``: the keys of DKIM signatures made, shown with their DNS records, and changed for new ones.

Private keys are never printed. What is printed for a zone is in the form of zone files, its comments too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from ekiden.auth.dkim.keys import (
    ED25519_SHA256,
    RSA_SHA256,
    KeyTrouble,
    SigningKey,
    new_private_key,
    selector_name,
    signing_key,
    zone_lines,
)
from ekiden.auth.dkim.published import Finding, Published, look
from ekiden.cli.printable import printable
from ekiden.cli.queue_access import complain, configuration
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.errors import ConfigError
from ekiden.config.load import Configuration
from ekiden.config.snapshot import Parameters
from ekiden.dns.cares import CaresResolver
from ekiden.dns.name import host_name
from ekiden.policy.dkim_signing import KeyRing, NamedKey, listed_keys
from ekiden.runtime.key_vault import key_files_of
from ekiden.tables.table import TableTrouble
from ekiden.tls.key_files import table_entries

_ALGORITHMS = {"rsa": (RSA_SHA256,), "ed25519": (ED25519_SHA256,), "both": (RSA_SHA256, ED25519_SHA256)}
_SHORT = {RSA_SHA256: "rsa", ED25519_SHA256: "ed25519"}
_NAMES_TRIED = 100  # of a day


class _Made(Struct, frozen=True):
    key: SigningKey
    file: str


class _Configured(Struct, frozen=True):
    """A key of the table. ``trouble``: why it cannot be used."""

    entry: str
    named: NamedKey
    key: SigningKey | None
    trouble: str = ""


def keygen(options: argparse.Namespace) -> int:
    parameters = configuration(options.config).parameters
    made = _make(parameters, options, _domain(options.domain), _ALGORITHMS[options.algorithm])
    print_lines(line for each in made for line in _zone(each))
    print_lines(
        [
            "; to sign with it, dkim_signing_table needs the entry:",
            f";   {_entry(parameters, made[0].key.domain, made)}",
        ]
    )
    return os.EX_OK


def show(options: argparse.Namespace) -> int:
    """EX_DATAERR when a key cannot be used or the DNS has another record, EX_TEMPFAIL when the DNS does not answer."""
    found = configuration(options.config)
    wanted = {_domain(domain) for domain in options.domains}
    keys = [each for each in _configured(found) if not wanted or each.named.domain in wanted]
    findings = asyncio.run(_look(found.parameters, keys)) if options.check else [None] * len(keys)
    if options.json:
        print_lines(
            json.dumps(_facts(each, finding), ensure_ascii=False) for each, finding in zip(keys, findings, strict=True)
        )
    else:
        print_lines(line for pair in zip(keys, findings, strict=True) for line in _lines(*pair))
    states = {finding.state for finding in findings if finding is not None}
    if any(each.trouble for each in keys) or states & {Published.MISSING, Published.WRONG}:
        return os.EX_DATAERR
    return os.EX_TEMPFAIL if Published.UNKNOWN in states else os.EX_OK


def rotate(options: argparse.Namespace) -> int:
    found = configuration(options.config)
    parameters, domain = found.parameters, _domain(options.domain)
    old = [each for each in _configured(found) if each.named.domain == domain]
    if not old:
        text = f"dkim_signing_table has no key of {domain}; make the first with: ekiden dkim keygen {domain}"
        raise CommandTrouble(os.EX_DATAERR, text)
    kinds = dict.fromkeys(each.key.algorithm for each in old if each.key is not None)
    made = _make(parameters, options, domain, tuple(kinds) or (RSA_SHA256,))
    print_lines(_steps(parameters, domain, old, made))
    return os.EX_OK


# -- making ----------------------------------------------------------------------------------------------------------


def _make(parameters: Parameters, options: argparse.Namespace, domain: str, algorithms: Sequence[str]) -> list[_Made]:
    """A key for each algorithm, in files that nobody but their owner may read. Raises CommandTrouble."""
    folder = Path(os.path.normpath(parameters.dkim_key_directory)) / domain
    made: list[_Made] = []
    for algorithm in algorithms:
        suffix = f"-{_SHORT[algorithm]}" if len(algorithms) > 1 else ""
        try:
            selector = selector_name(options.selector + suffix) if options.selector else _unused(folder, suffix)
            pem = new_private_key(algorithm, bits=options.bits)
            key = signing_key(domain, selector, pem)
        except KeyTrouble as trouble:
            raise CommandTrouble(os.EX_USAGE, str(trouble)) from trouble
        file = folder / f"{selector}.pem"
        _write(file, pem)
        made.append(_Made(key, str(file)))
    return made


def _unused(folder: Path, suffix: str) -> str:
    """A selector of today's date that no file has yet."""
    day = time.strftime("%Y%m%d", time.gmtime())
    for number in range(1, _NAMES_TRIED):
        selector = f"{day}{suffix}" if number == 1 else f"{day}-{number}{suffix}"
        if not (folder / f"{selector}.pem").exists():
            return selector
    raise CommandTrouble(os.EX_CANTCREAT, f"{folder}: there are {_NAMES_TRIED} keys of today")


def _write(file: Path, pem: bytes) -> None:
    """Never in the place of a key that is there, which may be in use."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CommandTrouble(os.EX_CANTCREAT, f"{file} is there already: choose another --selector") from error
    except OSError as error:
        raise CommandTrouble(os.EX_CANTCREAT, f"{error.filename}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as opened:
        os.fchmod(descriptor, 0o600)
        opened.write(pem)
        opened.flush()
        os.fsync(descriptor)


def _entry(parameters: Parameters, entry: str, made: Sequence[_Made]) -> str:
    """A line of the table; files are named as below the directory of keys."""
    directory = os.path.normpath(parameters.dkim_key_directory)
    words = (f"{each.key.domain}:{each.key.selector}:{os.path.relpath(each.file, directory)}" for each in made)
    return f"{entry}    {', '.join(words)}"


def _zone(each: _Made) -> Iterator[str]:
    yield f"; {each.key.algorithm}, {each.key.bits} bits, {each.file}"
    yield from zone_lines(each.key.record_name, each.key.record).splitlines()


def _steps(parameters: Parameters, domain: str, old: Sequence[_Configured], made: Sequence[_Made]) -> Iterator[str]:
    """From the old keys to the new ones, without a moment in which a signature of either cannot be verified."""
    days = max(1, -(-int(parameters.maximal_queue_lifetime) // 86400)) + 2
    yield "; 1. Put these records into DNS, and leave the old ones there:"
    for each in made:
        yield from _zone(each)
    yield "; 2. Wait until all name servers have them, and for as long as resolvers may remember that they were not"
    yield ";    there (the last number of the zone's SOA record, in seconds)."
    yield "; 3. In dkim_signing_table, put the new keys in place of the old ones (postmap, where it is a compiled one):"
    for entry in dict.fromkeys(each.entry for each in old):
        yield f";      {_entry(parameters, entry, made)}"
    yield f";    and see that all is well: ekiden dkim show --check {domain}"
    yield f"; 4. After {days} days, when nothing is on its way any more that was signed with the old keys,"
    yield ";    take their records out of DNS (or leave them with an empty p=, which says: revoked)"
    yield ";    and remove their files:"
    for name in dict.fromkeys((each.named.selector, each.named.file) for each in old):
        yield f";      {name[0]}._domainkey.{domain}    {name[1]}"


# -- looking ---------------------------------------------------------------------------------------------------------


def _configured(found: Configuration) -> list[_Configured]:
    """The keys of all services' tables, each once; tables that cannot be listed are told of."""
    files = key_files_of(found)
    ring = KeyRing(lambda: files)
    keys: dict[NamedKey, _Configured] = {}
    seen: set[tuple[str, str]] = set()
    for parameters in (found.parameters, *(found.parameters_of(service) for service in found.services)):
        directory = os.path.normpath(parameters.dkim_key_directory)
        for word in parameters.dkim_signing_table:
            if (word, directory) in seen:
                continue
            seen.add((word, directory))
            try:
                entries = list(table_entries(word, parameters, what="what is shown"))
            except (ConfigError, TableTrouble) as error:
                complain(f"warning: {error}")
                continue
            for entry, named in listed_keys(entries, directory):
                if isinstance(named, KeyTrouble):
                    complain(f"warning: {word}: {entry}: {named}")
                elif named not in keys:
                    keys[named] = _read(ring, entry, named)
    return list(keys.values())


def _read(ring: KeyRing, entry: str, named: NamedKey) -> _Configured:
    try:
        return _Configured(entry, named, ring.key(named))
    except KeyTrouble as trouble:
        return _Configured(entry, named, None, str(trouble))


async def _look(parameters: Parameters, keys: Sequence[_Configured]) -> list[Finding | None]:
    resolver = CaresResolver(parameters)
    return [None if each.key is None else await look(resolver, each.key) for each in keys]


def _lines(each: _Configured, finding: Finding | None) -> Iterator[str]:
    if each.key is None:
        yield f"; {each.named.file}: {each.trouble}"
        return
    yield f"; {each.key.algorithm}, {each.key.bits} bits, {each.named.file}"
    if each.key.advice:
        yield f"; note: {each.key.advice}"
    if finding is not None:
        yield printable(f"; DNS: {finding.state.value}{': ' if finding.text else ''}{finding.text}")
    yield from zone_lines(each.key.record_name, each.key.record).splitlines()


def _facts(each: _Configured, finding: Finding | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "domain": each.named.domain,
        "selector": each.named.selector,
        "file": each.named.file,
        "entry": each.entry,
    }
    if each.key is None:
        return {**facts, "trouble": each.trouble}
    facts |= {
        "algorithm": each.key.algorithm,
        "bits": each.key.bits,
        "name": each.key.record_name,
        "record": each.key.record,
        "note": each.key.advice,
    }
    return facts if finding is None else {**facts, "dns": finding.state.value, "dns_reason": finding.text}


def _domain(text: str) -> str:
    domain = host_name(text)
    if domain is None:
        raise CommandTrouble(os.EX_USAGE, f"{text!r} is not the name of a domain")
    return domain

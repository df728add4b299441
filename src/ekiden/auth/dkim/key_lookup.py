"""Asks DNS for the keys of signatures, and picks those that are for a signer (RFC 6376 §6.1.2).

In:   those who signed, as signatures of DKIM and ARC name them; a Resolver.
Out:  for each signer the key records that may be used for it, or what is wrong, in plain words.
Never: asks for a name twice; takes silence of DNS for the absence of a key; judges a key again that it has seen lately.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from ekiden.auth.dkim.key_record import (
    RECORD_OCTETS_LIMIT,
    KeyRecord,
    KeyRecordError,
    NotKeyRecord,
    parse_key_record,
)
from ekiden.auth.dkim.signature import Signer
from ekiden.auth.verdict import Result
from ekiden.dns.cache import remembered_txt
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Resolver


class Keys(Struct, frozen=True):
    """``result`` is NONE where there are records, else what becomes of the signature, for the reason ``trouble``."""

    records: tuple[KeyRecord, ...] = ()
    result: Result = Result.NONE
    trouble: str = ""


class KeyLookups:
    """``records`` of one name are read, ``keys`` of one name tried: RFC 6376 §3.6.2.2 leaves open what several mean.

    ``time_s``: for one look-up.
    """

    def __init__(self, resolver: Resolver, *, records: int, keys: int, time_s: float) -> None:
        self._resolver = resolver
        self._records = records
        self._keys = keys
        self._time_s = time_s
        self._known: dict[str, Answer[bytes]] = {}  # what need not be asked for
        self._asked: dict[str, asyncio.Task[Answer[bytes] | DnsTrouble]] = {}

    def begin(self, signer: Signer) -> None:
        """Begins a look-up, of each name once. Needs a running event loop."""
        name = signer.key_name
        if name in self._known or name in self._asked:
            return
        known = remembered_txt(self._resolver, name)
        if known is None:
            self._asked[name] = asyncio.create_task(self._ask(name))
        else:
            self._known[name] = known

    def cancel(self) -> None:
        for question in self._asked.values():
            question.cancel()

    async def keys(self, signer: Signer) -> Keys:
        """Of a look-up that was begun."""
        name = signer.key_name
        answer = self._known.get(name)
        if answer is None:
            found = await self._asked[name]
            if isinstance(found, DnsTrouble):
                # RFC 6376 §6.1.2: the verifier may try later; it learns nothing from it.
                return Keys((), Result.TEMPERROR, f"no answer about the key {name}: {found}")
            answer = found
        if answer.found is not Found.RECORDS:
            return Keys((), Result.PERMERROR, f"there is no key {name} ({answer.found.value})")
        texts = answer.records[: self._records]
        # Nearly all selectors have one key, which serves for mail after mail.
        fit = _known_fit if len(texts) == 1 and len(texts[0]) <= RECORD_OCTETS_LIMIT else _fit
        is_below = signer.identity_domain != signer.domain
        return fit(name, signer.key_type, signer.hash_name, is_below, texts, self._keys)

    async def _ask(self, name: str) -> Answer[bytes] | DnsTrouble:
        try:
            async with asyncio.timeout(self._time_s):
                return await self._resolver.txt(name)
        except DnsTrouble as trouble:
            return trouble
        except TimeoutError:
            return DnsTrouble(f"not within {self._time_s:g} s")


def _fit(name: str, key_type: str, hash_name: str, is_below: bool, texts: Sequence[bytes], limit: int) -> Keys:
    """Those of a name's records that are for a signer, up to a limit; or what is wrong with the first that is not.

    Of the signer only what keys are for: all of it may be as long as a header, and what is remembered must not be.
    """
    fit: list[KeyRecord] = []
    trouble = ""
    for text in texts:
        try:
            record = parse_key_record(text)
        except NotKeyRecord:
            continue
        except KeyRecordError as error:
            trouble = trouble or f"{error} ({name})"
            continue
        unfit = record.unfit(key_type, hash_name, is_below=is_below)
        if unfit:
            trouble = trouble or f"{unfit} ({name})"
        else:
            fit.append(record)
    if fit:
        return Keys(tuple(fit[:limit]))
    return Keys((), Result.PERMERROR, trouble or f"there is no key {name}, only records about other things")


_known_fit = lru_cache(maxsize=512)(_fit)

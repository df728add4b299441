"""What we found of a message when it came in, read from the Authentication-Results field that we gave it then.

That field is what a forwarder seals (RFC 8617 §4.1.1), and it is all that is known when the message leaves again. Only
where every such field of others was removed on the way in is the topmost of our name our own.
"""

from __future__ import annotations

import re

from msgspec import Struct

from ekiden.auth.arc.chain import collect, results_value
from ekiden.auth.dkim.canonical import SignableHeader
from ekiden.auth.results.read import ResultsError, parse
from ekiden.auth.results.remove import same_identifier
from ekiden.auth.verdict import ArcVerdict, Result

_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
_CHAIN = {result.value: result for result in (Result.NONE, Result.PASS, Result.FAIL, Result.TEMPERROR)}


class Recorded(Struct, frozen=True):
    """``results`` is text as results_text() makes it; ``chain`` says of the chain before what the field says."""

    results: str
    chain: ArcVerdict


def recorded(header: SignableHeader, authserv_id: str) -> Recorded | None:
    """None where no field is of ours, or it says nothing of a chain."""
    for field in header.named(b"authentication-results"):
        value = field.value
        try:
            read = parse(value)
        except ResultsError:
            continue
        if not same_identifier(read.authserv_id, authserv_id):
            continue
        found = next((one for one in read.results if one.method == "arc"), None)
        result = _CHAIN.get(found.result) if found is not None else None
        if found is None or result is None:
            return None
        return Recorded(_results(value), ArcVerdict(result, reason=found.reason))
    return None


def is_sealed(header: SignableHeader, found: Recorded) -> bool:
    """The newest set tells just that: the seal was put on as the message came in."""
    sets = collect(header).sets
    return bool(sets) and _results(results_value(sets[-1].results.value)) == found.results


def _results(value: bytes) -> str:
    """Without the authserv-id, which we write as one word, with no version behind it (RFC 8601 §2.2)."""
    text = _FOLD.sub(" ", value.decode("utf-8", "replace").rstrip("\r\n"))
    return text.partition(";")[2].strip()

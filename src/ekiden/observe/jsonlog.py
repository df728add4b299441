"""Events as JSON, one object a line, for programs that would rather not parse text.

Every line has ``time`` (UTC, RFC 3339), ``host``, ``pid``, ``type`` (the event's tag) and the event's own fields.
A delivery result has its status as text (``"dsn": "2.0.0"``) and its action as the log's word is in Postfix's format.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ekiden.observe.events import Attempted, Event

_encode = msgspec.json.Encoder().encode
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode_event(event: Event) -> bytes:
    """The event's object, without the facts about the line."""
    try:
        if type(event) is Attempted:
            return _encode(_attempt(event))
        return _encode(event)
    except UnicodeEncodeError:
        # A lone surrogate stands for a byte of a peer that was no UTF-8, which JSON cannot hold.
        value = _attempt(event) if type(event) is Attempted else msgspec.to_builtins(event)
        return _encode(_without_surrogates(value))


def json_line(event: Event, head: bytes) -> bytes:
    """One line; ``head`` is what ``line_head`` gave, such as ``{"time":...,"host":...,"pid":1,``."""
    return head + encode_event(event)[1:]


def line_head(time_text: str, host: str, pid: int) -> bytes:
    return _encode({"time": time_text, "host": host, "pid": pid})[:-1] + b","


def _attempt(event: Attempted) -> dict[str, object]:
    result = event.result
    return {
        "type": "attempt",
        "queue_id": event.queue_id,
        "transport": event.transport,
        "recipient": event.recipient,
        "original": event.original,
        "relay": result.relay,
        "action": result.action.value,
        "dsn": str(result.status),
        "text": result.text,
        "diagnostic": result.diagnostic,
        "remote_mta": result.remote_mta,
        "tls": result.tls,
        "delay_s": round(event.delay_s, 4),
        "delays_s": [round(delay, 4) for delay in event.delays_s],
    }


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(_escaped, value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

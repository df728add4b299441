"""The look-up keys that ``postmap -h`` and ``-b`` make of a message: its header fields, or the lines of its body.

With ``mime`` the headers of parts and of messages inside count as headers and not as body (header_checks(5)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FIELD = re.compile(r"[!-9;-~]+[ \t]*:")
_BOUNDARY = re.compile(r"""boundary[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))""", re.IGNORECASE)
# More boundaries inside each other than this are text, as for the server (mime_nesting_limit).
_DEEPEST = 100


def message_keys(text: str, *, headers: bool, bodies: bool, mime: bool) -> Iterator[str]:
    """Each header field with its continuation lines, and each line of the body, the empty one before it first."""
    return (key for is_header, key in _keys(text, mime=mime) if (headers if is_header else bodies))


def _keys(text: str, *, mime: bool) -> Iterator[tuple[bool, str]]:
    """(is a header field, text)."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    boundaries: list[str] = []
    at, is_top = 0, True
    in_header = True
    while True:
        if in_header:
            fields, at = _fields(lines, at)
            yield from ((True, field) for field in fields)
            ended = at < len(lines) and lines[at] == ""
            if ended or (is_top and at < len(lines)):
                yield False, ""  # a header that does not end with an empty line gets one
            at += ended
            is_top = False
            kind, boundary = _content_type(fields) if mime else ("", "")
            in_header = ended and kind == "message"
            if boundary and len(boundaries) < _DEEPEST:
                boundaries.append(boundary)
            continue
        if at >= len(lines):
            return
        line = lines[at]
        at += 1
        yield False, line
        for depth in range(len(boundaries) - 1, -1, -1):
            delimiter = f"--{boundaries[depth]}"
            if line.startswith(delimiter):
                last = line.startswith("--", len(delimiter))
                del boundaries[depth + (not last) :]
                in_header = not last
                break


def _fields(lines: list[str], at: int) -> tuple[list[str], int]:
    """The header fields that begin at a line, and the line behind them."""
    fields: list[str] = []
    while at < len(lines):
        line = lines[at]
        if line[:1] in (" ", "\t") and fields:
            fields[-1] += f"\n{line}"
        elif _FIELD.match(line):
            fields.append(line)
        else:
            break
        at += 1
    return fields, at


def _content_type(fields: list[str]) -> tuple[str, str]:
    """ "message" or "multipart" with its boundary, or nothing that matters."""
    for field in fields:
        name, _, value = field.partition(":")
        if name.strip().lower() != "content-type":
            continue
        kind = value.strip().lower()
        if kind.startswith(("message/rfc822", "message/global")):
            return "message", ""
        if kind.startswith("multipart/") and (found := _BOUNDARY.search(value)) is not None:
            return "multipart", re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
    return "", ""

"""The structure of a MIME message (RFC 2045, RFC 2046) as it streams by, in bounded memory.

In:   the content in any chunking, lines ended by CRLF.
Out:  events in order, whose bytes together are the content: the header of an entity, the body of one that is no
      multipart, and what lies between. The line end before a boundary belongs to the boundary (RFC 2046 §5.1.1).
Never: raises for content, more memory than a header and a boundary may take, more than linear work.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

from msgspec import Struct

from ekiden.message.header_fields import fields

# RFC 2045 §5.1   parameter := attribute "=" value;  value := token / quoted-string. Comments may stand anywhere.
_COMMENT = re.compile(rb"\([^()\\]*(?:\\.[^()\\]*)*\)", re.DOTALL)
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.DOTALL)
_TYPE = re.compile(rb'\s*([^\s/;"]+)\s*/\s*([^\s;"]+)')
_STEP_BYTES = 8192
_COMMENTS_DEEP = 8  # nested comments in a field; more of it is nobody's mail


class Limits(Struct, frozen=True):
    header_bytes: int  # header_size_limit
    depth: int  # mime_nesting_limit
    boundary_bytes: int  # mime_boundary_length_limit


class Kind(enum.Enum):
    HEADER = "the header of an entity with its empty line"
    BODY = "a piece of the body of the entity whose header came last"
    BETWEEN = "boundary lines, preambles and epilogues"


class Entity(Struct, eq=False):
    """What the header says of an entity. ``number`` counts them in the order in which they come."""

    number: int
    depth: int
    type: bytes = b"text"
    subtype: bytes = b"plain"
    encoding: bytes = b""  # Content-Transfer-Encoding in lower case; b"" without one
    boundary: bytes = b""  # of a multipart
    has_type: bool = False
    is_message: bool = False  # the header is that of a message, not of a part of one
    parent: Entity | None = None

    @property
    def is_composite(self) -> bool:
        """Entities follow in it: a multipart with a boundary, or an enclosed message that is not encoded."""
        return bool(self.boundary) or self.encloses_message

    @property
    def encloses_message(self) -> bool:
        plain = self.encoding in (b"", b"7bit", b"8bit", b"binary")
        return (self.type, self.subtype) == (b"message", b"rfc822") and plain


class Event(Struct):
    kind: Kind
    entity: Entity
    data: bytes


class MimeParser:
    """``problem`` says what of the structure was beyond a limit; what lies deeper is one body then."""

    __slots__ = ("_boundaries", "_buffer", "_entity", "_in_header", "_limits", "_line_start", "_next", "problem")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = b""
        self._in_header = True
        self._line_start = True  # the buffer begins with a line
        self._boundaries: list[tuple[bytes, Entity]] = []  # of the multiparts that are open, outermost first
        self._entity = Entity(0, 0, is_message=True)
        self._next = 1
        self.problem = ""

    def feed(self, data: bytes) -> Iterator[Event]:
        # Each event copies what is left of the buffer: a short one keeps the work linear, however small the parts are.
        for at in range(0, len(data), _STEP_BYTES):
            self._buffer += data[at : at + _STEP_BYTES]
            yield from self._run(last=False)

    def finish(self) -> Iterator[Event]:
        yield from self._run(last=True)

    def _run(self, *, last: bool) -> Iterator[Event]:
        while self._buffer or (last and self._in_header):
            if self._in_header:
                event = self._header(last=last)
                if event is None:
                    return
                yield event
                continue
            events = self._body(last=last)
            if events is None:
                return
            yield from events

    # -- headers

    def _header(self, *, last: bool) -> Event | None:
        buffer, limit = self._buffer, self._limits.header_bytes
        if buffer.startswith(b"\r\n"):
            end, complete = 2, True
        else:
            found = buffer.find(b"\r\n\r\n", 0, limit + 4)
            end, complete = found + 4, found >= 0
        # A part may end in its header: a boundary line ends it, too.
        cut = self._boundary_in(buffer, end if complete else min(len(buffer), limit), last=last)
        if cut is not None and (not complete or cut < end):
            end, complete = cut, True
        if not complete:
            if len(buffer) > limit:
                end = limit
                self.problem = self.problem or "message header length exceeds safety limit"
            elif last:
                end = len(buffer)
            else:
                return None
        header, self._buffer = buffer[:end], buffer[end:]
        self._in_header = False
        self._line_start = end != limit or header.endswith(b"\r\n")
        entity = self._entity
        read_fields(header, entity)
        if entity.is_composite and entity.depth >= self._limits.depth:
            self.problem = self.problem or "MIME nesting exceeds safety limit"
            entity.type, entity.subtype, entity.boundary = b"application", b"octet-stream", b""
        event = Event(Kind.HEADER, entity, header)
        if entity.encloses_message:
            self._begin(entity, is_message=True)
        elif entity.boundary:
            self._boundaries.append((entity.boundary[: self._limits.boundary_bytes], entity))
        return event

    def _begin(self, parent: Entity, *, is_message: bool) -> None:
        self._entity = Entity(self._next, parent.depth + 1, is_message=is_message, parent=parent)
        if not is_message and parent.subtype == b"digest":  # RFC 2046 §5.1.5
            self._entity.type, self._entity.subtype = b"message", b"rfc822"
        self._next += 1
        self._in_header = True

    # -- bodies

    def _boundary_in(self, buffer: bytes, end: int, *, last: bool) -> int | None:
        """Where in the first ``end`` bytes, which begin a line, a whole boundary line begins."""
        if not self._boundaries:
            return None
        at = 0 if buffer.startswith(b"--") else buffer.find(b"\r\n--", 0, end) + 2
        while at != 1:
            if (last or buffer.find(b"\r\n", at) >= 0) and self._match(buffer, at) is not None:
                return at
            at = buffer.find(b"\r\n--", at, end) + 2
        return None

    def _match(self, buffer: bytes, at: int) -> tuple[int, bool, int] | None:
        """The multipart (by its place), whether it is its end, and where the line ends, if a boundary line is there."""
        stop = buffer.find(b"\r\n", at)
        whole = len(buffer) if stop < 0 else stop + 2
        line = buffer[at + 2 : len(buffer) if stop < 0 else stop].rstrip(b" \t")
        limit = self._limits.boundary_bytes
        for place in range(len(self._boundaries) - 1, -1, -1):
            boundary = self._boundaries[place][0]
            if line == boundary:
                return place, False, whole
            if line == boundary + b"--":
                return place, True, whole
            if len(boundary) == limit and line.startswith(boundary):
                return place, line.endswith(b"--"), whole
        return None

    def _body(self, *, last: bool) -> list[Event] | None:
        """Events for what is known of the buffer; None: more is needed to know anything."""
        buffer, events = self._buffer, []
        if not self._boundaries:
            self._buffer = b""
            return [Event(self._kind, self._entity, buffer)]
        at = 0 if self._line_start and buffer.startswith(b"--") else buffer.find(b"\r\n--") + 2
        while at != 1:
            if not last and buffer.find(b"\r\n", at) < 0 and len(buffer) - at <= self._longest_line:
                return self._give(buffer, max(0, at - 2)) if at > 2 else None
            found = self._match(buffer, at)
            if found is not None:
                before = buffer[: max(0, at - 2)] if at else b""
                if before:
                    events.append(Event(self._kind, self._entity, before))
                events.append(self._cross(found, buffer[max(0, at - 2) : found[2]]))
                self._buffer = buffer[found[2] :]
                self._line_start = True
                return events
            at = buffer.find(b"\r\n--", at) + 2
        # The end of the buffer may be the beginning of a boundary line.
        keep = 0
        if not last:
            for size in (3, 2, 1):
                if buffer.endswith(b"\r\n--"[:size]):
                    keep = size
                    break
            if self._line_start and buffer == b"-":
                return None
        return self._give(buffer, len(buffer) - keep) if len(buffer) > keep else None

    @property
    def _longest_line(self) -> int:
        """A line that is longer than this is no boundary line; blanks may stand behind one."""
        return self._limits.boundary_bytes + 1000

    @property
    def _kind(self) -> Kind:
        # What follows the header of a multipart before its first boundary, and what follows its end, is nobody's body.
        return Kind.BETWEEN if self._entity.boundary else Kind.BODY

    def _give(self, buffer: bytes, end: int) -> list[Event]:
        self._buffer = buffer[end:]
        self._line_start = False
        return [Event(self._kind, self._entity, buffer[:end])]

    def _cross(self, found: tuple[int, bool, int], data: bytes) -> Event:
        """A boundary line: the next part begins, or the multipart ends and its epilogue begins."""
        place, is_end, _ = found
        multipart = self._boundaries[place][1]
        if is_end:
            del self._boundaries[place:]
            self._entity = multipart
        else:
            del self._boundaries[place + 1 :]
            self._begin(multipart, is_message=False)
        return Event(Kind.BETWEEN, multipart, data)


def read_fields(header: bytes, entity: Entity) -> None:
    """Take from a header what it says of the entity; the first of several fields of a name counts."""
    seen: set[bytes] = set()
    for field in fields(header):
        name = field.name
        if name in seen or name not in (b"content-type", b"content-transfer-encoding"):
            continue
        seen.add(name)
        value = without_comments(header[field.value : field.end])
        if name == b"content-transfer-encoding":
            entity.encoding = value.strip(b' \t\r\n"').lower()
            continue
        kind = _TYPE.match(value)
        if kind is None:
            continue
        entity.has_type = True
        entity.type, entity.subtype = kind[1].lower(), kind[2].lower()
        if entity.type == b"multipart":
            for parameter in _PARAMETER.finditer(value, kind.end()):
                if parameter[1].lower() == b"boundary":
                    quoted, token = parameter[2], parameter[3]
                    entity.boundary = re.sub(rb"\\(.)|\r?\n", rb"\1", quoted) if quoted is not None else token
                    entity.boundary = entity.boundary.rstrip(b" \t")
                    break


def without_comments(value: bytes) -> bytes:
    """A structured field's value without comments (RFC 5322 §3.2.2); those in quotes are left to the caller's luck."""
    for _ in range(_COMMENTS_DEEP):
        if b"(" not in value or b'"' in value.partition(b"(")[0]:
            break
        value, count = _COMMENT.subn(b" ", value)
        if not count:
            break
    return value

"""The address lists of header fields (RFC 5322 §3.4), read as tolerantly as mail needs it.

In:   the value of a field such as To:, folded or not; or the right-hand side of a rewriting table.
Out:  the mailboxes in it, each with its place in the value, so that one can be replaced and all else stays as it is:
      display names, comments, encoded words, group names, folding.
Never: raises; takes more than linear time; reads more than ``token_limit`` tokens.

RFC 5322 §3.4, with the obsolete forms of §4.4:
    address-list = [address] *("," [address])        address   = mailbox / group
    mailbox      = name-addr / addr-spec             name-addr = [phrase] "<" [route] addr-spec ">"
    group        = phrase ":" [mailbox-list] ";"     route     = 1*("@" domain [","]) ":"
Beyond that, words without an operator between them are addresses of their own (``joe jim`` is two), as they have been
for the mail programs of Unix, and quotes, comments and brackets that are left open end with the value.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ekiden.message.address import Address

# Kinds of tokens. An operator has its own byte for a kind, so these are no bytes that an operator could be.
_ATOM, _QUOTED, _LITERAL = 256, 257, 258
_AT, _DOT, _COMMA, _COLON, _SEMICOLON, _OPEN, _CLOSE, _BANG, _PERCENT, _PAREN = b"@.,:;<>!%)"
# Words do not stand side by side in one address unless one of these is between them.
_BINDING = frozenset((_AT, _DOT, _BANG, _PERCENT, _COLON, _OPEN, _CLOSE, _PAREN))
_IN_LOCAL = frozenset((_ATOM, _QUOTED, _DOT, _BANG, _PERCENT, _AT))
_IN_DOMAIN = frozenset((_ATOM, _DOT, _LITERAL))

# No alternative begins as another one does, so there is one way to read a text. A comment, which may nest, is skipped
# by a loop of our own; a backslash makes the next byte part of its word.
_TOKEN = re.compile(
    rb"[ \t\r\n]+"
    rb'|(?P<quoted>"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))'
    rb"|(?P<literal>\[[^\]\\]*(?:\\.[^\]\\]*)*(?:\]|\\?\Z))"
    rb'|(?P<atom>(?:[^ \t\r\n()<>@,;:\\".\[!%]|\\(?:[^\r\n]|(?=[\r\n]|\Z)))[^ \t\r\n()<>@,;:\\".\[!%]*'
    rb'(?:\\(?:[^\r\n]|(?=[\r\n]|\Z))[^ \t\r\n()<>@,;:\\".\[!%]*)*)'
    rb"|(?P<operator>[<>@,;:.!%)])"
    rb"|(?P<comment>\()",
    re.DOTALL,
)
_COMMENT_STEP = re.compile(rb"[()\\]")
_QUOTED_PAIR = re.compile(rb"\\(.?)", re.DOTALL)
_FOLDING = re.compile(rb"[\r\n]+")


class Mailbox(Struct, frozen=True):
    """One address of a list. It is the bytes from ``start`` to ``end`` of the value, without angle brackets.

    ``has_domain`` tells ``joe@`` (whose domain is empty) from ``joe``. ``bang`` is the place in ``local`` of the first
    ``!`` that was not quoted, ``percent`` of the last such ``%``; -1 where there is none. ``route``: there was a source
    route before it, which ``start`` covers. ``comments`` stand between its words. ``odd``: it holds operators at places
    where nobody knows what they mean. ``follows_word``: an address goes before it without a comma between.
    """

    start: int
    end: int
    local: str
    domain: str
    has_domain: bool
    bang: int = -1
    percent: int = -1
    route: bool = False
    odd: bool = False
    follows_word: bool = False
    comments: bytes = b""

    @property
    def address(self) -> Address:
        return Address(self.local, self.domain)


class AddressList(Struct, frozen=True):
    """``read`` is how far the value was read: its length, or less where ``token_limit`` ended the reading."""

    mailboxes: tuple[Mailbox, ...]
    read: int


class _Token(Struct, frozen=True):
    kind: int
    start: int
    end: int
    text: bytes  # without quotes and backslashes; a literal keeps its brackets


def parse_addresses(value: bytes, *, token_limit: int = 10240) -> AddressList:
    tokens, comments, read = _tokens(value, token_limit)
    closing = _angles(tokens)
    names = _group_names(tokens, closing)
    found: list[Mailbox] = []
    run: list[_Token] = []  # words since the last separator: an address, or the name of what follows
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind in (_COMMA, _SEMICOLON):
            _take(run, comments, found)
            run = []
        elif at in names:
            run = []
        elif at in closing:
            _take(tokens[at + 1 : closing[at]], comments, found, whole=True)
            run = []
            at = closing[at]
        else:
            run.append(token)
        at += 1
    _take(run, comments, found)
    return AddressList(tuple(found), read)


def _tokens(value: bytes, limit: int) -> tuple[list[_Token], list[tuple[int, int, bytes]], int]:
    """The tokens, the places of comments, and where reading ended."""
    tokens: list[_Token] = []
    comments: list[tuple[int, int, bytes]] = []
    at, size = 0, len(value)
    while at < size:
        if len(tokens) + len(comments) >= limit:
            return tokens, comments, at
        match = _TOKEN.match(value, at)
        assert match is not None  # every byte begins one of the alternatives
        kind, end = match.lastgroup, match.end()
        if kind == "comment":
            end = _comment_end(value, at)
            comments.append((at, end, value[at:end]))
        elif kind == "operator":
            tokens.append(_Token(value[at], at, end, match[0]))
        elif kind == "atom":
            # What a backslash holds together is one word, which needs quotes when it is written again.
            text = match[0]
            if b"\\" in text:
                tokens.append(_Token(_QUOTED, at, end, _QUOTED_PAIR.sub(rb"\1", text)))
            else:
                tokens.append(_Token(_ATOM, at, end, text))
        elif kind == "quoted":
            inner = match[0][1:]
            inner = inner[:-1] if inner.endswith(b'"') and not _ends_escaped(inner) else inner
            tokens.append(_Token(_QUOTED, at, end, _QUOTED_PAIR.sub(rb"\1", _FOLDING.sub(b"", inner))))
        elif kind == "literal":
            text = _FOLDING.sub(b"", match[0])
            text = text if text.endswith(b"]") and len(text) > 1 else text + b"]"
            tokens.append(_Token(_LITERAL, at, end, text))
        at = end
    return tokens, comments, size


def _ends_escaped(inner: bytes) -> bool:
    """Whether the quote at the end is one behind a backslash, and so no end."""
    body = inner[:-1]
    return (len(body) - len(body.rstrip(b"\\"))) % 2 == 1


def _comment_end(value: bytes, at: int) -> int:
    """Behind the comment that opens at ``at``; comments nest, and one that is not closed goes to the end."""
    depth = 0
    while (step := _COMMENT_STEP.search(value, at)) is not None:
        byte = value[step.start()]
        at = step.end()
        if byte == 0x5C:  # a backslash
            at += 1
        else:
            depth += 1 if byte == 0x28 else -1
            if depth == 0:
                return at
    return len(value)


def _angles(tokens: Sequence[_Token]) -> dict[int, int]:
    """The index of each ``<`` that has its ``>``, with that one's index."""
    pairs: dict[int, int] = {}
    opened = -1
    for at, token in enumerate(tokens):
        if token.kind == _OPEN:
            opened = at
        elif token.kind == _CLOSE and opened >= 0:
            pairs[opened] = at
            opened = -1
    return pairs


def _group_names(tokens: Sequence[_Token], closing: Mapping[int, int]) -> set[int]:
    """The indexes of the colons that end the name of a group: those that a semicolon follows."""
    ends: set[int] = set()
    colon = inside = -1
    for at, token in enumerate(tokens):
        if at in closing:
            inside = closing[at]
        elif at <= inside:
            continue
        elif token.kind == _COLON:
            colon = at
        elif token.kind == _SEMICOLON and colon >= 0:
            ends.add(colon)
            colon = -1
    return ends


def _take(
    run: Sequence[_Token], comments: list[tuple[int, int, bytes]], found: list[Mailbox], *, whole: bool = False
) -> None:
    """Add the addresses that ``run`` consists of; ``whole``: it stood in angle brackets, and is one."""
    if not run:
        return
    start = run[0].start
    routed = False
    if run[0].kind == _AT:  # RFC 5321 Appendix C: a source route says nothing any more
        colon = max((at for at, token in enumerate(run) if token.kind == _COLON), default=-1)
        run, routed = run[colon + 1 :], colon >= 0
    first = 0
    follows = False
    for at in range(1, len(run) + 1):
        if at < len(run) and (whole or run[at].kind in _BINDING or run[at - 1].kind in _BINDING):
            continue
        words = run[first:at]
        if words:
            found.append(
                _mailbox(words, start if first == 0 else words[0].start, routed and first == 0, follows, comments)
            )
        first, follows = at, True


def _mailbox(
    words: Sequence[_Token], start: int, routed: bool, follows: bool, comments: list[tuple[int, int, bytes]]
) -> Mailbox:
    at = max((index for index, word in enumerate(words) if word.kind == _AT), default=len(words))
    local, domain = words[:at], words[at + 1 :]
    bang = percent = -1
    size = 0
    texts: list[str] = []
    for word in local:
        if word.kind == _BANG and bang < 0:
            bang = size
        elif word.kind == _PERCENT:
            percent = size
        texts.append(word.text.decode("utf-8", "surrogateescape"))
        size += len(texts[-1])
    return Mailbox(
        start=start,
        end=words[-1].end,
        local="".join(texts),
        domain=b"".join(word.text for word in domain).decode("utf-8", "surrogateescape"),
        has_domain=at < len(words),
        bang=bang,
        percent=percent,
        route=routed,
        odd=not all(word.kind in _IN_LOCAL for word in local) or not all(word.kind in _IN_DOMAIN for word in domain),
        follows_word=follows,
        comments=b" ".join(text for at, end, text in _between(comments, start, words[-1].end)),
    )


def _between(comments: list[tuple[int, int, bytes]], start: int, end: int) -> list[tuple[int, int, bytes]]:
    first = bisect.bisect_left(comments, (start,))
    return comments[first : bisect.bisect_left(comments, (end,))]

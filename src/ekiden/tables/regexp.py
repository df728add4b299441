"""POSIX regular expressions, extended and basic (regex(7)), with the extensions that GNU systems have, as Python's.

The flags of regexp_table(5): ``i`` tells large letters from small, ``m`` gives newlines a meaning, ``x`` is the basic
language. POSIX takes the longest of several ways to match, Python the first: whether a text matches is the same,
what ``$1`` took may differ where alternatives begin alike.
"""

from __future__ import annotations

import re

from ekiden.tables.dialect import CLASSES, Dialect, Pattern, PatternProblem, literal

_MOST_REPEATS = 32767
_DEEPEST = 50

_WORD = f"[{CLASSES['word']}]"
_ESCAPES = {
    "w": _WORD,
    "W": f"[^{CLASSES['word']}]",
    "s": f"[{CLASSES['space']}]",
    "S": f"[^{CLASSES['space']}]",
    "b": r"\b",
    "B": r"\B",
    "<": r"\b(?=\w)",
    ">": r"\b(?<=\w)",
    "`": r"\A",
    "'": r"\Z",
}
_ANCHORS = frozenset("bB<>`'")
_BAD_REPEAT = "Invalid preceding regular expression"
_BOUNDS = re.compile(r"([0-9]*)(,([0-9]*))?")


class _Translator:
    """One pattern. Tokens are single characters, or in the basic language backslash and character for operators."""

    def __init__(self, source: str, *, extended: bool, newline: bool) -> None:
        self._source, self._extended, self._newline = source, extended, newline
        self._at = 0
        self._groups = 0
        self._closed: set[int] = set()

    def translated(self) -> str:
        text = self._alternatives(0)
        if self._at < len(self._source):
            raise PatternProblem("Unmatched ) or \\)")
        return text

    @property
    def groups(self) -> int:
        return self._groups

    def _operator(self, char: str) -> bool:
        """Whether the operator ``char`` stands here."""
        return self._source.startswith(char if self._extended else f"\\{char}", self._at)

    def _skip_operator(self) -> None:
        self._at += 1 if self._extended else 2

    def _alternatives(self, depth: int) -> str:
        if depth > _DEEPEST:
            raise PatternProblem("Regular expression too big")
        branches = [self._branch(depth)]
        while self._operator("|"):
            self._skip_operator()
            branches.append(self._branch(depth))
        return "|".join(branches)

    def _branch(self, depth: int) -> str:
        pieces: list[str] = []
        anchored = True  # nothing yet that could be repeated
        while self._at < len(self._source) and not self._operator("|"):
            if self._operator(")"):
                if depth or not self._extended:
                    break
                self._at += 1  # one too many stands for itself
                atom, anchored = r"\)", False
            else:
                atom, anchored = self._atom(depth, anchored)
            pieces.append(atom if anchored else self._repeated(atom))
        return "".join(pieces)

    def _atom(self, depth: int, first: bool) -> tuple[str, bool]:
        """One atom, and whether it is an anchor, behind which nothing can be repeated."""
        char = self._source[self._at]
        if self._operator("("):
            self._skip_operator()
            self._groups += 1
            number = self._groups
            inner = self._alternatives(depth + 1)
            if not self._operator(")"):
                raise PatternProblem("Unmatched ( or \\(")
            self._skip_operator()
            self._closed.add(number)
            return f"({inner})", False
        if char == "\\":
            return self._escape()
        self._at += 1
        if char == "[":
            return self._set(), False
        if char == ".":
            return (r"[^\n]" if self._newline else "(?s:.)"), False
        if char == "^" and (self._extended or first):
            return ("(?m:^)" if self._newline else r"\A"), True
        if char == "$" and (self._extended or self._at == len(self._source) or self._ends_branch()):
            return ("(?m:$)" if self._newline else r"\Z"), True
        if self._extended and char in "*+?{":
            raise PatternProblem(_BAD_REPEAT)
        return literal(char), False

    def _ends_branch(self) -> bool:
        return self._operator(")") or self._operator("|")

    def _escape(self) -> tuple[str, bool]:
        char = self._source[self._at + 1 : self._at + 2]
        if not char:
            raise PatternProblem("Trailing backslash")
        self._at += 2
        if char in _ESCAPES:
            return _ESCAPES[char], char in _ANCHORS
        if char in "123456789":
            if int(char) not in self._closed:
                raise PatternProblem("Invalid back reference")
            return f"(?:\\{char})", False
        if not self._extended and char == "{":
            raise PatternProblem(_BAD_REPEAT)
        return literal(char), False

    def _repeated(self, atom: str) -> str:
        """The atom with the operators behind it that repeat it."""
        while self._at < len(self._source):
            if self._source[self._at] == "*":
                self._at += 1
                operator = "*"
            elif self._operator("+") or self._operator("?"):
                operator = self._source[self._at if self._extended else self._at + 1]
                self._skip_operator()
            elif self._operator("{"):
                operator = self._bounds()
            else:
                break
            atom = f"(?:{atom}){operator}"
        return atom

    def _bounds(self) -> str:
        self._skip_operator()
        found = _BOUNDS.match(self._source, self._at)
        assert found is not None  # it may be empty
        self._at = found.end()
        if not self._operator("}"):
            raise PatternProblem("Unmatched { or \\{" if self._at >= len(self._source) else "Invalid content of \\{\\}")
        self._skip_operator()
        low, comma, high = found.groups()
        if not low and not comma:
            raise PatternProblem("Invalid content of \\{\\}")
        least = int(low or "0") if len(low) < 6 else _MOST_REPEATS + 1
        most = least if not comma else None if not high else int(high) if len(high) < 6 else _MOST_REPEATS + 1
        if least > _MOST_REPEATS or (most is not None and (most > _MOST_REPEATS or most < least)):
            raise PatternProblem("Invalid content of \\{\\}")
        return f"{{{least},{'' if most is None else most}}}"

    def _set(self) -> str:
        """What stands in brackets; ``_at`` is behind the first."""
        negated = self._source.startswith("^", self._at)
        self._at += negated
        members: list[str] = []
        begin = self._at
        while not self._source.startswith("]", self._at) or self._at == begin:
            member, is_class = self._member()
            if is_class or not self._is_range():
                members.append(member if is_class else literal(member))
                continue
            self._at += 1
            end, is_class = self._member()
            if is_class or ord(end) < ord(member):
                raise PatternProblem("Invalid range end")
            members.append(f"{literal(member)}-{literal(end)}")
        self._at += 1
        newline = r"\n" if negated and self._newline else ""
        return f"[{'^' if negated else ''}{''.join(members)}{newline}]"

    def _is_range(self) -> bool:
        return self._source.startswith("-", self._at) and not self._source.startswith("-]", self._at)

    def _member(self) -> tuple[str, bool]:
        """One character, or a class as members of a set of Python (then True)."""
        if self._at >= len(self._source):
            raise PatternProblem("Unmatched [, [^, [:, [., or [=")
        char, kind = self._source[self._at], self._source[self._at + 1 : self._at + 2]
        if char != "[" or kind not in (":", "=", "."):
            self._at += 1
            return char, False
        end = self._source.find(kind + "]", self._at + 2)
        if not kind or end < 0:
            if not kind:
                raise PatternProblem("Unmatched [, [^, [:, [., or [=")
            self._at += 1
            return char, False
        name = self._source[self._at + 2 : end]
        self._at = end + 2
        if kind == ":":
            if name not in CLASSES or name in ("ascii", "word"):
                raise PatternProblem("Invalid character class name")
            return CLASSES[name], True
        if len(name) != 1:
            raise PatternProblem("Invalid collation character")
        return name, False


def translate(source: str, letters: str) -> Pattern:
    """Raises PatternProblem."""
    extended = letters.count("x") % 2 == 0
    translator = _Translator(source, extended=extended, newline=letters.count("m") % 2 == 1)
    flags = re.ASCII | (re.IGNORECASE if letters.count("i") % 2 == 0 else 0)
    text = translator.translated()
    return Pattern(text, int(flags), {number: number for number in range(1, translator.groups + 1)})


DIALECT = Dialect("regexp", "imx", translate)

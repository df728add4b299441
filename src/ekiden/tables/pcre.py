"""Perl-compatible regular expressions (pcre_table(5), pcre2pattern(3)) as Python's.

The two languages are near relatives; what differs is translated, and what Python cannot do (recursion, callouts, \\G,
\\K, verbs such as (*SKIP), Unicode properties) is a problem of its line. Letters and digits are those of ASCII.

Atomic groups and possessive quantifiers become a look-ahead with a reference to it, which means the same: Python's own
are wrong in some of the versions that this runs on. So groups of ours stand between those that were written, and
Pattern.groups has the numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ekiden.tables.dialect import CLASSES, OTHERS, Dialect, Pattern, PatternProblem, literal

_MOST_REPEATS = 65535
_DEEPEST = 50

_SPACE = " \t\n\r\f\v"
_SETS = {"d": "digit", "w": "word", "s": "space"}
# Horizontal and vertical white space, as members of a set.
_H = r"\t \xa0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000"
_V = r"\n\v\f\r\x85\u2028\u2029"
_CONTROL = {"a": "\a", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ASSERTIONS = {"b": r"\b", "B": r"\B", "A": r"\A", "Z": r"(?=\n?\Z)", "z": r"\Z"}
_QUANTIFIER = re.compile(r"\{([0-9]{1,5})(,([0-9]{0,5}))?\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_OPTIONS = re.compile(r"([imsxU]*)(-([imsxU]+))?([:)])")


@dataclass
class _Shared:
    """What all parts of one pattern have in common."""

    source: str
    at: int = 0
    written: int = 0  # capturing groups as they are written
    atomic: int = 0  # groups of ours
    groups: dict[int, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    references: list[tuple[int, int]] = field(default_factory=list)  # group as written, place in the source


class _Problem(PatternProblem):
    def __init__(self, at: int, text: str) -> None:
        super().__init__(f"error in regex at offset {at}: {text}")


class _Translator:
    """A run of the pattern with options of its own: the whole, or what is inside one group."""

    def __init__(self, shared: _Shared, options: frozenset[str], depth: int) -> None:
        self._shared, self._options, self._depth = shared, options, depth
        if depth > _DEEPEST:
            raise _Problem(shared.at, "parentheses are too deeply nested")

    def alternatives(self) -> list[str]:
        """The branches up to a closing parenthesis or the end. Options set in one branch hold in those behind it."""
        outer = self._options
        branches = [self._branch(outer)]
        while self._next("|"):
            branches.append(self._branch(outer))
        return branches

    def _next(self, text: str) -> bool:
        if self._shared.source.startswith(text, self._shared.at):
            self._shared.at += len(text)
            return True
        return False

    def _branch(self, outer: frozenset[str]) -> str:
        shared = self._shared
        pieces: list[str] = []
        opened = 0
        if self._options != outer:
            pieces.append(_options_group(outer, self._options))
            opened += 1
        while shared.at < len(shared.source) and shared.source[shared.at] not in "|)":
            if "x" in self._options and self._skip_blanks():
                continue
            before = self._options
            atom = self._atom()
            if self._options != before:  # (?i) and the like
                pieces.append(_options_group(before, self._options))
                opened += 1
            elif atom is not None:
                pieces.append(self._repeated(*atom))
        return "".join(pieces) + ")" * opened

    def _skip_blanks(self) -> bool:
        shared = self._shared
        char = shared.source[shared.at]
        if char in _SPACE:
            shared.at += 1
            return True
        if char == "#":
            end = shared.source.find("\n", shared.at)
            shared.at = len(shared.source) if end < 0 else end + 1
            return True
        return False

    def _atom(self) -> tuple[str, bool] | None:
        """An atom and whether it may be repeated; None for a comment or options."""
        shared = self._shared
        start = shared.at
        char = shared.source[start]
        shared.at += 1
        if char == "(":
            return self._group(start)
        if char == "[":
            return self._set(start), True
        if char == "\\":
            return self._escape(start)
        if char == ".":
            return ("(?s:.)" if "s" in self._options else r"[^\n]"), True
        if char == "^":
            return ("(?m:^)" if "m" in self._options else r"\A"), False
        if char == "$":
            if "m" in self._options:
                return "(?m:$)", False
            return (r"\Z" if "E" in self._options else r"(?=\n?\Z)"), False
        if char in "*+?" or (char == "{" and _QUANTIFIER.match(shared.source, start)):
            raise _Problem(start, "quantifier does not follow a repeatable item")
        return literal(char), True

    def _repeated(self, atom: str, repeatable: bool) -> str:
        shared = self._shared
        while "x" in self._options and shared.at < len(shared.source) and self._skip_blanks():
            pass
        start = shared.at
        operator = ""
        if shared.source[start : start + 1] in ("*", "+", "?"):
            operator = shared.source[start]
            shared.at += 1
        elif (found := _QUANTIFIER.match(shared.source, start)) is not None:
            least, comma, most = found.groups()
            if int(least) > _MOST_REPEATS or int(most or least) > _MOST_REPEATS:
                raise _Problem(start, "number too big in {} quantifier")
            if most and int(most) < int(least):
                raise _Problem(start, "numbers out of order in {} quantifier")
            operator = f"{{{least},{most}}}" if comma else f"{{{least}}}"
            shared.at = found.end()
        if not operator:
            return atom
        if not repeatable:
            raise _Problem(start, "quantifier does not follow a repeatable item")
        if self._next("+"):
            return self._atomic(f"(?:{atom}){operator}")
        lazy = self._next("?") is not ("U" in self._options)
        return f"(?:{atom}){operator}{'?' if lazy and operator else ''}"

    def _atomic(self, inner: str) -> str:
        """What matches as ``inner`` does and gives nothing back."""
        self._shared.atomic += 1
        name = f"_atomic{self._shared.atomic}"
        return f"(?=(?P<{name}>{inner}))(?P={name})"

    def _group(self, start: int) -> tuple[str, bool] | None:
        shared = self._shared
        source = shared.source
        if self._next("*"):
            raise _Problem(start, "verbs such as (*SKIP) are not supported")
        if not self._next("?"):
            return self._capture(start, ""), True
        if self._next("#"):
            behind_comment = source.find(")", shared.at) + 1
            if not behind_comment:
                raise _Problem(start, "missing ) after (?# comment")
            shared.at = behind_comment
            return None
        for opening, end in (("P<", ">"), ("'", "'"), ("<", ">")):
            if source.startswith(opening, shared.at) and not source.startswith(("<=", "<!"), shared.at):
                shared.at += len(opening)
                name = self._name(start)
                if not self._next(end):
                    raise _Problem(shared.at, "syntax error in subpattern name")
                return self._capture(start, name), True
        if self._next("P="):
            return self._reference(self._named(start, ")"), start), True
        if self._next(">"):
            return self._atomic_group(), True
        for behind in ("<=", "<!"):
            if self._next(behind):
                return self._behind(behind), True
        for kind in (":", "=", "!"):
            if self._next(kind):
                inner = "|".join(self._inside())
                return f"(?{kind}{inner})", True
        return self._options_or_trouble(start)

    def _options_or_trouble(self, start: int) -> tuple[str, bool] | None:
        shared = self._shared
        found = _OPTIONS.match(shared.source, shared.at)
        if found is None or (not found[1] and not found[2] and found[4] == ")"):
            raise _Problem(start, "this kind of group is not supported (recursion, conditions, branch reset)")
        shared.at = found.end()
        options = (self._options | frozenset(found[1])) - frozenset(found[3] or "")
        if found[4] == ")":
            self._options = options
            return None
        outer, self._options = self._options, options
        inner = "|".join(self._inside())
        self._options = outer
        return f"{_options_group(outer, options)}{inner})", True

    def _inside(self) -> list[str]:
        """The branches of a group up to and with its closing parenthesis."""
        branches = _Translator(self._shared, self._options, self._depth + 1).alternatives()
        if not self._next(")"):
            raise _Problem(len(self._shared.source), "missing closing parenthesis")
        return branches

    def _capture(self, start: int, name: str) -> str:
        shared = self._shared
        shared.written += 1
        number = shared.written
        shared.groups[number] = 0  # it is open: Python's number is known when all is translated
        if name:
            if name in shared.names:
                raise _Problem(start, "two named subpatterns have the same name")
            shared.names[name] = number
        inner = "|".join(self._inside())
        return f"(?P<_group{number}>{inner})"

    def _atomic_group(self) -> str:
        return self._atomic("(?:" + "|".join(self._inside()) + ")")

    def _behind(self, opening: str) -> str:
        """Python looks behind over a fixed width only; alternatives of different widths become assertions each."""
        branches = [f"(?{opening}{branch})" for branch in self._inside()]
        return f"(?:{'|'.join(branches)})" if opening == "<=" else "".join(branches)

    def _name(self, start: int) -> str:
        found = _NAME.match(self._shared.source, self._shared.at)
        if found is None:
            raise _Problem(start, "a subpattern name is expected")
        self._shared.at = found.end()
        return found[0]

    def _named(self, start: int, end: str) -> int:
        name = self._name(start)
        if not self._next(end) or name not in self._shared.names:
            raise _Problem(start, "reference to non-existent subpattern")
        return self._shared.names[name]

    def _reference(self, number: int, start: int) -> str:
        if number not in self._shared.groups:
            raise _Problem(start, "reference to non-existent subpattern")
        return f"(?P=_group{number})"

    def _escape(self, start: int) -> tuple[str, bool] | None:
        shared = self._shared
        char = shared.source[shared.at : shared.at + 1]
        if not char:
            raise _Problem(start + 1, "\\ at end of pattern")
        shared.at += 1
        if char == "Q":
            end = shared.source.find("\\E", shared.at)
            quoted = shared.source[shared.at : end if end >= 0 else len(shared.source)]
            shared.at = end + 2 if end >= 0 else len(shared.source)
            if not quoted:
                return None
            # A quantifier behind it is for the last character.
            head = "".join(map(literal, quoted[:-1]))
            return f"{head}{self._repeated(literal(quoted[-1]), True)}", False
        if char == "E":
            return None
        if char in _ASSERTIONS:
            return _ASSERTIONS[char], False
        if (members := _class_escape(char)) is not None:
            return f"[{members}]", True
        if char == "N":
            return r"[^\n]", True
        if char == "R":
            return r"(?:\r\n|[\n\v\f\r\x85\u2028\u2029])", True
        if char in ("g", "k"):
            return self._reference(self._referred(char, start), start), True
        if char.isdigit() and char != "0":
            digits = re.match(r"[0-9]{1,3}", shared.source[shared.at - 1 :])
            assert digits is not None
            number = int(digits[0])
            if number < 10 or number in shared.groups:
                shared.at += len(digits[0]) - 1
                return self._reference(number, start), True
        return literal(self._character(char, start)), True

    def _referred(self, char: str, start: int) -> int:
        """The group that \\g1, \\g{1}, \\g{-1}, \\g{name}, \\k<name>, \\k'name', \\k{name} mean."""
        shared = self._shared
        for opening, end in (("{", "}"), ("<", ">"), ("'", "'")):
            if (char == "k" or opening == "{") and self._next(opening):
                if char == "g" and (found := re.compile(r"(-?)([0-9]{1,5})\}").match(shared.source, shared.at)):
                    shared.at = found.end()
                    return shared.written + 1 - int(found[2]) if found[1] else int(found[2])
                return self._named(start, end)
        if char == "g" and (found := re.compile(r"(-?)([0-9]{1,5})").match(shared.source, shared.at)):
            shared.at = found.end()
            return shared.written + 1 - int(found[2]) if found[1] else int(found[2])
        raise _Problem(start, "this use of \\g or \\k is not supported")

    def _character(self, char: str, start: int) -> str:
        """The character that an escape stands for, outside of a set or inside; ``_at`` is behind ``char``."""
        shared = self._shared
        if char in _CONTROL:
            return _CONTROL[char]
        if char == "c":
            control = shared.source[shared.at : shared.at + 1]
            if not (" " <= control <= "~"):
                raise _Problem(start, "\\c must be followed by a printable ASCII character")
            shared.at += 1
            return chr(ord(control.upper()) ^ 64)
        forms = {
            "x": (r"\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{0,2})", 16),
            "o": (r"\{([0-7]{1,7})\}()", 8),
        }
        if char in forms or char in "01234567":
            expression, base = forms.get(char, (r"()([0-7]{0,2})", 8))
            found = re.compile(expression).match(shared.source, shared.at)
            if found is None:
                raise _Problem(start, f"\\{char} must be followed by {{digits}}")
            shared.at = found.end()
            digits = found[1] or found[2] or ""
            code = int((char if char in "01234567" else "") + digits or "0", base)
            if code > 0x10FFFF:
                raise _Problem(start, "character code point value in \\x{} or \\o{} is too large")
            return chr(code)
        if char.isascii() and char.isalnum():
            raise _Problem(start, f"\\{char} is not supported, or unrecognized character follows \\")
        return char

    def _set(self, start: int) -> str:
        shared = self._shared
        source = shared.source
        negated = self._next("^")
        members: list[str] = []
        first = True
        while True:
            if shared.at >= len(source):
                raise _Problem(len(source), "missing terminating ] for character class")
            if source[shared.at] == "]" and not first:
                shared.at += 1
                break
            first = False
            low = self._member(start)
            if low is None:
                continue
            members_of_class, char = low
            if (
                char is not None
                and source.startswith("-", shared.at)
                and shared.at + 1 < len(source)
                and source[shared.at + 1] != "]"
            ):
                shared.at += 1
                high = self._member(start)
                end = high[1] if high is not None else None
                if end is None:  # [a-\d]: the hyphen is itself
                    members += [literal(char), r"\-", high[0] if high is not None else ""]
                elif ord(end) < ord(char):
                    raise _Problem(shared.at - 1, "range out of order in character class")
                else:
                    members.append(f"{literal(char)}-{literal(end)}")
                continue
            members.append(members_of_class if char is None else literal(char))
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def _member(self, start: int) -> tuple[str, str | None] | None:
        """A member of a set: (members, None) for a class, ("", char) for a character, None for nothing (\\E)."""
        shared = self._shared
        source = shared.source
        char = source[shared.at]
        if char == "[" and source[shared.at + 1 : shared.at + 2] in (":", ".", "="):
            found = re.compile(r"\[:(\^?)([a-z]+):\]").match(source, shared.at)
            if found is not None:
                if found[2] not in CLASSES:
                    raise _Problem(shared.at, "unknown POSIX class name")
                shared.at = found.end()
                return (OTHERS if found[1] else CLASSES)[found[2]], None
            if re.compile(r"\[([.=])[^\]]*\1\]").match(source, shared.at):
                raise _Problem(shared.at, "POSIX collating elements are not supported")
        shared.at += 1
        if char != "\\":
            return "", char
        char = source[shared.at : shared.at + 1]
        if not char:
            raise _Problem(len(source), "\\ at end of pattern")
        shared.at += 1
        if char == "E":
            return None
        if (members := _class_escape(char)) is not None:
            return members, None
        if char == "b":
            return "", "\b"
        if char in "QNRXBAZz":
            raise _Problem(start, f"\\{char} is not supported in a character class")
        if char in "89":
            return "", char
        return "", self._character(char, start)


def _class_escape(char: str) -> str | None:
    """The members of \\d, \\W, \\h and their like."""
    if char.lower() in _SETS:
        return (CLASSES if char.islower() else OTHERS)[_SETS[char.lower()]]
    return {
        "h": _H,
        "v": _V,
        "H": r"\x00-\x08\n-\x1f!-\x9f\xa1-\u167f\u1681-\u180d\u180f-\u1fff\u200b-\u202e\u2030-\u205e\u2060-\u2fff"
        r"\u3001-\U0010ffff",
        "V": r"\x00-\t\x0e-\x84\x86-\u2027\u202a-\U0010ffff",
    }.get(char)


def _options_group(before: frozenset[str], after: frozenset[str]) -> str:
    """The opening of a group in which the options are changed. What is not Python's concern is translated already."""
    if ("i" in before) is ("i" in after):
        return "(?:"
    return "(?i:" if "i" in after else "(?-i:"


def translate(source: str, letters: str) -> Pattern:
    """Raises PatternProblem."""
    options = frozenset("is")
    for letter in letters:
        options ^= {letter}
    shared = _Shared(source)
    text = "|".join(_Translator(shared, options, 0).alternatives())
    if shared.at < len(source):
        raise _Problem(shared.at, "unmatched closing parenthesis")
    if "A" in options:
        text = rf"\A(?:{text})"
    flags = re.ASCII | (re.IGNORECASE if "i" in options else 0)
    try:
        index = re.compile(text, flags).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternProblem(f"error in regex: Python cannot do this: {error}") from None
    return Pattern(text, int(flags), {number: index[f"_group{number}"] for number in shared.groups})


DIALECT = Dialect("pcre", "imsxAEUX", translate)

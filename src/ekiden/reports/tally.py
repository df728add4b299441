"""Words for what is counted: who said it, how often, and what was said most."""

from __future__ import annotations

from collections import Counter

_NAMES_SHOWN = 3
_WORDS_LIMIT = 20  # of one group: reasons, receivers
_WORD_CHARACTERS = 200


def note(counter: Counter[str], word: str, count: int = 1, limit: int = _WORDS_LIMIT) -> None:
    """Count a word, cut short, unless there are too many others."""
    word = word[:_WORD_CHARACTERS]
    if word in counter or len(counter) < limit:
        counter[word] += count


def many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def by(makers: Counter[str]) -> str:
    names = [name for name, _ in makers.most_common(_NAMES_SHOWN) if name]
    if len(makers) > _NAMES_SHOWN:
        names.append("...")
    return f" ({', '.join(names)})" if names else ""


def first(counter: Counter[str]) -> str:
    return next((word for word, _ in counter.most_common(1)), "")

"""Broken configuration, told to the person who wrote it."""

from __future__ import annotations


class ConfigError(ValueError):
    """Configuration that cannot be used. The text says what is wrong and what would be right.

    ``file`` and ``line`` say where, as far as the reader knows: an empty name and 0 where it does not.
    """

    def __init__(self, text: str, *, file: str = "", line: int = 0) -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(where + text)
        self.text, self.file, self.line = text, file, line

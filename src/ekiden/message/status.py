"""Enhanced mail system status codes (RFC 3463)."""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec import Struct

# RFC 3463 §2   status-code = class "." subject "." detail
#               class = "2"/"4"/"5"      subject = 1*3digit      detail = 1*3digit
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")


class Status(Struct, frozen=True):
    """One enhanced status code, for example ``Status(5, 1, 1)`` for "5.1.1"."""

    klass: int
    subject: int
    detail: int

    @lru_cache(maxsize=1024)  # noqa: B019 - written several times for a message, and always the same few
    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"

    @property
    def is_success(self) -> bool:
        return self.klass == 2

    @property
    def is_temporary(self) -> bool:
        return self.klass == 4

    @property
    def is_permanent(self) -> bool:
        return self.klass == 5

    def with_class(self, klass: int) -> Status:
        """The same subject and detail in another class (a hard error softened, a defer that expired)."""
        return Status(klass, self.subject, self.detail)

    @classmethod
    def parse(cls, text: str) -> Status | None:
        """The status code at the start of ``text``, or None when there is none there."""
        found = _STATUS.match(text)
        if found is None:
            return None
        return cls(int(found[1]), int(found[2]), int(found[3]))


OK = Status(2, 0, 0)

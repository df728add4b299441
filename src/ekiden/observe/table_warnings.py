"""What tables warn of (a line that cannot be used, an index older than its text) as lines of the mail log.

Tables tell it to the logger ``ekiden.tables``, because they are opened in many places that know no observer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ekiden.observe.events import Note, Observer


class _Hearer(logging.Handler):
    def __init__(self, observer: Observer) -> None:
        super().__init__(logging.WARNING)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        self._observer.emit(Note("tables", record.getMessage(), "warning"))


@contextmanager
def table_warnings(observer: Observer) -> Iterator[None]:
    """Inside, the observer hears of them."""
    hearer = _Hearer(observer)
    logger = logging.getLogger("ekiden.tables")
    logger.addHandler(hearer)
    try:
        yield
    finally:
        logger.removeHandler(hearer)

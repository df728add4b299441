"""``@honours("name", ...)``: this test changes these parameters of Postfix and sees what they do.

A parameter that a group of config.parameters declares is claimed to be honoured; tests/unit/test_honoured.py holds the
claim against these marks.
"""

from __future__ import annotations

import pytest


def honours(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.honours(*names)

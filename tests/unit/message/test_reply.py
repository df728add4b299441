from __future__ import annotations

import pytest

from ekiden.message.reply import Reply, Severity, reply


def test_one_line_and_many() -> None:
    assert reply(250, "2.0.0", "Ok").render() == b"250 2.0.0 Ok\r\n"
    assert Reply(250, None, ("mx", "SIZE", "HELP")).render() == b"250-mx\r\n250-SIZE\r\n250 HELP\r\n"


def test_softened() -> None:
    soft = reply(550, "5.1.1", "No such user").softened()
    assert (soft.code, str(soft.status)) == (450, "4.1.1")
    assert reply(250, "2.0.0", "Ok").softened().code == 250


def test_severity_and_text() -> None:
    assert reply(451, "4.3.0", "Later").severity is Severity.TEMPORARY
    assert reply(451, "4.3.0", "Later").text == "451 4.3.0 Later"


def test_a_bad_status_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not an enhanced status code"):
        reply(250, "9.9", "Ok")

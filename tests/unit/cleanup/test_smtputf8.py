"""smtputf8_autodetect_classes: which mail counts as international though nobody asked for SMTPUTF8."""

from __future__ import annotations

import pytest

from ekiden.cleanup.cleanup import Addressed
from ekiden.cleanup.smtputf8 import detects_smtputf8, needs_smtputf8
from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.envelope import Recipient
from support.honours import honours

PLAIN = Addressed(Address("a", "x.example"), (Recipient(Address("b", "y.example")),))
TO_UTF8 = Addressed(Address("a", "x.example"), (Recipient(Address("b\u00f6b", "y.example")),))
FROM_UTF8 = Addressed(Address("\u00e4", "x.example"), ())
HEADER = "Subject: gr\u00fc\u00dfe\r\n".encode()


@honours("smtputf8_autodetect_classes")
@pytest.mark.parametrize(
    ("classes", "enabled", "origin", "found"),
    [
        (None, "yes", "sendmail", True),
        (None, "yes", "smtpd", False),
        (None, "no", "sendmail", False),
        ("all", "yes", "smtpd", True),
        ("smtpd", "yes", "smtpd", True),
        ("smtpd", "yes", "sendmail", False),
        ("", "yes", "sendmail", False),
    ],
)
def test_the_classes(classes: str | None, enabled: str, origin: str, found: bool) -> None:
    settings = {"smtputf8_enable": enabled}
    if classes is not None:
        settings["smtputf8_autodetect_classes"] = classes
    parameters = Parameters(settings)
    assert detects_smtputf8(parameters, origin) is found


def test_what_is_international() -> None:
    for addressed, header in ((PLAIN, HEADER), (TO_UTF8, b""), (FROM_UTF8, b"")):
        assert needs_smtputf8(addressed, header)
    assert not needs_smtputf8(PLAIN, b"Subject: x\r\n")

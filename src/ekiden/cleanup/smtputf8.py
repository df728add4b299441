"""SMTPUTF8 where nobody could ask for it (smtputf8_autodetect_classes): mail that needs it counts as if it had."""

from __future__ import annotations

from ekiden.cleanup.cleanup import Addressed
from ekiden.config.snapshot import Parameters


def detects_smtputf8(parameters: Parameters, origin: str) -> bool:
    """Whether mail of this ``origin`` (sendmail, smtpd) is looked at."""
    classes = parameters.smtputf8_autodetect_classes
    return parameters.smtputf8_enable and (origin in classes or "all" in classes)


def needs_smtputf8(addressed: Addressed, header: bytes) -> bool:
    """Whether a message is international by its addresses or header (RFC 6531 §1.2).

    A header that was never asked about goes on as the 8-bit rubbish that it may be.
    """
    return not (
        header.isascii()
        and str(addressed.sender).isascii()
        and all(str(recipient.address).isascii() for recipient in addressed.recipients)
    )

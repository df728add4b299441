"""One-time codes of an authenticator app (RFC 6238, RFC 4226): the second factor of the console.

In:   the secret of an account in base32, a code, the time.
Out:  which step of time the code was of; whoever accepts it remembers the step, so that no code counts twice.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from urllib.parse import quote, urlencode

STEP_S = 30
DIGITS = 6
_SECRET_BYTES = 20  # RFC 4226 §4, R6
_DRIFT_STEPS = 1  # RFC 6238 §5.2: one step for the way and the clocks


def new_secret() -> str:
    return base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")


def code_at(secret: str, step: int) -> str:
    """Raises ValueError for a secret that is not base32."""
    try:
        key = base64.b32decode(secret)
    except binascii.Error:
        raise ValueError("a TOTP secret that is not base32") from None
    digest = hmac.digest(key, step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15  # RFC 4226 §5.3
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def accepted_step(secret: str, code: str, now_s: float, *, last_step: int = -1) -> int | None:
    """The step that ``code`` is of; None for a wrong one, and for one of ``last_step`` or before (RFC 6238 §5.2)."""
    present = int(now_s // STEP_S)
    found = None
    for step in range(present - _DRIFT_STEPS, present + _DRIFT_STEPS + 1):
        # All are compared, whichever fits.
        if (
            step >= 0
            and hmac.compare_digest(code_at(secret, step).encode(), code.strip().encode("utf-8", "surrogateescape"))
            and step > last_step
        ):
            found = step
    return found


def enrolment_url(secret: str, account: str, issuer: str) -> str:
    """What authenticator apps read from a QR code."""
    query = urlencode({"secret": secret, "issuer": issuer, "digits": DIGITS, "period": STEP_S}, quote_via=quote)
    return f"otpauth://totp/{quote(issuer, safe='')}:{quote(account, safe='@')}?{query}"

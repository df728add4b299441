"""What becomes of a message whose client may not send it: spf_policy (RFC 7208 §8)."""

from __future__ import annotations

from ekiden.auth.verdict import Result, SpfVerdict
from ekiden.message.reply import Refusal, reply


def spf_refusal(verdict: SpfVerdict, spf_policy: str) -> Refusal | None:
    """The answer to RCPT, or None where the message may come."""
    if spf_policy not in ("soft-refuse", "refuse"):
        return None
    if verdict.result is Result.TEMPERROR:
        # RFC 7208 §8.6, RFC 7372 §3.2: X.7.24, SPF validation error.
        return Refusal(reply(451, "4.7.24", f"SPF of {verdict.domain} cannot be checked now"), "spf", verdict.reason)
    if verdict.result is not Result.FAIL:
        return None
    text = f"{verdict.domain} says that this host may not send its mail (SPF)"
    if verdict.explanation:
        # RFC 7208 §6.2: it is to be clear who says that.
        text = f"{text}; {verdict.domain} explains: {verdict.explanation}"
    code = 451 if spf_policy == "soft-refuse" else 550
    # RFC 7208 §8.4, RFC 7372 §3.2: X.7.23, SPF validation failed.
    return Refusal(reply(code, f"{code // 100}.7.23", text), "spf", verdict.reason)

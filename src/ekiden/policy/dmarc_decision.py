"""What becomes of a message that fails DMARC: what its owner asks for, as far as dmarc_policy goes (RFC 9989 §5.4).

In:   the verdict; a reason to let it pass all the same, where there is one.
Out:  a Decision: what is done, and what was the reason not to do what the owner asks for.
"""

from __future__ import annotations

import re

from msgspec import Struct

from ekiden.auth.verdict import DmarcPolicy, DmarcVerdict, Result
from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.message.reply import Refusal, reply
from ekiden.reports.aggregate import OverrideReason

_FIELD = re.compile(r"[!-9;-~]+:[ -~]*")  # RFC 5322 §2.2, on one line


class Decision(Struct, frozen=True):
    """``disposition`` is what was done, for reports; ``reason`` why it is not what the owner asks for."""

    disposition: DmarcPolicy = DmarcPolicy.NONE
    reason: OverrideReason | None = None
    refusal: Refusal | None = None
    hold: str = ""  # the reason to put it on hold
    fields: bytes = b""  # for the header
    words: str = ""  # what was done, for the log


NOTHING = Decision()


class DmarcDecisions:
    """Raises ConfigError when a parameter cannot be used."""

    def __init__(self, parameters: Parameters) -> None:
        self._goes_to = parameters.dmarc_policy
        self._holds = parameters.dmarc_quarantine_action == "hold"
        field = parameters.dmarc_quarantine_header
        if field and _FIELD.fullmatch(field) is None:
            raise ConfigError(f"dmarc_quarantine_header = {field}: must be one header field, such as X-Spam-Flag: YES")
        self._field = f"{field}\r\n".encode() if field else b""

    def decide(self, verdict: DmarcVerdict, override: OverrideReason | None) -> Decision:
        wanted = verdict.policy
        if verdict.result is not Result.FAIL or wanted is DmarcPolicy.NONE:
            return NOTHING
        domain = verdict.from_domain
        if override is not None:
            words = f"{domain} asks to {wanted.value}, passed: {override.type} {override.comment}".rstrip()
            return Decision(reason=override, words=words)
        if self._goes_to == "mark":
            marked = OverrideReason("local_policy", "dmarc_policy = mark")
            return Decision(reason=marked, words=f"{domain} asks to {wanted.value}, only marked")
        if wanted is DmarcPolicy.REJECT and self._goes_to == "refuse":
            text = f"Message rejected: it fails DMARC, and {domain} asks to reject what does"
            # RFC 7372 §3.3: X.7.26, multiple authentication checks failed.
            refusal = Refusal(reply(550, "5.7.26", text), "dmarc", verdict.reason)
            return Decision(DmarcPolicy.REJECT, refusal=refusal, words=f"refused, as {domain} asks")
        softer = OverrideReason("local_policy", "dmarc_policy = quarantine")
        reason = softer if wanted is DmarcPolicy.REJECT else None
        if self._holds:
            hold = f"fails DMARC, and {domain} asks to {wanted.value} what does"
            return Decision(DmarcPolicy.QUARANTINE, reason, hold=hold, words="on hold: " + hold)
        return Decision(DmarcPolicy.QUARANTINE, reason, fields=self._field, words=f"in quarantine, as {domain} asks")

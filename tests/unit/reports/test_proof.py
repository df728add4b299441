"""Whether a report comes from who it says (RFC 9990 §3.5.2)."""

from __future__ import annotations

import pytest

from ekiden.reports.proof import dmarc_proof


@pytest.mark.parametrize(
    ("header", "proof"),
    [
        ("Authentication-Results: mx.test; spf=pass smtp.mailfrom=a.test; dmarc=pass header.from=a.test", True),
        ("Authentication-Results: mx.test;\r\n dmarc=fail header.from=a.test", False),
        ("AUTHENTICATION-RESULTS: MX.test; dmarc=temperror header.from=a.test", False),
        ("Authentication-Results: mx.test; dmarc=fail\r\nAuthentication-Results: mx.test; dmarc=pass", False),
        ("Authentication-Results: mx.other; dmarc=pass\r\nAuthentication-Results: mx.test; dmarc=fail", False),
        ("Authentication-Results: mx.test; spf=pass", None),
        ("Authentication-Results: mx.test; none", None),
        ("Authentication-Results: mx.test; ;;", None),
        ("Authentication-Results: mx.other; dmarc=pass", None),
        ("Subject: x\r\n\r\nAuthentication-Results: mx.test; dmarc=pass", None),
        ("", None),
    ],
)
def test_our_own_word_counts_and_no_other(header: str, proof: bool | None) -> None:
    assert dmarc_proof(f"From: a@b\r\n{header}\r\nTo: x\r\n\r\nText\r\n".encode(), "mx.test") is proof

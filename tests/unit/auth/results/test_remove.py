"""Nobody but us says what we found: fields in our name are removed, those of others stay (RFC 8601 §5)."""

from __future__ import annotations

import time

import pytest

from ekiden.auth.results.remove import without_own

BEFORE = b"Received: from x\r\n\tby y\r\n"
AFTER = b"Subject: Authentication-Results: mx.example.com; none\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.example.com; dmarc=pass header.from=bank.test",
        b"authentication-RESULTS: MX.Example.COM; none",
        b"Authentication-Results :mx.example.com;none",
        b"Authentication-Results:\r\n mx.example.com;\r\n spf=pass",
        b"Authentication-Results: (other.test; (x) \\)) mx.example.com (y) 1; spf=pass",
        b'Authentication-Results: "mx.example.com"; spf=pass',
        b'Authentication-Results: "mx.\\example.com" 1; spf=pass',
        b"Authentication-Results: mx.example.com.; spf=pass",
        b"Authentication-Results: mx.example.com 2; spf=pass",
        b"Authentication-Results: mx.example.com; spf=((( never read",
        b"Authentication-Results: mx.example.com",
        # These cannot be read, but somebody may see our name in them.
        b"Authentication-Results: ; mx.example.com; spf=pass",
        b"Authentication-Results: (mx.example.com; spf=pass",
        b'Authentication-Results: "mx.example.com; spf=pass',
        b"Authentication-Results: other.test mx.example.com; spf=pass",
        b"Authentication-Results: mx.\r\n example.com; spf=pass",
        b"Authentication-Results: mx.(x)example.com; spf=pass",
        b"Authentication-Results: mx.\x00example.com; spf=pass",
        b"Authentication-Results: =?utf-8?b?bXguZXhhbXBsZS5jb20=?=; spf=pass",
        b"Authentication-Results: i=1; mx.example.com; spf=pass",
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_ours_are_removed(field: bytes, end: bytes) -> None:
    field = field.replace(b"\r\n", end) + end
    assert without_own(BEFORE + field + AFTER, "mx.example.com") == BEFORE + AFTER
    assert without_own(field + field + BEFORE + field, "MX.example.com") == BEFORE
    assert without_own(field.removesuffix(end), "mx.example.com") == b""


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: other.test; spf=pass smtp.mailfrom=mx.example.com\r\n",
        b"Authentication-Results: mx.example.com.other.test; spf=pass\r\n",
        b"Authentication-Results: (mx.example.com) other.test (mx.example.com); none\r\n",
        b"Authentication-Results: other.test; broken ( mx.example.com\r\n",
        b"Authentication-Results: spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=x.test\r\n",
        b"X-Authentication-Results: mx.example.com; none\r\n",
        b"ARC-Authentication-Results: i=1; mx.example.com; none\r\n",
        b"Subject: x\r\n Authentication-Results: mx.example.com; none\r\n",
        b"Authentication-Results-Original: mx.example.com; none\r\n",
    ],
)
def test_those_of_others_stay(field: bytes) -> None:
    header = BEFORE + field + AFTER
    assert without_own(header, "mx.example.com") == header


@pytest.mark.parametrize("ours", ["b\u00fccher.example", "xn--bcher-kva.example"])
@pytest.mark.parametrize("claimed", ["b\u00fccher.example", "XN--bcher-kva.example", "B\u00dcCHER.example"])
def test_names_in_u_labels_and_a_labels_are_the_same(ours: str, claimed: str) -> None:
    # RFC 8601 §5: the test is done after converting A-labels into U-labels.
    assert without_own(f"Authentication-Results: {claimed}; spf=pass\r\n".encode(), ours) == b""
    assert without_own(f"Authentication-Results: ( {claimed}; spf=pass\r\n".encode(), ours) == b""


@pytest.mark.parametrize(
    "unit",
    [
        *(b"(", b"(\\(", b'"', b"\\", b"\r\n ", b"mx.", b"(x)"),
        *(b"\r\nAuthentication-Results: mx.example.com; none", b"\r\nAuthentication-Results: other.test; none"),
    ],
)
def test_removal_is_linear(unit: bytes) -> None:
    def seconds(size: int) -> float:
        header = b"Authentication-Results: " + unit * (size // len(unit)) + b"\r\n"
        began = time.process_time()
        without_own(header, "mx.example.com")
        return time.process_time() - began

    assert seconds(400_000) < 100 * seconds(40_000) + 0.5

"""Any address is rewritten to one that leads back to it, or refused; any local part is reversed, or refused."""

from __future__ import annotations

from contextlib import suppress

from ekiden.auth.srs import LOCAL_OCTETS, Srs, SrsError, SrsFlaw
from ekiden.message.address import Address

_NOW = 1_790_000_000.0
_SRS = Srs([b"secret", b"older"], "fwd.test", local_limit=0)
_SHORT = Srs([b"secret"], "fwd.test")

SEEDS = [
    b"user@x.test",
    b"SRS0=7kZ9=AB=x.test=user@first.test",
    b"SRS1=7kZ9=first.test==HHHH=TT=x.test=user@second.test",
    b"srs1+abcd=first.test=-HHHH=TT=x.test=a=b+c@[192.0.2.1]",
    b"SRS0-=====@a.test",
    "bücher@bücher.test".encode(),
]


def one_input(data: bytes) -> None:
    local, _, domain = data.decode("utf-8", "surrogateescape").rpartition("@")
    sender = Address(local, domain)
    ours = _forward(_SRS, sender, SrsFlaw.UNUSABLE)
    if ours is not None and ours != sender:
        assert ours.domain == "fwd.test"
        back = _SRS.reverse(ours, _NOW)
        if not back.local.startswith("SRS0"):
            assert back.local == local
        short = _forward(_SHORT, sender, SrsFlaw.TOO_LONG)
        assert (short is None) is (len(ours.local.encode("utf-8", "surrogateescape")) > LOCAL_OCTETS)
    with suppress(SrsError):
        _SRS.reverse(sender, _NOW)


def _forward(srs: Srs, sender: Address, flaw: SrsFlaw) -> Address | None:
    try:
        return srs.forward(sender, _NOW)
    except SrsError as error:
        if error.flaw is flaw:
            return None
        raise

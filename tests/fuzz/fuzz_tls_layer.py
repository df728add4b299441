"""Bytes of a client before, in and behind a handshake, in any chunking, are plaintext or TlsFailure, and nothing else.

The first byte chooses whether the handshake is done before the rest comes, and the size of the pieces. What was not
encrypted with the keys of the handshake never comes out as plaintext, except what it was done for.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from ekiden.tls.layer import TlsFailure
from support.certificates import self_signed
from support.tls_peers import Meeting, Service, client_context

# A client's first words, for TLS 1.2 and 1.3, with a server name and the offer of tickets.
_HELLO = bytes.fromhex(
    "1603010200010001fc03038834b885871c0a676d4bc4b61bd1435a8c80ac393ebd3f36ebb6a0a50cb4d49c20b1a371cc3eb1"
    "a33d15a23dee3afb3ff7cb87712a40fbf59367876f89b2da8e12003e130213031301c02cc030009fcca9cca8ccaac02bc02f"
    "009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010001750000000c000a"
    "0000076d782e74657374000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016"
    "000000170000000d002a0028040305030603080708080809080a080b08040805080604010501060103030301030204020502"
    "0602002b0009080304030303020301002d00020101003300260024001d0020614d17343670947ec01dca940b19aec282ee30"
    "31a543585e98e6437b50f8cf21001500c8"
) + bytes(200)
SEEDS = [
    bytes([mode]) + data
    for mode in (0, 1, 14, 15)
    for data in (
        _HELLO,
        b"EHLO client.example\r\n",
        b"\x17\x03\x03\x00\x20" + bytes(32),
        b"\x16\x03\x03\x00\x04\x18\x00\x00\x00",
        b"\x15\x03\x03\x00\x02\x01\x00",
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + bytes(64),
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(35),
    )
]

_directory = Path(tempfile.mkdtemp(prefix="ekiden-fuzz-"))
atexit.register(shutil.rmtree, _directory, ignore_errors=True)
_certificate, _key = self_signed("mx.test").write(_directory, "server")
_service = Service({"smtpd_tls_cert_file": str(_certificate), "smtpd_tls_key_file": str(_key)})
_client = client_context()


def one_input(data: bytes) -> None:
    if not data:
        return
    mode, rest = data[0], data[1:]
    layer = _service.tls.layer()
    assert layer is not None
    if mode % 2:
        meeting = Meeting(layer, _client, "mx.test", None)
        assert meeting.say(b"x") == b"x"
    problem = "said"
    size = 1 + (mode // 2) * 97 if mode >= 14 else len(rest) or 1
    try:
        for at in range(0, len(rest), size):
            piece = rest[at : at + size]
            if layer.done:
                assert layer.receive(piece) == b""
            elif layer.handshake(piece):
                raise AssertionError("a handshake without the client's keys")
            assert len(layer.take_output()) < 70_000
    except TlsFailure as failure:
        problem = str(failure)
    assert problem
    assert "\n" not in problem
    layer.close()

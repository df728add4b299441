"""Any text is a stored password that its own text does not open by chance, or a told problem that does not show it."""

from __future__ import annotations

from ekiden.sasl.password_hash import SchemeTrouble, parse_stored

SEEDS = [
    b"{SSHA512}LDx3ZlhrQUN4E8JU0omKtxaFzV7ZZypAjzzVqgrYIKFWo3H+PtvJducbkIRugzVFg6lNZinIASaga4yflsRIs+sF5BI=",
    b"{SCRAM-SHA-256}4096,LZrcLZFa6/cJqSdZgO2p6g==,hJOQmPATox9bnCSLy1qp2vKnan+ixVKaA/F20k+7QkY=,"
    b"7Kp52bJ+JbXUGviOGFJQZYxuGqh6AO+1sLH6PHf0k8M=",
    b"{BLF-CRYPT}$2y$05$RvujgqXDFxZ7I2VmG2oW7.TaQDU1FX/lts54sDv2nOLT7R./jvz8u",
    b"$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
    b"{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$riznhAFwOmyHjIIRRITK9w$a4pv/jGTxG99oJDU2+02b07laYayzNQj+XclOq0ci48",
    b"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    b"!locked",
]
_QUICK = frozenset({"locked", "ssha", "ssha256", "ssha512", "sha", "sha256", "sha512"})


def check_told(told: str) -> None:
    assert len(told) < 200


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse_stored(text)
    except SchemeTrouble as trouble:
        check_told(str(trouble))
        return
    assert found.scheme != "plain" or found.plain is not None
    if found.scheme in _QUICK:
        assert not found.fits(text)
        assert not found.fits("")

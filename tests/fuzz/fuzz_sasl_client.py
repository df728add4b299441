"""Whatever a server challenges, a mechanism answers in bytes or gives up, ends, and never says the password in clear.

The input's parts, separated by ``|``, are the challenges of one exchange, for each mechanism in turn. SCRAM is complete
only when the server has shown that it knows the password, which no input does.
"""

from __future__ import annotations

from ekiden.protocol.smtp.client_login import LoginProblem
from ekiden.sasl.client_mechanisms import KNOWN, Channel, Credentials, exchange_of

PASSWORD = "correct horse battery staple"
ROUNDS = 5

SEEDS = [
    b"VXNlcm5hbWU6|UGFzc3dvcmQ6",
    b"<1896.697170952@postoffice.reston.mci.net>",
    b"r=nonce3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096|v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    b"r=nonce,s=QSXCR+Q6sek8bf92,i=4096|e=other-error",
    b"r=nonce1,s=,i=0|v=",
    b"r=noncencence,s=QSXCR+Q6sek8bf92,i=4096|e=other-e6|e=other-e6|e=other-e6|e=other-e6|e=other-errorr-error",
    b"m=x,r=nonce1,s=QSXCR+Q6sek8bf92,i=4096",
    b'{"status":"invalid_token","scope":"x"}||',
    b"||||||",
]


def one_input(data: bytes) -> None:
    challenges = data.split(b"|")[: ROUNDS + 3]
    channel = Channel(bindings={"tls-exporter": b"x" * 32}, has_certificate=True, host="mx.example", port=587)
    for traits in KNOWN:
        exchange = exchange_of(traits.name, Credentials("user", PASSWORD), channel, nonce=lambda: "nonce")
        assert not isinstance(exchange, LoginProblem)
        said = exchange.initial or b""
        answered = 0
        for challenge in challenges:
            answer = exchange.respond(challenge)
            if isinstance(answer, LoginProblem):
                assert answer.text.isprintable()
                assert PASSWORD not in answer.text
                break
            answered += 1
            said += answer
        assert answered <= ROUNDS
        if not traits.plaintext:
            assert PASSWORD.encode() not in said
        if traits.name.startswith("SCRAM"):
            assert not exchange.complete

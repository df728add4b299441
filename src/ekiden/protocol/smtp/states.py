"""The states of an SMTP session on the server's side (RFC 5321 §4.1.4), and the only table of moves between them."""

from __future__ import annotations

import enum

from ekiden.message.reply import Reply, Severity
from ekiden.protocol.smtp.commands import (
    AuthResponse,
    AuthStart,
    Data,
    EndOfChunk,
    EndOfContent,
    Helo,
    Mail,
    Question,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    XClient,
)


class State(enum.IntEnum):
    """An IntEnum because its hash is an integer's: every command looks its move up."""

    CONNECTED = 0  # no HELO yet
    GREETED = 1  # between two transactions (also after a transaction that no HELO preceded)
    SENDER = 2  # MAIL accepted
    RECIPIENTS = 3  # at least one RCPT accepted
    CONTENT = 4  # after 354, until the reply to the end of content
    CLOSED = 5  # nothing more is read
    LOGIN = 6  # after 334, until the exchange of AUTH ends
    CHUNKS = 7  # between two chunks of a message (RFC 3030)
    CHUNK_REFUSED = 8  # a chunk was refused: the rest of the message will be, too


_OPEN = (State.CONNECTED, State.GREETED, State.SENDER, State.RECIPIENTS, State.CHUNKS, State.CHUNK_REFUSED)
_RECEIVING = (State.CONTENT, State.RECIPIENTS, State.CHUNKS, State.CHUNK_REFUSED)
_ANSWERED = (Severity.OK, Severity.TEMPORARY, Severity.PERMANENT)
_REFUSED = (Severity.TEMPORARY, Severity.PERMANENT)

# What is not in the table does not move: a refused command leaves all as it was (RFC 5321 §4.1.4).
TRANSITIONS: dict[tuple[State, type[Question], int], State] = {
    # RFC 5321 §4.1.4: an EHLO in the middle of a session resets it as RSET does.
    **{(state, Helo, Severity.OK): State.GREETED for state in _OPEN},
    # RFC 3207 §4.2: with the handshake all that was said before is forgotten.
    **{(state, StartTls, Severity.OK): State.CONNECTED for state in _OPEN},
    # RFC 4954 §4: between two transactions; succeeded, failed or cancelled, an exchange leads back there.
    (State.GREETED, AuthStart, Severity.MORE): State.LOGIN,
    (State.LOGIN, AuthResponse, Severity.OK): State.GREETED,
    (State.LOGIN, AuthResponse, Severity.TEMPORARY): State.GREETED,
    (State.LOGIN, AuthResponse, Severity.PERMANENT): State.GREETED,
    (State.CONNECTED, Mail, Severity.OK): State.SENDER,
    (State.GREETED, Mail, Severity.OK): State.SENDER,
    (State.SENDER, Rcpt, Severity.OK): State.RECIPIENTS,
    (State.RECIPIENTS, Rcpt, Severity.OK): State.RECIPIENTS,
    (State.RECIPIENTS, Data, Severity.MORE): State.CONTENT,
    # Accepted or not, the end of content ends the transaction (RFC 5321 §4.1.1.4).
    # That of the last chunk comes while the state is still that before the chunk.
    **{(state, EndOfContent, severity): State.GREETED for state in _RECEIVING for severity in _ANSWERED},
    (State.RECIPIENTS, EndOfChunk, Severity.OK): State.CHUNKS,
    # RFC 3030 §2: a message that lost a chunk cannot go on.
    **{
        (state, EndOfChunk, severity): State.CHUNK_REFUSED
        for state in (State.RECIPIENTS, State.CHUNKS)
        for severity in _REFUSED
    },
    **{(state, Rset, Severity.OK): State.GREETED for state in _OPEN if state is not State.CONNECTED},
    # The session of another client begins, with a greeting.
    (State.GREETED, XClient, Severity.OK): State.CONNECTED,
    **{(state, Quit, Severity.OK): State.CLOSED for state in _OPEN},
}


def next_state(state: State, question: type[Question], reply: Reply) -> State:
    """Where ``reply`` to a question of this type leads. A reply that closes, and any 421 (RFC 5321 §3.8), ends all."""
    if reply.closes or reply.code == 421:
        return State.CLOSED
    return TRANSITIONS.get((state, question, reply.code // 100), state)

"""The tables of verbs and moves, exhaustively."""

from __future__ import annotations

import typing

import pytest

from ekiden.message.address import Address
from ekiden.message.reply import Reply, reply
from ekiden.protocol.smtp import commands
from ekiden.protocol.smtp.commands import (
    AuthResponse,
    AuthStart,
    Data,
    EndOfChunk,
    EndOfContent,
    Helo,
    Invalid,
    Mail,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    XClient,
)
from ekiden.protocol.smtp.limits import Limits
from ekiden.protocol.smtp.states import State, next_state
from ekiden.protocol.smtp.verbs import FOREIGN, NOT_IMPLEMENTED, OUT_OF_ORDER, VERBS, Encryption, Rules

QUESTIONS = typing.get_args(commands.Question)
CODES = (250, 354, 450, 550)
BETWEEN = (State.CONNECTED, State.GREETED)
ENVELOPE = (State.SENDER, State.RECIPIENTS)
CHUNKS = (State.CHUNKS, State.CHUNK_REFUSED)
OPEN = (*BETWEEN, *ENVELOPE, *CHUNKS)


def expected(state: State, question: type, code: int) -> State:
    """The moves once more, written as a reader of RFC 5321 §4.1.4 would say them."""
    if state in OPEN and code == 250:
        if question is Helo:
            return State.GREETED
        if question is Quit:
            return State.CLOSED
        if question is StartTls:
            return State.CONNECTED
        if question is Rset and state is not State.CONNECTED:
            return State.GREETED
        if question is XClient and state is State.GREETED:
            return State.CONNECTED
        if question is Mail and state in BETWEEN:
            return State.SENDER
        if question is Rcpt and state in ENVELOPE:
            return State.RECIPIENTS
    if question is Data and state is State.RECIPIENTS and code == 354:
        return State.CONTENT
    # RFC 4954 §4: an exchange begins between transactions, and leads back there however it ends.
    if question is AuthStart and state is State.GREETED and code == 354:
        return State.LOGIN
    if question is AuthResponse and state is State.LOGIN and code != 354:
        return State.GREETED
    if question is EndOfContent and state in (State.CONTENT, State.RECIPIENTS, *CHUNKS) and code != 354:
        return State.GREETED
    # RFC 3030 §2: chunks follow each other until one is refused.
    if question is EndOfChunk and state in (State.RECIPIENTS, State.CHUNKS) and code != 354:
        return State.CHUNKS if code == 250 else State.CHUNK_REFUSED
    return state


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
def test_every_move(state: State, question: type, code: int) -> None:
    assert next_state(state, question, Reply(code, None, ("x",))) is expected(state, question, code)


@pytest.mark.parametrize("answer", [reply(421, "4.3.2", "x"), reply(550, "5.5.2", "x", closes=True)])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
def test_a_reply_that_closes_ends_the_session_from_everywhere(state: State, question: type, answer: Reply) -> None:
    assert next_state(state, question, answer) is State.CLOSED


def test_each_verb_is_legal_or_has_an_answer_in_every_state_that_reads_commands() -> None:
    rules = Rules(Limits(), 0, False, has_login=True, encryption=Encryption.OFFERED)
    for verb in rules.verbs.values():
        for state in OPEN:
            assert (state in verb.states) is ((verb.name, state) not in OUT_OF_ORDER), (verb.name, state)
        assert verb.states <= set(OPEN)


def test_the_lists_of_verbs_do_not_overlap() -> None:
    assert not VERBS.keys() & NOT_IMPLEMENTED
    assert not (VERBS.keys() | NOT_IMPLEMENTED) & FOREIGN


def test_events_are_values() -> None:
    assert Mail(Address("a", "b.example")) == Mail(Address("a", "b.example"))
    assert Invalid("", reply(500, "5.5.2", "x"), "syntax") == Invalid("", reply(500, "5.5.2", "x"), "syntax")

"""Every reply of a server bears an enhanced status that fits its code and is registered (RFC 2034 §4, RFC 3463 §2)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.message.reply import Reply
from ekiden.message.status import Status
from ekiden.protocol.smtp import server_replies

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "ekiden").rglob("*.py"))

# RFC 3463 §3 and the registry of RFC 5248: the last detail of each subject.
_LAST_DETAIL = {0: 0, 1: 10, 2: 4, 3: 6, 4: 8, 5: 6, 6: 10, 7: 30}


def fits(code: int, status: Status) -> bool:
    return status.klass == code // 100 and status.detail <= _LAST_DETAIL.get(status.subject, -1)


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("reply", "Reply"):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "ekiden")))
def test_replies_in_the_source(path: Path) -> None:
    """Codes that are computed are those of parameters, and bear a status of their class by Status.with_class."""
    for call in calls(path):
        code, status = call.args[:2] if len(call.args) >= 2 else (None, None)
        if not (isinstance(code, ast.Constant) and isinstance(code.value, int) and isinstance(status, ast.Constant)):
            continue
        if status.value is None:
            # RFC 2034 §4: not the greeting, not the answers to HELO, EHLO and LHLO, not 3yz.
            allowed = code.value // 100 == 3 or (code.value in (220, 250) and call.func.id == "Reply")  # type: ignore[attr-defined]
            assert allowed, f"{path}:{call.lineno}"
            continue
        assert isinstance(status.value, str)
        parsed = Status.parse(status.value)
        assert parsed is not None, f"{path}:{call.lineno}"
        assert fits(code.value, parsed), f"{path}:{call.lineno}: {code.value} {status.value}"


def test_the_replies_that_every_server_gives() -> None:
    constants = {name: value for name, value in vars(server_replies).items() if isinstance(value, Reply)}
    assert len(constants) > 40
    for name, answer in constants.items():
        if answer.code // 100 == 3:
            assert answer.status is None, name
        else:
            assert answer.status is not None, name
            assert fits(answer.code, answer.status), name
        assert all(line.isascii() and line.isprintable() and len(line) < 120 for line in answer.lines), name


@pytest.mark.parametrize("answer", [Reply(550, Status(5, 7, 1), ("x",)), Reply(552, Status(5, 3, 4), ("a", "b"))])
def test_every_line_bears_it_and_a_softened_reply_another_class(answer: Reply) -> None:
    for each in (answer, answer.softened()):
        for line in each.render().decode().splitlines():
            assert line[4:].startswith(f"{each.status} ")
        assert each.status is not None
        assert fits(each.code, each.status)

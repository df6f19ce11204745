"""Who catches a driver's error asks whether a signal handler has raised it, of whose statement it then tells."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parents[1] / "sessions"
_DRIVERS = {"sqlite3", "psycopg", "pymysql"}
_KINDS = {"driver_error", "CONNECT_ERRORS", "NoAnswerError"}


def _unasked(source: str) -> Iterator[int]:
    """The lines at which errors of a driver are caught or suppressed, whoever has raised them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type and not _is_call(node.type, "own"):
            kinds: list[ast.expr] = [node.type]
        elif isinstance(node, ast.Call) and _is_call(node, "suppress"):
            kinds = node.args
        else:
            continue
        if any(_is_drivers(part) for kind in kinds for part in ast.walk(kind)):
            yield node.lineno


def _is_call(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _is_drivers(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _DRIVERS | _KINDS
    return isinstance(node, ast.Attribute) and node.attr in _KINDS


def test_no_handlers_error_is_taken_for_a_drivers() -> None:
    files = [path for folder in ("_dialects", "_connections", "_stores") for path in (_PACKAGE / folder).rglob("*.py")]
    assert len(files) > 30
    assert [f"{path}:{line}" for path in files for line in _unasked(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "caught", ["except pymysql.Error:", "except (ValueError, sqlite3.Error) as exc:", "except self.driver_error:"]
)
def test_a_clause_that_does_not_ask_is_found(caught: str) -> None:
    assert list(_unasked(f"try:\n    f()\n{caught}\n    pass")) == [3]


def test_a_suppression_that_does_not_ask_is_found() -> None:
    assert list(_unasked("with suppress(psycopg.errors.QueryCanceled):\n    f()")) == [1]
